"""Batch judges that stop: what cannot be known, what is cancelled, caps, deadlines; and keys."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import toy
from batch_client import Client, Done
from batch_job import (
    QUESTIONS,
    ROWS_A_BATCH,
    WIRES,
    Scene,
    done,
    once,
    submitted_again,
    wait_until,
)
from batch_server import BatchServer, Call, Trouble
from loopback import ANTHROPIC, OPENAI, Answer, Fault, Received
from toy_judge import right_answer

import llm_relabel as lr
from llm_relabel.judge.batch.waits import Halt

# What cannot be known


@pytest.fixture
def ambiguous(work: toy.Work) -> Iterator[tuple[Scene, Done]]:
    """Anthropic: a batch was created, its answer was lost, and its results cannot be read."""
    lost = once("create", Trouble(done=True, kill=True))

    def trouble(call: Call) -> Trouble | None:
        return Trouble(fault=Fault(404)) if call.step == "results" else lost(call)

    with BatchServer(right_answer, trouble=trouble) as server:
        scene = Scene(work, ANTHROPIC, server, {"most_requests": QUESTIONS})
        assert scene.run().code == -signal.SIGKILL
        ended = scene.run()
        server.trouble = lambda _call: None
        yield scene, ended


def test_an_ambiguous_batch_pauses_and_says_what_to_check(ambiguous: tuple[Scene, Done]) -> None:
    scene, ended = ambiguous
    [batch] = scene.server.batches
    assert ended.code == 3
    for part in (batch.id, "console", batch.rows[0][0].rpartition("-")[0], "abandoned"):
        assert part in ended.said
    done(scene)
    assert scene.server.batches == [batch]


def test_an_ambiguous_batch_can_be_given_up(ambiguous: tuple[Scene, Done]) -> None:
    scene, ended = ambiguous
    line = ended.said[ended.said.index('{"event"') :].split("}")[0] + "}"
    with (scene.work.run_folder / "batches.jsonl").open("a") as log:
        log.write(line + "\n")
    assert scene.run().code == 0
    scene.check_done()
    assert [len(batch.rows) for batch in scene.server.batches] == [QUESTIONS] * 2
    summary = scene.work.summary
    assert summary["cost_unaccounted"] > summary["cost"] > 0


def test_a_stranger_s_batch_is_told_from_ours(work: toy.Work) -> None:
    """Anthropic keeps no mark: the results tell, once they are there."""
    lost = Trouble(done=True, kill=True)

    def trouble(call: Call) -> Trouble | None:
        if call.step != "create" or len(server.batches) > 1:
            return None
        body = {"model": "toy", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        stranger = server.add(ANTHROPIC, [(f"mine-{n}", body) for n in range(QUESTIONS)])
        stranger.looks = -9  # it takes longer than ours
        return lost

    def fate(received: Received, before: int) -> Answer | None:
        return Fault(400, "not ours") if received.user == "hi" else None

    with BatchServer(right_answer, trouble=trouble, fate=fate) as server:
        scene = Scene(work, ANTHROPIC, server, {"most_requests": QUESTIONS})
        assert scene.run().code == -signal.SIGKILL
        done(scene)
        assert len(server.batches) == 2


# Stopping


@pytest.mark.parametrize("wire", WIRES)
def test_cancel_and_go_on(work: toy.Work, wire: str) -> None:
    with BatchServer(right_answer) as server:
        server.hold = True
        scene = Scene(work, wire, server)
        running = scene.start()
        wait_until(lambda: "get" in scene.steps)
        client = Client(work.folder)
        assert "another process" in client.run("cancel", str(work.run_folder)).said
        running.process.send_signal(signal.SIGTERM)
        assert running.wait().code == 130
        told = client.run("cancel", str(work.run_folder))
        assert told.code == 0
        assert all(batch.cancelling and batch.id in told.said for batch in server.batches)
        assert len(server.batches) == 2
        again = client.run("cancel", str(work.run_folder))
        assert "is being cancelled already" in again.said
        assert scene.steps.count("cancel") == 2
        server.hold = False
        done(scene)
        halves = 2 * (ROWS_A_BATCH - ROWS_A_BATCH // 2)
        assert len(submitted_again(scene)) == halves
        assert "Nothing to cancel" in client.run("cancel", str(work.run_folder)).said


@pytest.mark.parametrize("wire", WIRES)
def test_cancel_after_a_kill_in_the_submission(work: toy.Work, wire: str) -> None:
    trouble = once("create", Trouble(done=True, kill=True))
    with BatchServer(right_answer, trouble=trouble) as server:
        server.hold = True
        scene = Scene(work, wire, server)
        assert scene.run().code == -signal.SIGKILL
        told = Client(work.folder).run("cancel", str(work.run_folder))
        [batch] = server.batches
        assert batch.id in told.said
        # By its mark it is ours for certain; by its size alone it may be a stranger's.
        assert batch.cancelling is (wire == OPENAI)
        assert ("NOT cancelled" in told.said) is (wire == ANTHROPIC)
        server.hold = False
        done(scene)


def test_cancel_that_the_provider_refuses(work: toy.Work) -> None:
    refuse = Trouble(fault=Fault(403, "no"))
    with BatchServer(right_answer, trouble=once("cancel", refuse)) as server:
        server.hold = True
        scene = Scene(work, OPENAI, server)
        running = scene.start()
        wait_until(lambda: "get" in scene.steps)
        running.process.send_signal(signal.SIGTERM)
        assert running.wait().code == 130
        told = Client(work.folder).run("cancel", str(work.run_folder))
    assert told.code == 3
    assert "batch_0 (9 requests) was NOT cancelled" in told.said
    assert "batch_1 (9 requests) is being cancelled" in told.said


def test_a_deadline_leaves_the_batches_at_the_provider(work: toy.Work) -> None:
    with BatchServer(right_answer) as server:
        server.hold = True
        scene = Scene(work, OPENAI, server)
        for seconds in (1, 4, 16, 64):  # a busy machine may not get as far as a batch at first
            scene.write(deadline=seconds)
            ended = scene.run()
            assert ended.code == 3
            assert "judge.deadline" in ended.said
            if server.batches:
                break
        assert server.batches
        assert all(batch.id in ended.said for batch in server.batches)
        assert f"llm-relabel cancel {work.run_folder}" in ended.said
        server.hold = False
        scene.write()
        done(scene)
        assert submitted_again(scene) == set()


# Money


def test_the_cap_holds_at_the_worst_case(work: toy.Work) -> None:
    with BatchServer(right_answer) as server:
        scene = Scene(work, OPENAI, server)
        cap = 2.0  # about four worst cases; all answers together cost less
        scene.write(max_cost=cap)
        done(scene)
        assert scene.paid() <= cap
    intents = [x for x in work.lines("batches.jsonl") if x["event"] == "intent"]
    assert all(sum(worst for _, _, worst in x["rows"]) <= cap for x in intents)
    assert len(intents) > QUESTIONS // ROWS_A_BATCH


@pytest.mark.parametrize("wire", WIRES)
def test_at_the_cap_it_pauses_and_a_higher_cap_goes_on(work: toy.Work, wire: str) -> None:
    with BatchServer(right_answer) as server:
        scene = Scene(work, wire, server)
        scene.write(max_cost=0.7)
        ended = scene.run()
        assert ended.code == 3
        assert "raise judge.max_cost" in ended.said
        assert 0 < scene.paid() <= 0.7
        scene.write(max_cost=5.0)
        done(scene)
        assert submitted_again(scene) == set()


# Waiting, keys


def test_polls_get_rarer(work: toy.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(_halt: Halt, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Halt, "sleep", sleep)
    with BatchServer(right_answer, looks=30) as server:
        Scene(work, OPENAI, server)
        lr.relabel(work.job)
    expected = [min(5.0 * 1.5**n, 300.0) for n in range(len(waited))]
    assert len(waited) > 25
    for seconds, about in zip(waited, expected, strict=True):
        assert 0.8 * about <= seconds <= 1.2 * about


@pytest.mark.parametrize("wire", WIRES)
def test_a_key_goes_only_where_the_job_says(
    work: toy.Work, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = "sk-for-this-server-alone"
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID"):
        monkeypatch.setenv(name, "sk-of-the-environment")
    monkeypatch.setenv("MY_KEY", ours)
    with BatchServer(right_answer) as elsewhere, BatchServer(right_answer) as server:
        step = {OPENAI: "output", ANTHROPIC: "results"}[wire]
        away = Fault(302, headers={"Location": f"{elsewhere.url}/v1/batches"})
        server.trouble = once(step, Trouble(fault=away))
        scene = Scene(work, wire, server)
        scene.write(api_key_env="MY_KEY")
        done(scene)
        assert not elsewhere.calls
        for call in server.calls:
            sent = {call.headers.get("authorization"), call.headers.get("x-api-key")} - {None}
            assert sent <= {f"Bearer {ours}", ours}
            assert sent
            assert "sk-of-the-environment" not in str(call.headers)
    written = [path.read_bytes() for path in work.run_folder.rglob("*") if path.is_file()]
    assert written
    assert not any(ours.encode() in each for each in written)
