"""Messages with images: what is read off the bytes, their key, what they cost, what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import jpeg, png, png_header

from llm_relabel.errors import DataError, RequestRejected
from llm_relabel.images import ImagePart
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.faults import scrub
from llm_relabel.judge.image_limits import check_images
from llm_relabel.judge.image_tokens import message_tokens, most_image_tokens
from llm_relabel.judge.prices import worst_case
from llm_relabel.judge_settings import JudgeMember, Prices
from llm_relabel.prompts import describe_messages, estimated_tokens
from llm_relabel.records import Message, Part, TextPart

TEXT = "What is this? ä 😀"


def image(width: int, height: int, padding: int = 0) -> ImagePart:
    return ImagePart(png_header(width, height, padding))


def showing(*images: ImagePart) -> Message:
    return Message("user", (*images, TextPart(TEXT)))


def key_of(*content: Part | str) -> str:
    request = ChatRequest((Message("user", parts_of(content)),), None)
    return request.sha256(provider="openai", model="toy", base_url=None)


def parts_of(content: tuple[Part | str, ...]) -> list[Part]:
    return [TextPart(part) if isinstance(part, str) else part for part in content]


# The parts


@pytest.mark.parametrize(
    ("data", "media_type", "size"),
    [
        (png(4, 3), "image/png", (4, 3)),
        (png_header(640, 480), "image/png", (640, 480)),
        (jpeg(1024, 768), "image/jpeg", (1024, 768)),
        (jpeg(65535, 1, frame=0xC0), "image/jpeg", (65535, 1)),
    ],
    ids=["png", "large-png", "progressive-jpeg", "jpeg"],
)
def test_type_and_size_are_read_off_the_bytes(
    data: bytes, media_type: str, size: tuple[int, int]
) -> None:
    part = ImagePart(data)
    assert (part.media_type, (part.width, part.height)) == (media_type, size)
    assert len(part.base64) == part.base64_bytes
    assert repr(data)[2:-1] not in repr(part)
    assert str(part) == f"[image {size[0]}x{size[1]}, {media_type}, sha256 {part.sha256}]"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an image of 0 bytes that begins with b'' is neither PNG nor JPEG"),
        (b"GIF89a\1\0\1\0", "begins with b'GIF89a"),
        (b"<svg/>", "is neither PNG nor JPEG; convert it"),
        (png(4, 3)[:20], "calls itself image/png"),
        (png_header(0, 3), "calls itself image/png"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "calls itself image/png"),
        (jpeg(9, 9)[:12], "calls itself image/jpeg"),
        (jpeg(9, 0), "calls itself image/jpeg"),
        (jpeg(9, 9, frame=0xC8), "calls itself image/jpeg"),
        (jpeg(9, 9)[: jpeg(9, 9).index(b"\xff\xc2") + 6], "its header tells no width and height"),
        (b"\xff\xd8\xff\xd9" + bytes(20), "its header tells no width and height"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        ImagePart(data)
    assert says in str(caught.value)
    assert f"{len(data)} bytes" in str(caught.value)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_any_bytes_are_an_image_or_a_data_error(data: bytes, start: bytes) -> None:
    try:
        part = ImagePart(start + data)
    except DataError:
        return
    assert part.width > 0
    assert part.height > 0


def test_only_a_user_shows_images() -> None:
    with pytest.raises(ValueError, match="'system'"):
        Message("system", (image(1, 1),))
    assert Message("system", "a") == Message("system", (TextPart("a"),))


def test_a_prompt_is_shown_with_a_line_for_each_image() -> None:
    first, second = image(640, 480), ImagePart(jpeg(8, 9))
    shown = describe_messages([Message("system", "Look."), showing(first, second)])
    assert shown == f"[system]\nLook.\n\n[user]\n{first}\n{second}\n{TEXT}"
    assert f"[image 640x480, image/png, sha256 {first.sha256}]" in shown


# The key


def test_keys_of_text_are_what_they_always_were() -> None:
    """Written by the version that knew text only: its caches go on serving."""
    request = ChatRequest(
        (
            Message("system", "You label questions."),
            Message("user", "How far is the moon? ä 😀 \u202e \ud800"),
            Message("assistant", "{}"),
            Message("user", 'again\n"q"'),
        ),
        {"type": "object"},
        {"temperature": 0},
        64,
    )
    assert request.sha256(provider="openai", model="toy", base_url=None, repeat=1) == (
        "8298c24783acd7b121b066b9a909994d87f456d38752e56f7f28115ecbf755bf"
    )
    assert request.sha256(provider="anthropic", model="toy", base_url="http://127.0.0.1/v1") == (
        "81f1065bb33f401787f4f4848cf7fb990acf2b9dae33163563c1bc1c0cb54957"
    )


def test_an_image_is_in_the_key_by_its_content() -> None:
    one, same, other = (ImagePart(png(shade=shade)) for shade in (1, 1, 2))
    assert key_of(one, TEXT) == key_of(same, TEXT)
    keys = [
        key_of(TEXT),
        key_of(one, TEXT),
        key_of(other, TEXT),
        key_of(one, other, TEXT),
        key_of(other, one, TEXT),
        key_of(one, one, TEXT),
        key_of(one, TEXT, TEXT),
        # What an image looks like in the key, and for a person, written by somebody into a text.
        key_of(f'{{"image":"{one.sha256}"}}', TEXT),
        key_of(str(one), TEXT),
    ]
    assert len(set(keys)) == len(keys)


# What images cost


def floor_to(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, int(width * scale)), max(1, int(height * scale))


def bill_of_tiles(width: int, height: int, base: int, tile: int) -> int:
    """As OpenAI's guide words it, in whole pixels; never enlarged."""
    if max(width, height) > 2048:
        width, height = floor_to(width, height, 2048 / max(width, height))
    if min(width, height) > 768:
        width, height = floor_to(width, height, 768 / min(width, height))
    return base + tile * -(-width // 512) * -(-height // 512)


def bill_of_patches(width: int, height: int, factor: float) -> int:
    """As OpenAI's guide words it: shrunk by the root, then to whole patches."""
    if -(-width // 32) * -(-height // 32) > 1536:
        scale = math.sqrt(1536 * 32**2 / (width * height))
        across, down = width * scale / 32, height * scale / 32
        scale *= min(max(1, int(across)) / across, max(1, int(down)) / down)
        width, height = floor_to(width, height, scale)
    return math.ceil(min(1536, -(-width // 32) * -(-height // 32)) * factor)


def bill_of_claude(width: int, height: int, side: int, most: int) -> int:
    """As Anthropic's guide words it: shrunk until the side and the number of tokens fit."""
    scale = min(1.0, side / max(width, height))
    while True:
        w, h = floor_to(width, height, scale)
        tokens = -(-w // 28) * -(-h // 28)
        if tokens <= most:
            return tokens
        scale *= 0.99


BILLS = {
    "openai/gpt-4o": [lambda w, h: bill_of_tiles(w, h, 85, 170)],
    "openai/ft:gpt-4o-2024-08-06:me::1": [lambda w, h: bill_of_tiles(w, h, 85, 170)],
    "openai/o1": [lambda w, h: bill_of_tiles(w, h, 75, 150)],
    "openai/gpt-4o-mini": [lambda w, h: bill_of_tiles(w, h, 2833, 5667)],
    "openai/gpt-4.1-mini-2025-04-14": [lambda w, h: bill_of_patches(w, h, 1.62)],
    "openai/gpt-4.1-nano": [lambda w, h: bill_of_patches(w, h, 2.46)],
    "anthropic/claude-x": [
        lambda w, h: bill_of_claude(w, h, 1568, 1568),
        lambda w, h: bill_of_claude(w, h, 2576, 4784),
    ],
}
BILLS["openai/brand-new"] = BILLS["mistral/x"] = [bill for all_ in BILLS.values() for bill in all_]


@pytest.mark.parametrize("model", BILLS)
@given(width=st.integers(1, 9000), height=st.integers(1, 9000))
def test_the_worst_case_is_never_below_the_bill(model: str, width: int, height: int) -> None:
    part, member = image(width, height), JudgeMember(model=model)
    most = most_image_tokens(part, member)
    assert most >= max(bill(width, height) for bill in BILLS[model])
    assert most >= message_tokens([Message("user", (part,))], member)
    assert most <= max(50_000, 258 * width * height / 256**2 + 10_000), "it would stop any cap"


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("anthropic/claude-x", (640, 480), 414),
        ("anthropic/claude-x", (1024, 768), 1036),
        ("anthropic/claude-x", (6000, 6000), 4784),
        ("openai/gpt-4o", (1024, 768), 765),
        ("openai/gpt-4o", (768, 1024), 765),
        ("openai/gpt-4o", (2048, 4096), 1105),
        ("openai/gpt-4o", (400, 300), 255),
        ("openai/gpt-4o-mini", (1024, 768), 25_501),
        ("openai/gpt-4o-mini-2024-07-18", (1024, 768), 25_501),
        ("openai/gpt-4.1-mini", (1024, 1024), math.ceil(1024 * 1.62)),
        ("openai/gpt-4.1-nano", (4000, 4000), math.ceil(1536 * 2.46)),
        ("gemini/gemini-2.5-flash", (300, 300), 258),
        ("gemini/gemini-2.5-flash", (960, 540), 6 * 258),
        ("openai/brand-new", (1024, 768), 25_501),
        ("hf/any", (1024, 768), 0),
    ],
)
def test_estimates_are_the_published_figures(
    model: str, size: tuple[int, int], tokens: int
) -> None:
    member = JudgeMember(model=model)
    estimate = message_tokens([Message("system", TEXT), showing(image(*size))], member)
    assert estimate == pytest.approx(tokens + 2 * estimated_tokens(TEXT))


def test_another_server_under_a_known_name_may_count_otherwise() -> None:
    """A proxy may call anything gpt-4o; the dearest rule is promised there."""
    part = image(1024, 768)
    elsewhere = JudgeMember(model="openai/gpt-4o", base_url="https://llm.example.com/v1")
    assert most_image_tokens(part, JudgeMember(model="openai/gpt-4o")) == 765
    assert most_image_tokens(part, elsewhere) == most_image_tokens(part, None) == 25_501


def test_a_worst_case_counts_each_image_and_no_base64() -> None:
    member, prices = JudgeMember(model="openai/gpt-4o"), Prices(input=1, output=10)
    text = ChatRequest((Message("user", TEXT),), None)
    seen = ChatRequest((showing(image(1024, 768, padding=10**6), image(1024, 768)),), None)
    (plain, plain_cost), (size, cost) = (worst_case(r, prices, member) for r in (text, seen))
    assert 2 * 765 <= size - plain <= 2 * 765 + 100
    assert cost - plain_cost == pytest.approx((size - plain) / 1e6)
    # Nobody says which model: the dearest.
    assert worst_case(seen, prices)[0] >= plain + 2 * 25_501


# What providers refuse


@pytest.mark.parametrize(
    ("provider", "images", "says"),
    [
        ("anthropic", [(8001, 1)], "at most 8,000 pixels a side, and image 1 of 1 has 8,001x1;"),
        ("anthropic", [(9, 9)] * 20 + [(2, 2001)], "more than 20 images, and image 21 of 21 has"),
        ("anthropic", [(9, 9)] * 101, "at most 100 images in a prompt, and this one shows 101;"),
        ("anthropic", [(9, 9), (9, 9, 3_940_000)], "image 2 of 2 has 5,253,380"),
        ("anthropic", [(9, 9, 3_500_000)] * 7, "at most 32,000,000 bytes, and this one has 32,6"),
        ("openai", [(9, 9)] * 501, "at most 500 images in a prompt, and this one shows 501;"),
        ("openai", [(9, 9, 20_000_000)] * 2, "at most 50,000,000 bytes, and this one has 53,33"),
        ("hf", [(9, 9)], "judge reads text only, and the prompt shows 1 image;"),
    ],
)
def test_too_much_is_refused_and_named(
    provider: str, images: list[tuple[int, ...]], says: str
) -> None:
    with pytest.raises(RequestRejected) as caught:
        check_images([showing(*(image(*each) for each in images))], provider, "the judge")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "images"),
    [
        ("anthropic", [(8000, 8000)] * 20),
        ("anthropic", [(2000, 2000)] * 100),
        ("anthropic", [(9, 9, 3_900_000)]),
        ("openai", [(9000, 9000)] * 500),
        ("openai", [(9, 9, 30_000_000)]),
        ("mistral", [(9, 9)] * 700),
        ("hf", []),
    ],
)
def test_what_fits_is_not_refused(provider: str, images: list[tuple[int, ...]]) -> None:
    check_images([showing(*(image(*each) for each in images))], provider, "the judge")


# What a server repeats


def test_an_image_that_a_server_repeats_is_in_no_error() -> None:
    part = ImagePart(png_header(9, 9, 3000))
    echoed = scrub(f"bad 'data:image/png;base64,{part.base64}', sorry", [])
    assert echoed == "bad '[base64]', sorry"
    assert scrub(f"a/{'b' * 150}/c", []) == f"a/{'b' * 150}/c"
