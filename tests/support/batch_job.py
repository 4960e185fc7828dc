"""A toy job in batches, the server that answers it, and what is checked in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import toy
from batch_client import Client, Done, Running
from batch_server import BatchServer, Call, Trouble
from loopback import ANTHROPIC, OPENAI

WIRES = (OPENAI, ANTHROPIC)
PRICES = {"input": 100.0, "output": 400.0, "cached_input": 50.0}
QUESTIONS = 18  # flagged in round 1
ROWS_A_BATCH = 9
RE_ASKED, LATE = toy.text(10), toy.text(25)


@dataclass
class Scene:
    """A job in batches, the server that answers it, and what is checked in the end."""

    work: toy.Work
    wire: str
    server: BatchServer
    limits: Mapping[str, int] = field(default_factory=lambda: {"most_requests": ROWS_A_BATCH})

    constants: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = "OpenAIBatches" if self.wire == OPENAI else "AnthropicBatches"
        for limit, value in self.limits.items():
            self.constants[f"llm_relabel.judge.batch.{self.wire}:{name}.{limit}"] = value
        self.write()

    def write(self, output: str = "run", rounds: int = 1, **judge: object) -> None:
        """The job file; `judge` adds to its judge section."""
        self.work.run_folder = self.work.folder / output
        url = self.server.openai_url if self.wire == OPENAI else self.server.anthropic_url
        self.work.write_job(
            rounds=rounds,
            output=output,
            judge={
                "model": f"{self.wire}/toy", "base_url": url, "batch": True, "prices": PRICES,
                "max_cost": 50.0, **judge,
            },
        )  # fmt: skip

    def start(self, dies_at: tuple[str, int] | None = None) -> Running:
        client = Client(self.work.folder, self.constants, dies_at)
        running = client.start("run", str(self.work.job))
        self.server.victims.put(running.pid)
        return running

    def run(self, dies_at: tuple[str, int] | None = None) -> Done:
        return self.start(dies_at).wait()

    @property
    def steps(self) -> list[str]:
        return [call.step for call in self.server.calls]

    def submitted(self) -> Counter[str]:
        """How often each question is in the batches that exist, worked on or not."""
        found: Counter[str] = Counter()
        for batch in self.server.batches:
            for _, body in batch.rows:
                [user, *_] = [m["content"] for m in body["messages"] if m["role"] == "user"]
                found[next(w for r in range(toy.ROWS) if (w := toy.text(r)) in user)] += 1
        return found

    def paid(self) -> float:
        """What the provider would bill, in dollars."""
        return sum(_dollars(usage) for usage in self.server.usages)

    def check_done(self) -> None:
        """The end of an undisturbed run, whatever happened on the way."""
        assert self.work.labels() == [toy.truth(row) for row in range(toy.ROWS)]
        verdicts = self.work.lines("round-1/verdicts.jsonl")
        assert len(verdicts) == len({verdict["ask_id"] for verdict in verdicts}) == QUESTIONS
        assert all(verdict["outcome"] == "answer" for verdict in verdicts)

    def check_submitted_once(self) -> None:
        again = {RE_ASKED, LATE}
        assert len(self.submitted()) == QUESTIONS
        assert all(n == 1 + (text in again) for text, n in self.submitted().items())

    def check_bill(self) -> None:
        summary = self.work.summary
        assert summary["cost"] + summary["cost_unaccounted"] == pytest.approx(self.paid(), abs=1e-5)


def _dollars(usage: dict) -> float:
    if "prompt_tokens" in usage:
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        plain, said = usage["prompt_tokens"] - cached, usage["completion_tokens"]
    else:
        cached = usage["cache_read_input_tokens"]
        plain, said = usage["input_tokens"], usage["output_tokens"]
    dollars = plain * PRICES["input"] + cached * PRICES["cached_input"] + said * PRICES["output"]
    return dollars / 1e6


def once(step: str, trouble: Trouble) -> Callable[[Call], Trouble | None]:
    """Trouble with the first call of one step."""
    left = [trouble]
    return lambda call: left.pop() if call.step == step and left else None


def done(scene: Scene) -> Done:
    ended = scene.run()
    assert ended.code == 0, ended.said
    scene.check_done()
    scene.check_bill()
    return ended


def submitted_again(scene: Scene) -> set[str]:
    counts = scene.submitted()
    assert len(counts) == QUESTIONS
    return {text for text, count in counts.items() if count > 1}


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "the client did not get so far"
        time.sleep(0.01)
