"""How many tokens an image costs: the providers' own rules, one function each.

They look at width and height only, so a turned image costs the same. What a bill says may lie
below: a capped run promises the most, and is charged what the provider reports.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from llm_relabel.images import ImagePart
from llm_relabel.judge.keys import KEYLESS_PROVIDERS, is_custom
from llm_relabel.judge_settings import JudgeMember
from llm_relabel.prompts import estimated_tokens
from llm_relabel.records import Message

Rule: TypeAlias = Callable[[float, float, bool], int]
"""(width, height, at most) -> tokens; "at most" where the provider's words leave room."""


def _fitted(width: float, height: float, side: float) -> tuple[float, float]:
    """The size after the longer side was brought down to `side`."""
    scale = min(1.0, side / max(width, height))
    return width * scale, height * scale


def _cells(width: float, height: float, side: float) -> int:
    """The squares of this side that cover an image. A hair of rounding opens no new one."""
    return math.ceil(width / side - 1e-9) * math.ceil(height / side - 1e-9)


def claude(width: float, height: float, at_most: bool) -> int:
    """Squares of 28 pixels, at the resolution of the newest models; older ones shrink more.

    https://platform.claude.com/docs/en/build-with-claude/vision; it used to say width x height /
    750, which may be a little more.
    """
    width, height = _fitted(width, height, 2576)
    tokens = _cells(width, height, 28)
    if at_most:
        tokens = max(tokens, math.ceil(width * height / 750))
    return min(4784, tokens)


def tiles(width: float, height: float, at_most: bool, *, base: int, tile: int) -> int:
    """OpenAI's first rule: into a square of 2048, the shorter side to 768, tiles of 512.

    https://platform.openai.com/docs/guides/images-vision; whether a small image is enlarged to
    that, its words leave open.
    """
    width, height = _fitted(width, height, 2048)
    scale = 768 / min(width, height)
    if scale < 1 or at_most:
        # Enlarged no further than the square: a strip has no more tiles than it holds.
        scale = min(scale, 2048 / max(width, height))
        width, height = width * scale, height * scale
    return base + tile * _cells(width, height, 512)


def patches(width: float, height: float, at_most: bool, *, factor: float) -> int:
    """OpenAI's second rule: patches of 32 pixels, shrunk until 1,536 cover the image."""
    del at_most
    return math.ceil(min(1536, _cells(width, height, 32)) * factor)


def gemini(width: float, height: float, at_most: bool) -> int:
    """Google's: 258 tokens a tile; from Gemini 3 on 1,120 an image of high detail.

    https://ai.google.dev/gemini-api/docs/image-understanding
    """
    if max(width, height) <= 384:
        tokens = 258
    else:
        tokens = 258 * _cells(width, height, min(768, max(256, min(width, height) // 1.5)))
    return max(tokens, 1120) if at_most else tokens


_GPT_4O = partial(tiles, base=85, tile=170)
_OPENAI: dict[str, Rule] = {
    **dict.fromkeys(("gpt-4o", "gpt-4.1", "gpt-4.5-preview", "chatgpt-4o-latest"), _GPT_4O),
    **dict.fromkeys(("o1", "o1-pro", "o3"), partial(tiles, base=75, tile=150)),
    "gpt-4o-mini": partial(tiles, base=2833, tile=5667),
    "gpt-4.1-mini": partial(patches, factor=1.62),
    "gpt-4.1-nano": partial(patches, factor=2.46),
    "gpt-5-mini": partial(patches, factor=1.62),
    "gpt-5-nano": partial(patches, factor=2.46),
    "o4-mini": partial(patches, factor=1.72),
}
_ALL: tuple[Rule, ...] = (claude, gemini, *_OPENAI.values())


def _rules(member: JudgeMember | None) -> tuple[Rule, ...]:
    """The rule of a judge's model; all of them where nobody knows."""
    if member is None or is_custom(member):
        return _ALL
    if member.provider in KEYLESS_PROVIDERS:
        return ()
    if member.provider == "anthropic":
        return (claude,)
    if member.provider in ("gemini", "vertex_ai") and "gemini" in member.name:
        return (gemini,)
    if member.provider == "openai":
        # ft:BASE:ORG::ID is billed as BASE, and BASE-2024-08-06 too.
        name = member.name.removeprefix("ft:").partition(":")[0]
        rule = _OPENAI.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", name))
        if rule is not None:
            return (rule,)
    return _ALL


def _dearest(image: ImagePart, member: JudgeMember | None, *, at_most: bool) -> int:
    found = (rule(image.width, image.height, at_most) for rule in _rules(member))
    return max(found, default=0)


def most_image_tokens(image: ImagePart, member: JudgeMember | None) -> int:
    """The most input tokens that an image can be billed at; None: by a model nobody knows."""
    return _dearest(image, member, at_most=True)


def message_tokens(messages: Iterable[Message], member: JudgeMember) -> float:
    """About how many input tokens messages have at a judge, their images included.

    Where the model's rule is not known the dearest one counts.
    """
    return sum(
        estimated_tokens(message.text)
        + sum(_dearest(image, member, at_most=False) for image in message.images)
        for message in messages
    )
