"""Judges that are shown images, on the wire and in batches: the real SDKs, the cache, the bill."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pytest
from batch_client import QUICK
from batch_server import BatchServer
from loopback import ANTHROPIC, IMAGE_TOKENS, OPENAI, Fault, LoopbackServer, Received
from pictures import jpeg, png, png_header

from llm_relabel.definitions import load_definitions
from llm_relabel.errors import Paused, RequestRejected
from llm_relabel.images import ImagePart
from llm_relabel.judge.batch import BatchJudge
from llm_relabel.judge.budget import Budget
from llm_relabel.judge.cache import VerdictCache
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.llm import LLMJudge
from llm_relabel.judge.prices import worst_case
from llm_relabel.judge.providers import open_batch_api, open_provider
from llm_relabel.judge_settings import JudgeMember, Prices
from llm_relabel.prompts import PromptBuilder
from llm_relabel.records import Ask, Item, LabelValue, Message, TextPart, Verdict
from llm_relabel.tasks.classification import Classification

WIRES = (OPENAI, ANTHROPIC)
PRICES = Prices(input=100, output=400)
TASK = Classification(load_definitions({"cat": "A cat.", "dog": "A dog."}), pa.string())
# Large enough to be known again in any file, as bytes and as base64.
FIRST = png(40, 30, 10) + bytes(range(256)) * 3
SECOND = png(40, 30, 11) + bytes(range(256)) * 3

T = TypeVar("T")


def cat(_received: Received) -> dict[str, Any]:
    return {"rationale": "", "label": "cat", "confidence": 0.9}


class Picturing(PromptBuilder):
    """Prompts that show pictures before the text, by the item's id."""

    def __init__(self, pictures: dict[str, list[bytes]]) -> None:
        super().__init__(TASK, schema_in_words=False)
        self.pictures = pictures

    def build(self, item: Item, candidates: Sequence[LabelValue]) -> tuple[Message, ...]:
        system, user = super().build(item, candidates)
        images = [ImagePart(data) for data in self.pictures[item.id]]
        return system, Message("user", (TextPart(user.text), *images))


def member(wire: str, server: LoopbackServer, **keys: Any) -> JudgeMember:
    url = server.anthropic_url if wire == ANTHROPIC else server.openai_url
    return JudgeMember.model_validate({"model": f"{wire}/toy", "base_url": url, **keys})


def ask(item: str) -> Ask:
    return Ask(f"ask-{item}", item, 0, "label", "referenced", ("cat", "dog"), "toy")


def item(name: str) -> Item:
    return Item(name, 0, {"text": "What is it?"})


def with_judge(
    section: JudgeMember,
    pictures: dict[str, list[bytes]],
    use: Callable[[LLMJudge], Awaitable[T]],
    *,
    folder: Path | None = None,
    cap: float | None = None,
) -> T:
    """What `use` makes of a fresh judge, with a cache in `folder`."""

    async def run() -> T:
        cache = None if folder is None else VerdictCache(folder)
        judge = LLMJudge(
            open_provider(section, Path()), section, TASK, Picturing(pictures), name="toy",
            prices=PRICES, cache=cache, budget=Budget(cap),
        )  # fmt: skip
        try:
            return await use(judge)
        finally:
            await judge.aclose()
            if cache is not None:
                cache.close()

    return asyncio.run(run())


def verdict_on(name: str) -> Callable[[LLMJudge], Awaitable[Verdict]]:
    return lambda judge: judge.verdict(ask(name), item(name))


