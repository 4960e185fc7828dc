"""Judges behind a batch API: both wire formats, real SDKs, a server that has its bad days."""

from __future__ import annotations

import json

import pytest
import toy
from batch_job import (
    LATE,
    PRICES,
    QUESTIONS,
    ROWS_A_BATCH,
    WIRES,
    Scene,
    done,
    once,
    submitted_again,
)
from batch_server import EXPIRED, LOST, Batch, BatchServer, Call, Trouble
from loopback import ANTHROPIC, OPENAI, Answer, Fault, Received, off_schema, rate_limited
from toy_judge import right_answer


def odd_answer(received: Received) -> str:
    """Right, with a line separator that JSON allows inside a string and line readers cut at."""
    said = {**right_answer(received), "rationale": "one\u2028two\x85three"}
    return json.dumps(said, ensure_ascii=False)


# The same as without


@pytest.mark.parametrize("wire", WIRES)
def test_as_without_batches(work: toy.Work, wire: str) -> None:
    """Samples and a panel, over two rounds: what was asked and what came of it are the same."""
    found = {}
    for batch in (True, False):
        with BatchServer(odd_answer) as server:
            scene = Scene(work, wire, server)
            url = server.openai_url if wire == OPENAI else server.anthropic_url
            other = {"model": f"{wire}/other", "base_url": url, "prices": PRICES, "batch": batch}
            keys = {"batch": batch, "samples": 2, "panel": [other], "cache": False}
            scene.write(f"run-{batch}", rounds=2, **keys)
            assert scene.run().code == 0
            assert bool(server.batches) is batch
            if batch:
                scene.check_bill()
            files = ("round-1/decisions.jsonl", "round-1/asks.jsonl", "dataset.jsonl")
            asked = {json.dumps(request.body, sort_keys=True) for request in server.requests}
            found[batch] = asked, [work.lines(name) for name in files]
    assert found[True] == found[False]
    assert len(found[True][0]) > QUESTIONS


def test_a_batch_judge_beside_others(work: toy.Work) -> None:
    """A judge in batches, one that is asked at once, and a third where those two differ."""

    def answer(received: Received) -> Answer:
        said = right_answer(received)
        differs = received.body["model"] == "second" and LATE in received.user
        return {**said, "label": toy.given(5)} if differs else said

    with BatchServer(answer) as server:
        scene = Scene(work, OPENAI, server)
        second = {"model": "anthropic/second", "base_url": server.anthropic_url, "prices": PRICES}
        third = {**second, "model": "anthropic/third", "batch": True}
        scene.write(panel=[second], escalate=[third])
        assert scene.run().code == 0
        sizes = [(batch.wire, len(batch.rows)) for batch in server.batches]
        assert sizes == [(OPENAI, 9), (OPENAI, 9), (ANTHROPIC, 1)]
    answered = {row["model"]: row["answered"] for row in work.summary["judges"]}
    assert answered == {"openai/toy": 18, "anthropic/second": 18, "anthropic/third": 1}
    assert work.labels() == [toy.truth(row) for row in range(toy.ROWS)]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("limit", ["most_requests", "most_bytes"])
def test_split_to_the_limits(work: toy.Work, wire: str, limit: str) -> None:
    value = {"most_requests": 5, "most_bytes": 6000}[limit]
    with BatchServer(right_answer) as server:
        scene = Scene(work, wire, server, {limit: value})
        done(scene)
    sizes = [len(batch.rows) for batch in server.batches]
    assert sum(sizes) == QUESTIONS
    if limit == "most_requests":
        assert sizes == [5, 5, 5, 3]
    else:
        sent = [len(data) for name, data in server.files.items() if name.startswith("input")]
        sent += [len(call.body) for call in server.calls if call.step == "create"]
        assert 2000 < max(sent) <= value
        assert len(sizes) > 1


# Rows that come to nothing


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "reply",
    [
        EXPIRED,
        LOST,
        off_schema(),
        Fault(500, type="api_error"),
        Fault(429, type="rate_limit_error"),
    ],
    ids=["expired", "missing", "unusable", "500", "429"],
)
def test_a_row_is_submitted_again(work: toy.Work, wire: str, reply: Answer) -> None:
    def fate(received: Received, before: int) -> Answer | None:
        return reply if LATE in received.user and before == 0 else None

    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, wire, server)
        done(scene)
        assert submitted_again(scene) == {LATE}
    first, second = (
        request.body["messages"] for request in server.requests if LATE in request.user
    )
    # Only an answer that cannot be used makes it another question.
    re_asked = isinstance(reply, Fault) and reply.text is not None
    assert (first != second) is re_asked


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("reply", "reason", "attempts"),
    [(off_schema(), "invalid", 2), (Fault(400, "no"), "refused", 1), (EXPIRED, "transport", 4)],
    ids=["invalid", "refused", "expired"],
)
def test_a_row_that_never_succeeds_is_a_failure(
    work: toy.Work, wire: str, reply: Answer, reason: str, attempts: int
) -> None:
    def fate(received: Received, before: int) -> Answer | None:
        return reply if LATE in received.user else None

    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, wire, server)
        assert scene.run().code == 0
        assert scene.submitted()[LATE] == attempts
        scene.check_bill()
    verdicts = work.lines("round-1/verdicts.jsonl")
    [failed] = [verdict for verdict in verdicts if verdict["outcome"] == "failed"]
    assert (failed["id"], failed["reason"]) == ("i25", reason)
    assert work.labels()[25] == toy.given(25)


