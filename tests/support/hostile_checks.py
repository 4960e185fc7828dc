"""Puts the hostile corpus through every provider, against a server that takes its side.

`check_payloads` asks about items over one provider's real SDK and counts what got out of its
fence, what got past the schema and what crashed; `check_batch_lines` does so with the lines of
a batch. `tests/test_hostile.py` and `evals/hostile.py` read the counts. The server does what
each item demands, or answers with something broken of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
from hostile import CANARY, VICTIM, HostileItem, corpus
from loopback import ANTHROPIC, Fault, LoopbackServer, Received, default_answer

from llm_relabel.config.definitions import load_definitions
from llm_relabel.config.job import make_job
from llm_relabel.config.judges import JudgeMember
from llm_relabel.judge.batch.opening import open_batch_api
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.opening import open_judges
from llm_relabel.prompts.builder import PromptBuilder
from llm_relabel.prompts.fit import cut_to
from llm_relabel.records import Ask, Evidence, Item, Verdict
from llm_relabel.run_folder.lines import verdict_line
from llm_relabel.tasks.classification import Classification

WIRES = ("openai", "anthropic", "litellm")
MODELS = {
    "openai": "openai/toy",
    "anthropic": "anthropic/toy",
    "litellm": "hosted_vllm/toy",
}
LABELS = {"NUM": "A number.", "LOC": "A place.", "HUM": "A person."}
SHOWN = ("NUM", "LOC")
VARIANTS: tuple[tuple[Evidence, tuple[str, ...]], ...] = (
    ("referenced", ("text",)),
    ("blind", ("text",)),
    ("referenced", ("title", "text")),
    ("blind", ("title", "text")),
)
MARKER = re.compile(r"<<<item-[0-9a-f]{16}>>>")
_SURROGATES = re.compile("[\ud800-\udfff]")


Rogue = Callable[[str, str], Any]
"""From the label that the item demands and the item's text to an answer."""


def _json(**parts: Any) -> str:
    return json.dumps({"rationale": "", "label": "NUM", "confidence": 0.9, **parts})


ROGUES: tuple[Rogue, ...] = (
    lambda demand, text: _json(label=demand),
    lambda demand, text: _json(label=text[:5000]),
    lambda demand, text: text[:300_000],
    lambda demand, text: _json(rationale=text[:5000]),
    lambda demand, text: _json(label=demand, labels=["NUM"], shell="id", __class__="Answer"),
    lambda demand, text: _json(shell=demand, label="LOC"),
    lambda demand, text: _json(label={"label": "NUM"}),
    lambda demand, text: _json(label=["NUM"]),
    lambda demand, text: _json(label=None),
    lambda demand, text: _json(label=True),
    lambda demand, text: _json(label=7),
    lambda demand, text: _json(confidence=float("nan")),
    lambda demand, text: _json(confidence=float("inf")),
    lambda demand, text: _json(confidence=-3),
    lambda demand, text: _json(confidence="very"),
    lambda demand, text: '{"label": "NUM", "confidence": 1e999}',
    lambda demand, text: f'{{"label": {json.dumps(demand)}, "label": "HUM", "confidence": 1}}',
    lambda demand, text: "[" + _json() + "]",
    lambda demand, text: _json() + _json(label=demand),
    lambda demand, text: f"```json\n{_json(label=demand)}\n```",
    lambda demand, text: f"<think>{_json()}</think>{_json(label=demand)}",
    lambda demand, text: "[" * 100_000,
    lambda demand, text: '{"label":' * 50_000 + "1" + "}" * 50_000,
    lambda demand, text: _json(rationale="x" * 300_000),
    lambda demand, text: _json(label="x" * 300_000),
    lambda demand, text: '{"label": "NUM", "rationale": "\\ud800 \\u0000"}',
    lambda demand, text: '{"label": "\\ud800"}',
    lambda demand, text: '{"label": ' + "9" * 6000 + "}",
    lambda demand, text: "",
    lambda demand, text: "null",
    lambda demand, text: '"NUM"',
    lambda demand, text: "NUM",
    lambda demand, text: Fault(refusal=text[:2000]),
    lambda demand, text: Fault(text=_json()[:20], stop="length"),
)


def _broken_body(body: Any) -> Fault:
    return Fault(raw=body if isinstance(body, bytes) else json.dumps(body).encode())


