"""What a provider refuses of images, known before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_relabel.errors import RequestRejected
from llm_relabel.records import Message


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """At most `count` images in a request, with at most `side` pixels a side; more than `few`
    images at most `side_of_many`. Bytes are those of base64: of one image, and of the request."""

    count: int
    request_bytes: int
    image_bytes: int | None = None
    side: int | None = None
    few: int | None = None
    side_of_many: int | None = None


LIMITS = {
    # https://platform.claude.com/docs/en/build-with-claude/vision; 600 where the context is
    # longer than 200,000 tokens, which the model's name does not tell.
    "anthropic": ImageLimits(
        count=100, request_bytes=32_000_000, image_bytes=5 * 1024**2, side=8000, few=20,
        side_of_many=2000,
    ),
    # https://platform.openai.com/docs/guides/images-vision
    "openai": ImageLimits(count=500, request_bytes=50_000_000),
    "hf": ImageLimits(count=0, request_bytes=0),
}  # fmt: skip
"""By provider; what litellm's providers refuse, they say themselves."""


def check_images(messages: Sequence[Message], provider: str, who: str) -> None:
    """Raises RequestRejected for images that `provider` would refuse; `who` starts its message."""
    limits = LIMITS.get(provider)
    images = [image for message in messages for image in message.images]
    if limits is None or not images:
        return
    if limits.count == 0:
        raise RequestRejected(
            f"{who} reads text only, and the prompt shows {len(images):,} "
            f"image{'s' if len(images) > 1 else ''}; name a judge of openai/, anthropic/ or "
            "another provider whose model sees images"
        )
    if len(images) > limits.count:
        raise RequestRejected(
            f"{who} takes at most {limits.count:,} images in a prompt, and this one shows "
            f"{len(images):,}; show fewer, or several of them in one"
        )
    many = limits.few is not None and len(images) > limits.few
    side = limits.side_of_many if many else limits.side
    for number, image in enumerate(images, start=1):
        which = f"image {number} of {len(images)}"
        if side is not None and max(image.width, image.height) > side:
            where = f" in prompts of more than {limits.few} images" if many else ""
            raise RequestRejected(
                f"{who} takes images of at most {side:,} pixels a side{where}, and {which} has "
                f"{image.width:,}x{image.height:,}; make it smaller"
            )
        if limits.image_bytes is not None and image.base64_bytes > limits.image_bytes:
            raise RequestRejected(
                f"{who} takes images of at most {limits.image_bytes:,} bytes in base64, and "
                f"{which} has {image.base64_bytes:,}; make it smaller, or compress it more"
            )
    texts = sum(len(message.text.encode("utf-8", "surrogatepass")) for message in messages)
    size = texts + sum(image.base64_bytes for image in images)
    if size > limits.request_bytes:
        raise RequestRejected(
            f"{who} takes requests of at most {limits.request_bytes:,} bytes, and this one has "
            f"{size:,} with its {len(images):,} images in base64; show fewer or smaller ones"
        )