def test_a_failure_of_the_provider_is_tried_again_by_the_next_run(work: toy.Work) -> None:
    well = False

    def fate(received: Received, before: int) -> Answer | None:
        return None if well or LATE not in received.user else EXPIRED

    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, OPENAI, server)
        assert scene.run().code == 0
        well = True
        assert scene.run().code == 0
        assert submitted_again(scene) == {LATE}
    assert work.labels() == [toy.truth(row) for row in range(toy.ROWS)]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_a_batch_did_before_it_stopped_is_kept(work: toy.Work, wire: str, end: str) -> None:
    """It expires, or somebody cancels it in the console, with its first half answered."""

    def whole(batch: Batch) -> str | None:
        return end if batch is server.batches[0] else None

    with BatchServer(right_answer, whole=whole) as server:
        scene = Scene(work, wire, server)
        done(scene)
        assert len(submitted_again(scene)) == ROWS_A_BATCH - ROWS_A_BATCH // 2


# Calls that fail


FAULTS = [
    (WIRES, "create", Trouble()),
    (WIRES, "create", Trouble(done=True)),
    (WIRES, "create", Trouble(fault=Fault(500))),
    (WIRES, "create", Trouble(done=True, fault=Fault(504))),
    (WIRES, "create", Trouble(fault=rate_limited("0.01"))),
    (WIRES, "list", Trouble(fault=Fault(503))),
    (WIRES, "get", Trouble(fault=Fault(500))),
    (WIRES, "get", Trouble()),
    ([OPENAI], "upload", Trouble(done=True, fault=Fault(502))),
    ([OPENAI], "output", Trouble(half=True)),
    ([ANTHROPIC], "results", Trouble(half=True)),
    ([ANTHROPIC], "results", Trouble(fault=rate_limited("0.01"))),
]


def _told(trouble: Trouble) -> str:
    what = str(trouble.fault.status) if trouble.fault else "lost"
    return f"{'done-' if trouble.done else ''}{'half-' if trouble.half else ''}{what}"


@pytest.mark.parametrize(
    ("wire", "step", "trouble"),
    [
        pytest.param(wire, step, trouble, id=f"{wire}-{step}-{_told(trouble)}")
        for wires, step, trouble in FAULTS
        for wire in wires
    ],
)
def test_nothing_is_submitted_twice(work: toy.Work, wire: str, step: str, trouble: Trouble) -> None:
    with BatchServer(right_answer, trouble=once(step, trouble)) as server:
        scene = Scene(work, wire, server)
        done(scene)
        assert submitted_again(scene) == set()
    assert scene.steps.count(step) > 1
    assert work.summary["cost_unaccounted"] == 0.0


@pytest.mark.parametrize(
    ("step", "status", "said"),
    [
        ("get", 500, "has not answered"),
        ("create", 429, "has not taken a batch"),
        ("create", 500, "has not taken a batch"),
    ],
)
def test_a_dead_endpoint_pauses(work: toy.Work, step: str, status: int, said: str) -> None:
    def trouble(call: Call) -> Trouble | None:
        return Trouble(fault=Fault(status)) if call.step == step and dead else None

    with BatchServer(right_answer, trouble=trouble) as server:
        dead = True
        scene = Scene(work, ANTHROPIC, server)
        scene.constants["llm_relabel.judge.batch.waits:LONGEST_OUTAGE"] = 0.1
        ended = scene.run()
        assert ended.code == 3
        assert said in ended.said
        dead = False
        done(scene)
        assert submitted_again(scene) == set()


@pytest.mark.parametrize("wire", WIRES)
def test_a_key_refused_inside_the_results_pauses(work: toy.Work, wire: str) -> None:
    def fate(received: Received, before: int) -> Answer | None:
        refused = LATE in received.user and before == 0
        return Fault(401, type="authentication_error") if refused else None

    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, wire, server)
        ended = scene.run()
        assert ended.code == 3
        assert "refuses the key" in ended.said
        done(scene)
        assert submitted_again(scene) == {LATE}


@pytest.mark.parametrize("wire", WIRES)
def test_results_with_fewer_lines_than_answers_are_read_again(work: toy.Work, wire: str) -> None:
    step = {OPENAI: "output", ANTHROPIC: "results"}[wire]
    short = Trouble(done=True, fault=Fault(200, raw=b"\n"))
    with BatchServer(right_answer, trouble=once(step, short)) as server:
        scene = Scene(work, wire, server)
        done(scene)
        assert submitted_again(scene) == set()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("status", "said"), [(401, "refuses the key"), (400, "takes no batch"), (404, "takes no batch")]
)
def test_a_refused_submission_pauses(work: toy.Work, wire: str, status: int, said: str) -> None:
    with BatchServer(right_answer, trouble=once("create", Trouble(fault=Fault(status)))) as server:
        scene = Scene(work, wire, server)
        ended = scene.run()
        assert ended.code == 3
        assert said in ended.said
        assert not server.batches
        done(scene)
        assert submitted_again(scene) == set()
    assert work.summary["cost_unaccounted"] == 0.0


@pytest.mark.parametrize("most_queued", [5, ROWS_A_BATCH + 2], ids=["smaller", "one-by-one"])
def test_an_account_whose_queue_is_full(work: toy.Work, most_queued: int) -> None:
    """OpenAI lets so many tokens wait; what is over it comes back as a failed batch."""
    with BatchServer(right_answer, most_queued=most_queued) as server:
        scene = Scene(work, OPENAI, server)
        done(scene)
        accepted = [len(batch.rows) for batch in server.batches if not batch.failed]
        assert sum(accepted) == QUESTIONS
        assert max(accepted) <= most_queued
        assert len(server.batches) > len(accepted)
