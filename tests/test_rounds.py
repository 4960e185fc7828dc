"""Whole jobs through the public surface, with recorded answers and an LLM on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random

import pytest
import toy
from loopback import Fault, LoopbackServer, Received, rate_limited, refusal, server_error
from toy_judge import right_answer

import llm_relabel as lr


def recount(work: toy.Work) -> tuple[int, int, int]:
    """Right labels after, fixed and broken, counted from the files alone."""
    before = [json.loads(line) for line in work.data.read_text().splitlines()]
    after = work.labels()
    right = fixed = broken = 0
    for row, label in zip(before, after, strict=True):
        right += label == row["gold"]
        fixed += row["label"] != row["gold"] and label == row["gold"]
        broken += row["label"] == row["gold"] and label != row["gold"]
    return right, fixed, broken


@pytest.mark.parametrize("policy", ["replace", "agree", "fuse", "auto"])
def test_recorded_job_adds_up(work: toy.Work, policy: str) -> None:
    work.write_job(decide={"policy": policy})
    run = lr.relabel(work.job)
    summary = run.summary
    right, fixed, broken = recount(work)
    assert summary["status"] == "done"
    assert summary["gold"]["labels_before"] == pytest.approx(48 / 60)
    assert summary["gold"]["labels_after"] == pytest.approx(right / 60)
    assert (summary["gold"]["fixed"], summary["gold"]["broken"]) == (fixed, broken)
    for tally in summary["rounds"]:
        parts = ("replaced", "kept", "abstained", "failed")
        assert tally["judged"] == sum(tally[part] for part in parts)
        assert tally["flagged"] == tally["judged"] + tally["deferred"]
    # The judge is right and the model mostly is: every wrong label that both see is mended.
    assert fixed >= 10
    assert broken == 0


def test_agree_follows_the_judge_only_with_the_model(work: toy.Work) -> None:
    """A row whose label and prediction are wrong and whose judge is right: `replace` mends it."""
    rows = [row for row in range(toy.ROWS) if toy.given(row) != toy.truth(row)]
    predictions = [
        json.loads(line) for line in (work.folder / "predictions.jsonl").read_text().splitlines()
    ]
    predictions[rows[0]]["pred_probs"] = [
        0.8 if name not in (toy.given(rows[0]), toy.truth(rows[0])) else 0.1 for name in toy.NAMES
    ]
    work.write_lines("predictions.jsonl", predictions)
    work.write_job(decide={"policy": "agree"}, output="run")
    lr.relabel(work.job)
    assert work.labels()[rows[0]] == toy.given(rows[0])
    why = [d["why"] for d in work.lines("round-1/decisions.jsonl") if d["id"] == f"i{rows[0]}"]
    assert "the small model says" in why[0]
    work.write_job(decide={"policy": "replace"}, output="replaced")
    work.run_folder = work.folder / "replaced"
    lr.relabel(work.job)
    assert work.labels()[rows[0]] == toy.truth(rows[0])


def test_output_differs_only_in_changed_cells(work: toy.Work) -> None:
    lr.relabel(work.job)
    before = work.data.read_text().splitlines()
    after = (work.run_folder / "dataset.jsonl").read_text().splitlines()
    changed = {change["id"] for change in lr.Run(work.run_folder).changes()}
    for old, new in zip(before, after, strict=True):
        row = json.loads(old)
        if row["id"] not in changed:
            assert new == old
        else:
            assert new == old.replace(
                json.dumps(row["label"]), json.dumps(json.loads(new)["label"]), 1
            )


def test_not_recorded_abstains_and_trips_no_breaker(work: toy.Work) -> None:
    work.write_lines("recorded.jsonl", [{"id": "i0", "label": toy.truth(0)}])
    summary = lr.relabel(work.job).summary
    assert summary["status"] == "done"
    assert summary["rounds"][0]["reasons"]["not_recorded"] == summary["rounds"][0]["judged"] - 1


def test_gold_never_decides(work: toy.Work) -> None:
    """Shuffled gold gives the same labels."""
    lr.relabel(work.job)
    labels = work.labels()
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    golds = [row["gold"] for row in rows]
    random.Random(1).shuffle(golds)
    work.write_rows([{**row, "gold": gold} for row, gold in zip(rows, golds, strict=True)])
    work.write_job(output="other")
    work.run_folder = work.folder / "other"
    lr.relabel(work.job)
    assert work.labels() == labels


def test_locked_and_missing_labels(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    rows[0]["sure"], rows[1]["label"] = True, None
    work.write_rows(rows)
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id", "locked": "sure"}
    work.write_job(data=data)
    lr.relabel(work.job)
    issues = work.lines("round-1/issues.jsonl")
    assert work.labels()[0] == toy.given(0) != toy.truth(0)
    assert issues[0] == {**issues[0], "id": "i1", "reason": "missing", "current_label": None}
    assert work.labels()[1] == toy.truth(1)
    assert "gold" not in work.summary


def test_a_label_that_comes_back_is_frozen(work: toy.Work) -> None:
    """A judge that always names another label than the current one cannot swing for ever."""

    def contrary(received: Received) -> dict[str, object]:
        digest = int(hashlib.sha256(received.user.encode()).hexdigest(), 16)
        return {"rationale": "", "label": toy.NAMES[digest % 3], "confidence": 0.9}

    with LoopbackServer(contrary) as server:
        work.llm(server.openai_url)
        work.write_job(
            judge={"model": "openai/toy", "base_url": server.openai_url},
            decide={"policy": "replace"}, rounds=12, detect={"quality": 0.99},
        )  # fmt: skip
        lr.relabel(work.job)
    summary = work.summary
    assert len(summary["rounds"]) < 12
    assert "changed nothing" in summary["reason"]
    assert summary["rounds"][-1]["frozen"] > 0


def test_llm_judge_mends_and_reuses(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        llm = {"model": "openai/toy", "base_url": server.openai_url}
        replace = {"policy": "replace"}
        work.write_job(judge=llm, decide=replace)
        summary = lr.relabel(work.job).summary
        first = len(server.requests)
        assert summary["calls"] == first
        assert summary["judge"]["is_llm"] is True
        # Round 2 flags again what the judge kept: same prompt, so the answer comes for free.
        assert summary["cached"] > 0
        assert summary["tokens"]["input"] > 0
        assert summary["cost"] == 0.0  # a server on this machine bills nothing
        # A new run over the same data pays nothing at all.
        work.write_job(judge=llm, decide=replace, output="again")
        again = lr.relabel(work.job).summary
        assert len(server.requests) == first
        assert again["calls"] == 0
        assert again["gold"] == summary["gold"]
    body = server.requests[0].body
    assert body["model"] == "toy"
    assert body["messages"][0]["role"] == "system"
    schema = body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["rationale", "label", "confidence"]
    assert set(schema["properties"]["label"]["enum"]) >= set(toy.NAMES)


def test_identical_prompts_in_flight_are_asked_once(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row in rows:
        row["text"] = toy.text(0)
    work.write_rows(rows)
    with LoopbackServer(right_answer, latency=0.2) as server:
        llm = {"model": "openai/toy", "base_url": server.openai_url}
        work.write_job(judge={**llm, "cache": False, "evidence": "blind"}, rounds=1)
        lr.relabel(work.job)
        assert work.summary["rounds"][0]["judged"] > 1
        assert len(server.requests) == 1


def test_one_re_ask_says_what_was_wrong(work: toy.Work) -> None:
    def stubborn(received: Received) -> Fault | dict[str, object]:
        if len(received.body["messages"]) == 2:
            return Fault(text='{"rationale": "", "label": "fruits", "confidence": 0.9}')
        return right_answer(received)

    with LoopbackServer(stubborn) as server:
        work.llm(server.openai_url)
        summary = lr.relabel(work.job).summary
    assert summary["rounds"][0]["failed"] == 0
    again = next(r for r in server.requests if len(r.body["messages"]) > 2)
    assert "'fruits' is not one of the defined labels" in again.body["messages"][-1]["content"]
    assert summary["calls"] == len(server.requests)


def test_failures_keep_the_label_and_say_why(work: toy.Work) -> None:
    """One refusal, one answer that stays off the schema: two failed verdicts, the run goes on."""
    bad = {toy.text(0): refusal(), toy.text(5): Fault(text="no idea")}

    def answer(received: Received) -> Fault | dict[str, object]:
        for text, fault in bad.items():
            if f"\n{text}\n" in received.user:
                return fault
        return right_answer(received)

    with LoopbackServer(answer) as server:
        work.llm(server.openai_url)
        summary = lr.relabel(work.job).summary
    assert summary["status"] == "done"
    assert summary["rounds"][0]["reasons"] == {"refused": 1, "invalid": 1}
    assert work.labels()[0] == toy.given(0)
    assert work.labels()[5] == toy.given(5)
    # Neither may be served from the cache later.
    verdicts = {v["id"]: v for v in work.lines("round-2/verdicts.jsonl")}
    assert not verdicts["i0"]["cached"]
    assert not verdicts["i5"]["cached"]


def test_transient_faults_are_retried(work: toy.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(seconds: float) -> None:
        return None

    monkeypatch.setattr("llm_relabel.judge.retry.sleep", at_once)

    def faults(number: int) -> Fault | None:
        return {0: rate_limited("1"), 1: server_error(), 5: server_error(503)}.get(number)

    with LoopbackServer(right_answer, faults=faults) as server:
        work.llm(server.openai_url, concurrency=1)
        summary = lr.relabel(work.job).summary
    assert summary["rounds"][0]["failed"] == 0
    assert summary["calls"] == len(server.requests)


def test_dead_endpoint_pauses_and_the_same_command_goes_on(
    work: toy.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(seconds: float) -> None:
        return None

    monkeypatch.setattr("llm_relabel.judge.retry.sleep", at_once)
    broken = True

    def faults(number: int) -> Fault | None:
        return Fault(400, "nobody is home") if broken else None

    with LoopbackServer(right_answer, faults=faults) as server:
        work.llm(server.openai_url)
        with pytest.raises(lr.Paused, match="verdicts in a row failed"):
            lr.relabel(work.job)
        assert work.summary["status"] == "paused"
        broken = False
        summary = lr.relabel(work.job).summary
    assert summary["status"] == "done"
    assert summary["rounds"][0]["failed"] == 0


def test_refused_key_pauses_at_once(work: toy.Work) -> None:
    with LoopbackServer(faults=lambda _: Fault(401, "Incorrect API key")) as server:
        work.llm(server.openai_url, concurrency=2)
        with pytest.raises(lr.Paused, match="refuses the key"):
            lr.relabel(work.job)
    assert len(server.requests) <= 2


def test_max_cost_is_kept_and_what_was_paid_is_used(work: toy.Work) -> None:
    prices = {"input": 10.0, "output": 30.0}
    with LoopbackServer(right_answer) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url, "prices": prices}
        work.write_job(judge={**judge, "max_cost": 0.1, "concurrency": 4})
        with pytest.raises(lr.Paused, match=r"raise judge\.max_cost"):
            lr.relabel(work.job)
        paused = work.summary
        assert 0 < paused["cost"] <= 0.1
        assert paused["changed"] > 0
        assert len(work.labels()) == toy.ROWS
        paid = len(server.requests)
        work.write_job(judge={**judge, "max_cost": 50.0})
        done = lr.relabel(work.job).summary
        assert done["status"] == "done"
        assert done["calls"] == len(server.requests) > paid
        # Nothing was asked twice, and the log replays to what an undisturbed run writes.
        users = [r.user for r in server.requests]
        assert len(set(users)) == len(users)
        resumed = work.labels()
        uncached = {"max_cost": 50.0, "cache": False}
        work.write_job(judge={**judge, **uncached}, output="fresh")
        work.run_folder = work.folder / "fresh"
        lr.relabel(work.job)
        assert len(server.requests) > len(users)
        assert work.labels() == resumed


def test_deadline_pauses(work: toy.Work) -> None:
    with LoopbackServer(right_answer, latency=0.5) as server:
        work.llm(server.openai_url, concurrency=1, deadline=2)
        with pytest.raises(lr.Paused, match="deadline"):
            lr.relabel(work.job)
    assert 0 < work.summary["rounds"][0]["judged"] < work.summary["rounds"][0]["flagged"]


def test_multi_label_decides_each_label_apart(work: toy.Work) -> None:
    rows = [{"id": str(n), "text": f"text {n}", "label": ["fruit"]} for n in range(6)]
    rows[3]["label"] = []
    work.write_rows(rows)
    # The model misses `tool` on rows 0 and 1, and does not believe `fruit` on row 2.
    probs = [[0.9, 0.9, 0.1], [0.9, 0.9, 0.1], [0.2, 0.1, 0.1]] + [[0.9, 0.1, 0.1]] * 3
    work.write_lines(
        "predictions.jsonl", [{"id": str(n), "pred_probs": p} for n, p in enumerate(probs)]
    )
    verdicts = {"0": ["fruit", "tool"], "1": ["tool", "animal"], "2": [], "3": ["fruit"]}
    work.write_lines("recorded.jsonl", [{"id": k, "label": v} for k, v in verdicts.items()])
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    agree = {"policy": "agree"}
    work.write_job(data=data, model={"predictions": "predictions.jsonl"}, decide=agree)
    lr.relabel(work.job)
    # Row 1: both see `tool`; dropping `fruit` and adding `animal` are the judge's alone.
    assert work.labels()[:4] == [["fruit", "tool"], ["fruit", "tool"], [], ["fruit"]]
    units = {(c["id"], c["unit"]): c["new"] for c in lr.Run(work.run_folder).changes()}
    assert units == {("0", "class:tool"): True, ("1", "class:tool"): True,
                     ("2", "class:fruit"): False, ("3", "class:fruit"): True}  # fmt: skip


def test_python_api(work: toy.Work) -> None:
    issues = lr.find_label_issues(work.job)
    assert [issue.id for issue in issues] == [
        line["id"] for line in (lr.relabel(work.job), work.lines("round-1/issues.jsonl"))[1]
    ]
    qualities = [issue.label_quality for issue in issues]
    assert qualities == sorted(qualities)
    run = lr.Run(work.run_folder)
    assert run.dataset().labels.to_pylist() == work.labels()
    assert {change["source"] for change in run.changes()} == {"fused"}


def test_works_inside_a_running_event_loop(work: toy.Work) -> None:
    async def notebook() -> lr.Run:
        return lr.relabel(work.job)

    assert asyncio.run(notebook()).summary["status"] == "done"