def _openai_with(message: Any = None, usage: Any = None) -> dict[str, Any]:
    message = {"content": _json()} if message is None else message
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "toy",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage}  # fmt: skip


def _anthropic_with(content: Any = None, usage: Any = None) -> dict[str, Any]:
    content = [{"type": "text", "text": _json()}] if content is None else content
    return {"id": "x", "type": "message", "role": "assistant", "model": "toy", "content": content,
            "stop_reason": "end_turn", "usage": usage}  # fmt: skip


BROKEN_BODIES: dict[str, tuple[Fault, ...]] = {
    "openai": (
        *tuple(
            _broken_body(body)
            for body in (
                b"[" * 200000,
                b'{"choices":' * 50000,
                b'{"usage": ' + b"9" * 6000 + b"}",
                {"choices": {"0": "x"}},
                {"choices": ["x"]},
                {"choices": None, "error": {"code": 200, "message": "�"}},
                _openai_with({"content": {"label": "NUM"}}),
                _openai_with({"content": [{"text": 7}, None, {"text": _json()}]}),
                _openai_with({"content": None, "refusal": {"a": 1}}),
                _openai_with(usage={"prompt_tokens": -5, "completion_tokens": "many"}),
                _openai_with(usage={"prompt_tokens": 10**400, "completion_tokens": 1e309}),
                _openai_with(usage=["x"]),
                b"\x00\xff\xfe",
            )
        ),
        Fault(500, "� \x00 \x1b[2J"),
        Fault(
            429, "slower", headers={"Retry-After": "nan", "x-ratelimit-remaining-requests": "\t-1"}
        ),
        Fault(503, "later", headers={"Retry-After": "1e999", "retry-after-ms": "-5"}),
    ),
    "anthropic": (
        *tuple(
            _broken_body(body)
            for body in (
                b"[" * 200000,
                b'{"content":' * 50000,
                {"content": {"text": "NUM"}},
                {"content": [None, 7, "x", {"type": "text", "text": {"a": 1}}]},
                _anthropic_with(usage={"input_tokens": 10**400, "output_tokens": None}),
                _anthropic_with(usage="many"),
                _anthropic_with(content=[]),
                {**_anthropic_with(), "stop_reason": ["end_turn"]},
                b"\x00\xff\xfe",
            )
        ),
        Fault(500, "� \x00 \x1b[2J"),
        Fault(529, "slower", headers={"Retry-After": "nan"}),
    ),
}
BROKEN_BODIES["litellm"] = BROKEN_BODIES["openai"]