def hidden_in(folder: Path, *images: bytes) -> list[str]:
    """The files under `folder` that hold an image, as bytes or in base64."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    needles = [form for data in images for form in (data[50:90], base64.b64encode(data)[60:120])]
    return [str(path) for path in files if any(n in path.read_bytes() for n in needles)]


@pytest.mark.parametrize("wire", WIRES)
def test_the_bytes_arrive_as_they_are(wire: str) -> None:
    pictures = {"a": [FIRST, jpeg(9, 8), SECOND], "text": []}
    with LoopbackServer(cat) as server:
        section = member(wire, server)
        for name in pictures:
            assert with_judge(section, pictures, verdict_on(name)).outcome == "answer"
        seen, plain = server.requests
    kinds = ["image/png", "image/jpeg", "image/png"]
    assert seen.images == list(zip(kinds, pictures["a"], strict=True))
    [user] = [m for m in seen.body["messages"] if m["role"] == "user"]
    [text] = [m["content"] for m in plain.body["messages"] if m["role"] == "user"]
    assert isinstance(text, str), "without images the wire is what it was"
    if wire == ANTHROPIC:
        assert [part["type"] for part in user["content"]] == ["image"] * 3 + ["text"]
        assert user["content"][0]["source"]["type"] == "base64"
    else:
        assert [part["type"] for part in user["content"]] == ["text"] + ["image_url"] * 3
        assert {part["image_url"]["detail"] for part in user["content"][1:]} == {"high"}
    assert seen.user == plain.user == text


@pytest.mark.parametrize("wire", WIRES)
def test_a_re_ask_shows_the_images_again(wire: str) -> None:
    with LoopbackServer(
        cat, faults=lambda number: Fault(text="{}") if number == 0 else None
    ) as server:
        verdict = with_judge(member(wire, server), {"a": [FIRST]}, verdict_on("a"))
        assert [request.images for request in server.requests] == [[("image/png", FIRST)]] * 2
    assert (verdict.outcome, verdict.calls) == ("answer", 2)


@pytest.mark.parametrize("wire", WIRES)
def test_the_cache_knows_an_image_and_does_not_hold_it(wire: str, tmp_path: Path) -> None:
    with LoopbackServer(cat) as server:
        section = member(wire, server)

        def asked(*images: bytes) -> Verdict:
            return with_judge(section, {"a": [*images]}, verdict_on("a"), folder=tmp_path)

        first, again, other, both = asked(FIRST), asked(FIRST), asked(SECOND), asked(FIRST, SECOND)
        assert [v.cached for v in (first, again, other, both)] == [False, True, False, False]
        assert len(server.requests) == 3
    assert len({first.prompt_sha256, other.prompt_sha256, both.prompt_sha256}) == 3
    assert (again.prompt_sha256, again.cost) == (first.prompt_sha256, 0.0)
    assert hidden_in(tmp_path, FIRST, SECOND) == []


@pytest.mark.parametrize("wire", WIRES)
def test_the_cap_holds_when_images_are_billed_at_their_most(wire: str) -> None:
    """A tall image has the most tiles; the server bills the most that any image has."""
    pictures = {"a": [png_header(768, 2048), png_header(3000, 8000)]}
    with LoopbackServer(cat) as server:
        section = member(wire, server)

        async def promised(judge: LLMJudge) -> float:
            request = judge.question(ask("a"), item("a")).request
            return worst_case(request, PRICES, section)[1]

        worst = with_judge(section, pictures, promised)
        with pytest.raises(Paused, match=r"raise judge\.max_cost"):
            with_judge(section, pictures, verdict_on("a"), cap=worst * 0.999)
        assert server.requests == []
        verdict = with_judge(section, pictures, verdict_on("a"), cap=worst)
    assert verdict.tokens.input > 2 * IMAGE_TOKENS[wire]
    assert verdict.cost is not None
    assert 0 < verdict.cost <= worst


@pytest.mark.parametrize(
    ("wire", "image", "says"),
    [
        (ANTHROPIC, png_header(8001, 5), "has 8,001x5"),
        (OPENAI, png_header(5, 5, 38_000_000), "at most 50,000,000 bytes"),
    ],
)
def test_what_a_provider_would_refuse_is_not_sent(wire: str, image: bytes, says: str) -> None:
    with LoopbackServer(cat) as server:
        verdict = with_judge(member(wire, server), {"a": [image]}, verdict_on("a"), cap=1.0)
        assert server.requests == []
    assert (verdict.outcome, verdict.reason) == ("failed", "refused")
    assert (verdict.calls, verdict.cost) == (0, 0.0)
    assert says in str(verdict.error)


@pytest.mark.parametrize("wire", WIRES)
def test_a_verdict_holds_no_image_that_the_server_repeats(wire: str) -> None:
    def echo(received: Received) -> Fault:
        return Fault(400, f"cannot read {json.dumps(received.body['messages'])}")

    with LoopbackServer(echo) as server:
        verdict = with_judge(member(wire, server), {"a": [FIRST]}, verdict_on("a"))
    assert "cannot read" in str(verdict.error)
    assert base64.b64encode(FIRST)[:40].decode() not in str(verdict.error)


@pytest.mark.parametrize("wire", WIRES)
def test_images_travel_in_batches(
    wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is too large fails alone; the journals name no image."""
    for place, seconds in QUICK.items():
        monkeypatch.setattr(place.replace(":", "."), seconds)
    huge = {OPENAI: png_header(5, 5, 38_000_000), ANTHROPIC: png_header(8001, 5)}[wire]
    pictures = {"a": [FIRST], "b": [SECOND], "huge": [huge]}
    run = tmp_path / "run"
    with BatchServer(cat) as server:
        section = member(wire, server, batch=True)

        async def verdicts(llm: LLMJudge) -> dict[str, Verdict]:
            api = open_batch_api(section, Path())
            names, judge = list(pictures), BatchJudge(llm, api, run)
            asks = [Ask(f"ask-{name}", name, row, "label", "referenced", ("cat", "dog"), "toy")
                    for row, name in enumerate(names)]  # fmt: skip
            try:
                answers = judge.verdicts(asks, lambda row: item(names[row]))
                return {verdict.id: verdict async for verdict in answers}
            finally:
                await api.aclose()

        found = with_judge(section, pictures, verdicts, folder=tmp_path / "cache", cap=1000.0)
        again = with_judge(section, pictures, verdicts, folder=tmp_path / "cache", cap=1000.0)
        assert sorted(request.images for request in server.requests) == [
            [("image/png", FIRST)], [("image/png", SECOND)]
        ]  # fmt: skip
    assert {name: verdict.outcome for name, verdict in found.items()} == {
        "a": "answer", "b": "answer", "huge": "failed"
    }  # fmt: skip
    assert [again[name].cached for name in ("a", "b")] == [True, True]
    assert hidden_in(tmp_path, FIRST, SECOND) == []


def test_the_loopback_refuses_a_media_type_that_is_not_the_bytes() -> None:
    part = ImagePart(FIRST)
    object.__setattr__(part, "media_type", "image/jpeg")
    with LoopbackServer(cat) as server:

        async def send() -> None:
            provider = open_provider(member(ANTHROPIC, server), Path())
            try:
                request = ChatRequest((Message("user", (part,)),), None)
                await provider.complete(request, timeout=10)
            finally:
                await provider.aclose()

        with pytest.raises(RequestRejected, match="not the provided media type"):
            asyncio.run(send())
