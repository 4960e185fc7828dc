"""A batch job is killed at every step there is, and the same command goes on.

Whatever the step: all verdicts come, no question is submitted more often than in a run that
nobody disturbed, and the bill is the provider's own.
"""

from __future__ import annotations

import signal

import pytest
import toy
from batch_job import LATE, RE_ASKED, WIRES, Scene
from batch_server import EXPIRED, BatchServer, Call, Trouble
from loopback import ANTHROPIC, OPENAI, Answer, Received, off_schema
from toy_judge import right_answer

# The HTTP calls of a run that nobody disturbs: two batches, then one of the re-ask and the row
# that expired, which comes back sooner than the second.
SUBMIT = {OPENAI: ["list", "upload", "create"], ANTHROPIC: ["list", "create"]}
COLLECT = {OPENAI: ["get", "output"], ANTHROPIC: ["results"]}
STEPS = {
    wire: [
        *SUBMIT[wire], *SUBMIT[wire], "get", "get", "get", *COLLECT[wire], *late, "get",
        *SUBMIT[wire], "get", *COLLECT[wire], "get", "get", "get", *COLLECT[wire],
    ]
    for wire, late in ((OPENAI, ["errors"]), (ANTHROPIC, []))
}  # fmt: skip
WHEN = {
    "before": Trouble(kill=True),
    "done": Trouble(done=True, kill=True),
    "half": Trouble(half=True, kill=True),
}
# A poll leaves nothing behind, so of several in a row one is killed at. Both wires take the same
# steps through the same code, so each step is killed at on one of them in turn.
KILLS = [
    pytest.param(wire, number, when, id=f"{wire}-{number}-{step}-{when}")
    for wire in WIRES
    for number, step in enumerate(STEPS[wire])
    if STEPS[wire][number - 1 : number + 1] != ["get", "get"]
    and number % 2 == WIRES.index(wire) % 2
    for when in WHEN
    if when != "half" or step in ("output", "results")
]
# Of `batches.jsonl` the lines that are not written between two requests: `again` and `collected`.
LINES = [("batches.jsonl", 5), ("batches.jsonl", 6), ("batches.jsonl", 7), ("batches.jsonl", 11),
         ("verdicts.jsonl", 1), ("verdicts.jsonl", 8)]  # fmt: skip


def fate(received: Received, before: int) -> Answer | str | None:
    """One answer cannot be used and one row expires, both at the first attempt."""
    if before == 0 and RE_ASKED in received.user:
        return off_schema()
    return EXPIRED if before == 0 and LATE in received.user else None


@pytest.mark.parametrize("wire", WIRES)
def test_the_steps_that_kills_fall_between(work: toy.Work, wire: str) -> None:
    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, wire, server)
        assert scene.run().code == 0
    assert scene.steps == STEPS[wire]
    scene.check_done()
    scene.check_submitted_once()
    scene.check_bill()
    assert work.summary["cost_unaccounted"] == 0.0


@pytest.mark.parametrize(("wire", "number", "when"), KILLS)
def test_kill_at_any_request(work: toy.Work, wire: str, number: int, when: str) -> None:
    def trouble(call: Call) -> Trouble | None:
        return WHEN[when] if call.number == number else None

    with BatchServer(right_answer, fate=fate, trouble=trouble) as server:
        scene = Scene(work, wire, server)
        assert scene.run().code == -signal.SIGKILL
        done = scene.run()
    assert done.code == 0, done.said
    scene.check_done()
    scene.check_submitted_once()
    scene.check_bill()


@pytest.mark.parametrize(("name", "line"), LINES)
@pytest.mark.parametrize("wire", WIRES)
def test_kill_after_any_line_of_the_journals(
    work: toy.Work, wire: str, name: str, line: int
) -> None:
    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, wire, server)
        assert scene.run((name, line)).code == -signal.SIGKILL
        done = scene.run()
    assert done.code == 0, done.said
    scene.check_done()
    scene.check_submitted_once()
    scene.check_bill()


def test_kill_between_the_cache_and_the_journal(work: toy.Work) -> None:
    with BatchServer(right_answer, fate=fate) as server:
        scene = Scene(work, OPENAI, server)
        assert scene.run(("new-*.jsonl", 3)).code == -signal.SIGKILL
        done = scene.run()
    assert done.code == 0, done.said
    scene.check_done()
    scene.check_submitted_once()
    # The one answer that no verdict tells the price of stays counted at its worst case.
    summary = work.summary
    assert summary["cost"] < scene.paid() <= summary["cost"] + summary["cost_unaccounted"]


def test_killed_again_and_again(work: toy.Work) -> None:
    """Each process gets a little further than the one before it."""
    allowed = 3

    def trouble(call: Call) -> Trouble | None:
        nonlocal allowed
        allowed -= 1
        return WHEN["done"] if allowed == 0 else None

    with BatchServer(right_answer, fate=fate, trouble=trouble) as server:
        scene = Scene(work, OPENAI, server)
        codes = []
        for allowed in range(3, 40, 3):  # noqa: B007 - the server counts it down
            server.victims.queue.clear()
            codes.append(scene.run().code)
            if codes[-1] == 0:
                break
    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) >= 3
    scene.check_done()
    scene.check_submitted_once()
    scene.check_bill()
