"""Servers as they are: no schema, no such model, a rate that nobody tells."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import pytest
import toy
from loopback import Fault, LoopbackServer, Received
from toy_judge import right_answer

import llm_relabel as lr
from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import Paused, RateLimited
from llm_relabel.judge.chat import Completion
from llm_relabel.judge.limits import PACE, Limits
from llm_relabel.judge.providers.faults import error_for_status
from llm_relabel.records import Tokens

MODELS = {"openai": "openai/m", "anthropic": "anthropic/m", "litellm": "hosted_vllm/m"}


def url_of(server: LoopbackServer, wire: str) -> str:
    return server.anthropic_url if wire == "anthropic" else server.openai_url


REFUSALS = [
    (400, "Unrecognized request argument supplied: response_format"),
    (400, "Invalid schema for response_format: enum has too many values"),
    (400, "output_config: Extra inputs are not permitted"),
    (400, "Schema is too complex for compilation."),
    (400, "'response_format.type' must be 'json_object'"),
    (422, "body.response_format: field not supported"),
    (500, "failed to parse grammar"),
]


@pytest.mark.parametrize("wire", list(MODELS))
@pytest.mark.parametrize(("status", "message"), [REFUSALS[0], REFUSALS[3]])
def test_a_server_without_schemas_is_asked_in_words_after_one_refusal(
    work: toy.Work, wire: str, status: int, message: str
) -> None:
    def answer(request: Received) -> Any:
        if request.schema is not None:
            return Fault(status, message, type="invalid_request_error")
        return right_answer(request)

    with LoopbackServer(answer) as server:
        work.llm(url_of(server, wire), model=MODELS[wire])
        done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert sum(request.schema is not None for request in server.requests) == 1
    assert done.stderr.count("`judge.structured_output: prompt` says so from the start") == 1
    judge = work.summary["judges"][0]
    assert (judge["failed"], judge["answered"]) == (0, len(server.requests) - 1)
    # What was answered in words is a cached answer to the question in words.
    asked = len(server.requests)
    with LoopbackServer(answer) as again:
        work.llm(url_of(again, wire), model=MODELS[wire], structured_output="prompt")
        work.run("run", "job.yaml", "--set", "output=second")
    assert asked > 1


@pytest.mark.parametrize(("status", "message"), REFUSALS)
def test_refusals_of_a_schema(status: int, message: str) -> None:
    body = {"error": {"message": message, "type": "invalid_request_error"}}
    found = error_for_status(status, who="m", body=body, headers={})
    assert type(found).__name__ == "SchemaRefused"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}),
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: m"}}),
        (404, {"error": "model 'm' not found, try pulling it first"}),
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment ..."}}),
        (404, {"detail": "Not Found"}),
        (400, {"error": {"message": "m is not a valid model ID", "code": 400}}),
        (400, {"error": {"message": "Invalid model: m", "code": "invalid_model"}}),
        (400, {"error": {"message": "no", "code": "model_not_found"}}),
    ],
)
def test_a_model_that_is_not_there(status: int, body: Any) -> None:
    found = error_for_status(status, who="m", body=body, headers={})
    assert type(found).__name__ == "NoSuchModel"
    assert "check the model's name" in str(found)


@pytest.mark.parametrize("wire", list(MODELS))
def test_a_model_that_is_not_there_costs_one_request(work: toy.Work, wire: str) -> None:
    missing = Fault(404, "The model `m` does not exist", "model_not_found", "not_found_error")
    with LoopbackServer(lambda _: missing) as server:
        work.llm(url_of(server, wire), model=MODELS[wire])
        with pytest.raises(Paused, match="check the model's name"):
            lr.relabel(work.job)
    assert len(server.requests) == 1
    with LoopbackServer(right_answer) as server:
        work.llm(url_of(server, wire), model=MODELS[wire])
        assert lr.relabel(work.job).summary["judges"][0]["failed"] == 0


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_rate_that_nobody_tells_loses_nothing(work: toy.Work, wire: str) -> None:
    """20 in half a second, refused without a word on when to come back."""
    lately: deque[float] = deque()

    def answer(request: Received) -> Any:
        now = time.monotonic()
        while lately and now - lately[0] > 0.5:
            lately.popleft()
        if len(lately) >= 20:
            return Fault(429, "Request was rejected due to rate limiting.", "rate_limit")
        lately.append(now)
        return right_answer(request)

    rows = [
        {"id": f"i{row}", "text": f"{toy.text(row)} {row}", "label": toy.NAMES[row % 2]}
        for row in range(120)
    ]
    work.write_rows(rows)
    work.write_lines(
        "predictions.jsonl",
        [{"id": row["id"], "pred_probs": [0.1, 0.1, 0.8]} for row in rows],
    )
    with LoopbackServer(answer) as server:
        work.write_job(
            data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
            judge={"model": MODELS[wire], "base_url": url_of(server, wire)},
            rounds=1,
        )
        done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    judge = work.summary["judges"][0]
    assert (judge["verdicts"], judge["failed"]) == (120, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_pace_is_learned_and_comes_back() -> None:
    clock = Clock()
    gate = Limits(JudgeMember(model="openai/x", concurrency=32), clock=clock, sleep=clock.sleep)
    lately: deque[float] = deque()

    async def calls(count: int, per_second: int) -> tuple[int, float]:
        refused, began = 0, clock.now
        for _ in range(count):
            leave = await gate.enter(10)
            while lately and clock.now - lately[0] > 1:
                lately.popleft()
            if len(lately) < per_second:
                lately.append(clock.now)
                gate.leave(leave, Completion("{}", Tokens(1, 1)))
            else:
                refused += 1
                gate.leave(leave, RateLimited("slower"))
        return refused, clock.now - began

    asyncio.run(calls(100, 8))
    refused, seconds = asyncio.run(calls(800, 8))
    assert refused < 0.2 * 800
    assert 800 / seconds > 4
    rate = gate._buckets[PACE].rate
    asyncio.run(calls(3000, 1000))
    assert gate._buckets[PACE].rate > 2 * rate


def test_what_no_judge_could_answer_is_named_with_the_way_on(work: toy.Work) -> None:
    breakers = {"failures_in_a_row": None, "failed": None}
    with LoopbackServer(right_answer, faults=lambda n: Fault(503) if n > 1 else None) as server:
        job = work.llm(server.openai_url, breakers=breakers)
        done = work.run("run", job.name, "--set", "rounds=1")
    assert done.returncode == 0, done.stderr
    assert "could not be put to the judge" in done.stdout
    assert "the same `llm-relabel run` asks them again" in done.stdout
    with LoopbackServer(right_answer) as server:
        done = work.run("run", job.name, "--set", "rounds=1", "--set",
                        f"judge.base_url={server.openai_url}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "could not be put" not in done.stdout
    assert work.summary["judges"][0]["failed"] == 0 or work.summary["rounds"][0]["failed"] == 0