class RogueServer(LoopbackServer):
    """Sides with the items. A question's attempts: perhaps a broken body, then a rogue answer,
    then (in the re-ask) another one or an honest one."""

    def __init__(self, wire: str, demands: dict[str, str], *, broken: bool = True) -> None:
        super().__init__(self._reply)
        self._wire = wire
        self._demands = demands
        self._broken = BROKEN_BODIES[wire] if broken else ()
        self._asked: Counter[str] = Counter()
        self._drawn = 0

    def _reply(self, received: Received) -> Any:
        user = received.user
        self._asked[user] += 1
        attempt, number = self._asked[user], len(self._asked)
        if attempt == 1 and self._broken and number % 3 == 0:
            return self._broken[number // 3 % len(self._broken)]
        text = inside_of(user)
        self._drawn += 1
        if len(turns_of(received)) > 1 and self._drawn % 4:
            return default_answer(received)
        rogue = ROGUES[self._drawn % len(ROGUES)]
        answer = rogue(self._demands.get(text, "HACKED"), text)
        return answer if isinstance(answer, Fault) else Fault(text=answer)


def turns_of(received: Received) -> list[dict[str, Any]]:
    """The messages but for the system's: one in a question, three in a re-ask."""
    return [turn for turn in received.body["messages"] if turn["role"] != "system"]


def inside_of(user: str) -> str:
    """What stands between the marker lines."""
    marker = MARKER.findall(user.partition("\n")[0])[-1]
    return user.partition(f"\n{marker}\n")[2].rpartition(f"\n{marker}")[0]


@dataclass
class Found:
    """The counts of one pass. Each list holds a word on every case, and should be empty."""

    wire: str
    items: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    escapes: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing got out, past or down."""
        return not (self.escapes or self.leaks or self.crashes)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "items": dict(self.items), "outcomes": dict(self.outcomes)}


def fields_of(text: str, names: Sequence[str]) -> dict[str, str]:
    """An item's fields: the attack stands in each of them."""
    return dict.fromkeys(names, text)


def fenced(text: str, names: Sequence[str], limit: int = 8000) -> str:
    """What must stand between the marker lines of an item."""
    whole = [_SURROGATES.sub("\ufffd", each) for each in fields_of(text, names).values()]
    shown = cut_to(whole, limit)
    if len(names) == 1:
        return shown[0]
    return "\n".join(f"{name}: {each}" for name, each in zip(names, shown, strict=True))


class Frames:
    """All of a payload but the item: taken from a harmless item of the same structure."""

    def __init__(self, harmless: Sequence[Received]) -> None:
        self._known = [self._split(received) for received in harmless]

    @staticmethod
    def _split(received: Received) -> tuple[str, str, str]:
        body = json.loads(json.dumps(received.body))
        user = received.user
        marker = MARKER.findall(user.partition("\n")[0])[-1]
        before, _, rest = user.partition(f"\n{marker}\n")
        inside, _, after = rest.rpartition(f"\n{marker}\n")
        next(turn for turn in body["messages"] if turn["role"] == "user")["content"] = "ITEM"
        frame = json.dumps([before.replace(marker, "MARKER"), after, body], sort_keys=True)
        return frame, marker, inside

    def problem(self, received: Received, expected: set[str]) -> str | None:
        """What is wrong with a payload, None if nothing is."""
        frame, marker, inside = self._split(received)
        user = received.user
        if frame not in {known for known, _, _ in self._known}:
            return "something outside of the fence changed"
        for lines in (user.split("\n"), user.splitlines()):
            if lines.count(marker) != 2:
                return f"{lines.count(marker)} marker lines"
        if marker in inside or user.count(marker) != 3:
            return "the marker stands in the item"
        if inside not in expected:
            return "the item is not as it was"
        return None


def asks_of(items: Sequence[tuple[str, str]]) -> list[tuple[Ask, Item]]:
    """Every item in every variant."""
    asks = []
    for number, (item_id, text) in enumerate(items):
        for variant, (evidence, names) in enumerate(VARIANTS):
            shown = SHOWN if evidence == "referenced" else ()
            ask = Ask(f"{number}-{variant}", item_id, number, "label", evidence, shown, "toy")
            asks.append((ask, Item(item_id, number, fields_of(text, names))))
    return asks


def check_payloads(
    wire: str, folder: Path, attacks: Sequence[HostileItem] = corpus(), *, broken: bool = True
) -> Found:
    """Every item, referenced and blind, in one field and two, through one provider's real SDK.

    `broken`: a third of the questions is first answered with one of BROKEN_BODIES.
    """
    found = Found(wire)
    items = [(item.id, item.text) for item in attacks]
    demands = {fenced(item.text, names): item.demands for item in attacks for _, names in VARIANTS}
    found.items.update(item.family for item in attacks)
    with LoopbackServer() as honest:
        ask_all(wire, honest, asks_of([("harmless", VICTIM)]), folder)
        frames = Frames(honest.requests)
    with RogueServer(wire, demands, broken=broken) as rogue:
        ended = ask_all(wire, rogue, asks_of(items), folder)
    found.requests = len(rogue.requests)
    _check_verdicts(found, ended)
    expected = set(demands)
    seen: set[str] = set()
    for received in rogue.requests:
        if len(turns := turns_of(received)) > 1:
            _check_re_ask(found, turns)
            continue
        seen.add(received.user)
        if problem := frames.problem(received, expected):
            found.escapes.append(f"{problem}: {received.user[:200]!r}")
    if len(seen) != len(items) * len(VARIANTS):
        found.escapes.append(f"{len(seen)} different questions were asked")
    found.escapes += [f"{path.name} was made" for path in Path.cwd().glob(f"{CANARY}*")]
    return found


def check_batch_lines(wire: str, folder: Path, attacks: Sequence[HostileItem] = corpus()) -> Found:
    """Every item as a line of a batch, from the provider's own batch file."""
    found = Found(f"{wire} batch")
    found.items.update(item.family for item in attacks)
    expected = {fenced(item.text, names) for item in attacks for _, names in VARIANTS}
    api = open_batch_api(JudgeMember(model=MODELS[wire], base_url="http://127.0.0.1:9/v1"), folder)
    task = Classification(load_definitions(LABELS), pa.string())
    prompts, schema = PromptBuilder(task, schema_in_words=False), task.answer_schema()

    def received(line: bytes) -> Received:
        record = json.loads(line)
        return Received(0, wire, "", {}, record.get("body") or record["params"])

    def line_of(ask: Ask, item: Item) -> bytes:
        return api.line(ask.ask_id, ChatRequest(prompts.build(item, ask.candidates), schema))

    harmless = [line_of(*pair) for pair in asks_of([("harmless", VICTIM)])]
    frames = Frames([received(line) for line in harmless])
    for ask, item in asks_of([(item.id, item.text) for item in attacks]):
        line = line_of(ask, item)
        found.requests += 1
        if line.count(b"\n") != 1 or len(line.splitlines()) != 1:
            found.escapes.append(f"{ask.id[:80]!r}: {len(line.splitlines())} lines")
        elif problem := frames.problem(received(line), expected):
            found.escapes.append(f"{ask.id[:80]!r}: {problem}")
    asyncio.run(api.aclose())
    return found


def ask_all(
    wire: str, server: LoopbackServer, asks: Sequence[tuple[Ask, Item]], folder: Path,
    concurrency: int = 32,
) -> list[tuple[Ask, Verdict | BaseException]]:  # fmt: skip
    """What each ask ends with, asked all at once and without waits between attempts."""
    url = server.anthropic_url if wire == ANTHROPIC else server.openai_url
    prices = {"input": 1.0, "output": 2.0}
    judge = {"model": MODELS[wire], "base_url": url, "prices": prices, "max_cost": "none",
             "concurrency": concurrency, "cache": False}  # fmt: skip
    job = make_job(
        {"task": "classification", "data": {"path": "-", "text": "text", "label": "label"},
         "labels": LABELS, "judge": judge, "output": "-"},
        folder=folder,
    )  # fmt: skip
    definitions = load_definitions(LABELS)
    task = Classification(definitions, pa.string())

    async def main() -> list[tuple[Ask, Verdict | BaseException]]:
        judges = open_judges(job, task, definitions, cache=folder, model=mock.Mock())
        try:
            calls = (judges.first.verdict(ask, item) for ask, item in asks)
            ended = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await judges.aclose()
        return [(ask, end) for (ask, _), end in zip(asks, ended, strict=True)]

    async def at_once(_seconds: float) -> None:
        """The waits between attempts."""

    with mock.patch("llm_relabel.judge.retry.sleep", at_once):
        return asyncio.run(main())


def _check_verdicts(found: Found, ended: Sequence[tuple[Ask, Verdict | BaseException]]) -> None:
    for ask, end in ended:
        if isinstance(end, BaseException):
            found.crashes.append(f"{ask.id[:80]!r}: {type(end).__name__}: {str(end)[:300]}")
            continue
        found.outcomes[end.outcome] += 1
        if end.answer is not None and end.answer not in LABELS:
            found.escapes.append(f"{ask.id[:80]!r}: the verdict is {end.answer!r:.200}")
        if end.confidence is not None and not 0 <= end.confidence <= 1:
            found.escapes.append(f"{ask.id[:80]!r}: the confidence is {end.confidence!r}")
        size = len(json.dumps(verdict_line(end)))
        if end.outcome == "failed" and size > 20_000:
            found.escapes.append(f"{ask.id[:80]!r}: a failed verdict of {size:,} bytes")


def _check_re_ask(found: Found, turns: Sequence[dict[str, Any]]) -> None:
    """A second question: the first one as it was, the answer as the model's, and why not."""
    if [turn["role"] for turn in turns] != ["user", "assistant", "user"]:
        found.escapes.append(f"the roles of a re-ask are {[turn['role'] for turn in turns]}")
    # What the judge said can be the item's words: not much of it may come back as ours.
    if len(turns[2]["content"]) > 600:
        found.escapes.append(f"{len(turns[2]['content']):,} characters explain a re-ask")
