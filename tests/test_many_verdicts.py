"""Several verdicts an item: samples, panels, escalation, controls, pilots, by whole jobs."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import toy
import yaml
from audited import review
from loopback import Fault, LoopbackServer, Received
from toy_judge import right_answer

import llm_relabel as lr

WRONG = {"fruit": "tool", "tool": "animal", "animal": "fruit"}


def wrong_answer(received: Received) -> dict[str, Any]:
    right = right_answer(received)
    return {**right, "label": WRONG[str(right["label"])]}


def by_model(**answers: Any) -> Any:
    """A server on which each model name has an answer function of its own."""

    def answer(received: Received) -> Any:
        return answers[received.body["model"]](received)

    return answer


def job_with(work: toy.Work, server: LoopbackServer, **judge: Any) -> None:
    def at(member: dict[str, Any]) -> dict[str, Any]:
        return {"base_url": server.openai_url, **member}

    for key in ("panel", "escalate"):
        if key in judge:
            judge[key] = [at(member) for member in judge[key]]
    work.write_job(judge=at({"model": "openai/first", **judge}), decide={"policy": "replace"})


def asks_by(work: toy.Work, key: str) -> Counter[str]:
    return Counter(line[key] for line in work.lines("round-1/asks.jsonl"))


def test_a_panel_outvotes_one_bad_judge(work: toy.Work) -> None:
    answers = by_model(first=wrong_answer, second=right_answer, third=right_answer)
    with LoopbackServer(answers) as server:
        job_with(work, server, panel=[{"model": "openai/second"}, {"model": "openai/third"}])
        summary = lr.relabel(work.job).summary
    first_round = summary["rounds"][0]
    flagged = first_round["judged"]
    assert asks_by(work, "purpose") == {"label": flagged, "panel": 2 * flagged}
    assert asks_by(work, "judge") == dict.fromkeys(
        ("openai/first", "openai/second", "openai/third"), flagged
    )
    assert len(work.lines("round-1/verdicts.jsonl")) == 3 * flagged
    assert summary["gold"]["broken"] == 0
    assert summary["gold"]["fixed"] >= 10
    assert first_round["judged"] == sum(
        first_round[name] for name in ("replaced", "kept", "abstained", "failed")
    )
    assert [j["model"] for j in summary["judges"]][:1] == ["openai/first"]
    assert sum(j["calls"] for j in summary["judges"]) == summary["calls"] == len(server.requests)
    change = work.lines("changes.jsonl")[0]
    assert change["judge"] == "openai/first + openai/second + openai/third"
    assert len(change["ask_ids"]) == 3


def test_two_judges_that_disagree_leave_the_label(work: toy.Work) -> None:
    with LoopbackServer(by_model(first=wrong_answer, second=right_answer)) as server:
        job_with(work, server, panel=[{"model": "openai/second"}])
        summary = lr.relabel(work.job).summary
    assert summary["changed"] == 0
    assert summary["rounds"][0]["abstained"] == summary["rounds"][0]["judged"]
    assert "the judges disagree" in work.lines("round-1/decisions.jsonl")[0]["why"]


def test_escalation_asks_only_where_the_first_is_not_sure(work: toy.Work) -> None:
    def hesitant(received: Received) -> Any:
        number = int(received.user.split(" number ")[1].split()[0])
        if number % 3 == 0:
            return {"rationale": "", "label": "CANNOT_TELL", "confidence": 0.2}
        if number % 3 == 1:
            return {**wrong_answer(received), "confidence": 0.4}
        return right_answer(received)

    with LoopbackServer(by_model(first=hesitant, strong=right_answer)) as server:
        job_with(work, server, escalate=[{"model": "openai/strong", "below": 0.7}])
        summary = lr.relabel(work.job).summary
    asks = work.lines("round-1/asks.jsonl")
    escalated = {line["id"] for line in asks if line["purpose"] == "escalation"}
    flagged = {line["id"] for line in asks if line["purpose"] == "label"}
    assert escalated == {item for item in flagged if int(item[1:]) % 3 != 2}
    assert {line["wave"] for line in asks if line["purpose"] == "escalation"} == {1}
    assert summary["gold"]["broken"] == 0
    assert summary["rounds"][0]["abstained"] == 0
    # Running again asks nothing.
    with LoopbackServer(by_model(first=hesitant, strong=right_answer)) as second:
        again = lr.relabel(work.job).summary
    assert second.requests == []
    assert again["changed"] == summary["changed"]


def test_a_kill_between_waves_changes_nothing(work: toy.Work) -> None:
    """The cap stops the run before the escalation is over; what is undecided stays so."""

    def unsure(received: Received) -> Any:
        return {**wrong_answer(received), "confidence": 0.3}

    prices = {"input": 10.0, "output": 30.0}
    with LoopbackServer(by_model(first=unsure, strong=right_answer)) as server:
        judge: dict[str, Any] = {
            "prices": prices, "concurrency": 1, "max_output_tokens": 100,
            "escalate": [{"model": "openai/strong", "prices": prices, "max_output_tokens": 100}],
        }  # fmt: skip
        job_with(work, server, **judge, max_cost=0.12)
        with pytest.raises(lr.Paused, match="max_cost"):
            lr.relabel(work.job)
        gold = work.summary["gold"]
        assert gold["broken"] == 0, "an unsure answer was taken before it was escalated"
        job_with(work, server, **judge, max_cost=9.0)
        done = lr.relabel(work.job).summary
        labels = work.labels()
        job_with(work, server, **judge, max_cost=9.0)
        raw = yaml.safe_load(work.job.read_text())
        work.job.write_text(yaml.safe_dump({**raw, "output": "fresh"}))
        work.run_folder = work.folder / "fresh"
        lr.relabel(work.job)
    assert done["status"] == "done"
    assert work.labels() == labels


def test_samples_are_questions_of_their_own(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        job_with(work, server, samples=3)
        summary = lr.relabel(work.job).summary
    flagged = summary["rounds"][0]["judged"]
    asks = work.lines("round-1/asks.jsonl")
    assert asks_by(work, "purpose") == {"label": flagged, "sample": 2 * flagged}
    assert asks_by(work, "repeat") == {0: flagged, 1: flagged, 2: flagged}
    assert summary["cached"] == summary["judges"][0]["cached"]
    assert len(server.requests) >= 3 * flagged
    # Each sample sees the candidates in an order of its own, and none at temperature 0.
    orders = {}
    for line in asks:
        orders.setdefault(line["id"], set()).add(tuple(line["candidates"]))
    assert any(len(found) > 1 for found in orders.values())
    assert all("temperature" not in request.body for request in server.requests)


def test_controls_look_like_any_question_and_decide_nothing(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row in rows:
        row["closed"] = row["id"] in {"i1", "i2", "i3", "i4"}
    work.write_rows(rows)
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id", "locked": "closed"}
    with LoopbackServer(right_answer) as server:
        work.write_job(
            data=data,
            judge={"model": "openai/toy", "base_url": server.openai_url, "controls": 0.5},
            rounds=1,
        )
        plain = work.folder / "plain"
        summary = lr.relabel(work.job).summary
        labels = work.labels()
        asks = work.lines("round-1/asks.jsonl")
        work.write_job(
            data=data, judge={"model": "openai/toy", "base_url": server.openai_url},
            rounds=1, output="plain",
        )  # fmt: skip
        work.run_folder = plain
        lr.relabel(work.job)
    assert work.labels() == labels
    controls = [line for line in asks if line["purpose"] == "control"]
    kinds = Counter(line["control"] for line in controls)
    issues = [line for line in asks if line["purpose"] == "label"]
    assert len(controls) == round(0.5 * len(issues))
    assert set(kinds) == {"repeat", "planted", "confirmed"}
    # At random places, and in the prompt nothing tells them apart.
    places = [place for place, line in enumerate(asks) if line["purpose"] == "control"]
    assert places != list(range(len(asks) - len(controls), len(asks)))
    shapes = set()
    for received in server.requests:
        shape = received.user.split("<<<item")[0] + received.user.split(">>>")[-1]
        shapes.add(
            (json.dumps(received.body["messages"][0]), shape.count("\n"), len(received.body))
        )
    assert len(shapes) <= 2  # two or three candidates
    told = summary["rounds"][0]["controls"]
    assert told["repeat_consistency"]["rate"] == 1.0
    assert told["planted_kept"]["rate"] == 0.0
    assert told["confirmed_wrong"]["count"] <= told["confirmed_wrong"]["of"]
    assert 0 <= told["planted_kept"]["low"] <= told["planted_kept"]["high"] <= 1
    assert summary["rounds"][0]["judged"] == len(issues)


def test_spot_checks_of_an_earlier_round_check_the_judge(work: toy.Work) -> None:
    """The judge turns wrong; where people have answered, the controls say so."""
    answers_with = right_answer

    def answer(received: Received) -> Any:
        return answers_with(received)

    with LoopbackServer(answer) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url, "controls": 0.5,
                 "cache": False}  # fmt: skip
        work.write_job(judge=judge, decide={"policy": "replace"}, rounds=1)
        assert "confirmed_wrong" not in lr.relabel(work.job).summary["rounds"][0]["controls"]
        review(work, 20)
        answers_with = wrong_answer
        work.write_job(judge=judge, decide={"policy": "replace"}, rounds=2)
        told = lr.relabel(work.job).summary["rounds"][1]["controls"]
    answers = {line["id"] for line in work.lines("review/answers.jsonl")}
    asked = [line for line in work.lines("round-2/asks.jsonl") if line["control"] == "confirmed"]
    assert asked
    assert {line["id"] for line in asked} <= answers
    assert told["confirmed_wrong"]["rate"] == 1.0


def test_controls_find_a_judge_that_repeats_what_it_is_shown(work: toy.Work) -> None:
    flips = iter(range(10_000))

    def anchored(received: Received) -> Any:
        """Takes the first candidate, and never says the same twice."""
        shown = received.user.split("Candidates, in random order:\n- ")[1].splitlines()[0]
        return {"rationale": "", "label": shown if next(flips) % 2 else "tool", "confidence": 0.9}

    with LoopbackServer(anchored) as server:
        work.write_job(
            judge={"model": "openai/toy", "base_url": server.openai_url, "controls": 0.5},
            rounds=1,
        )
        told = lr.relabel(work.job).summary["rounds"][0]["controls"]
    assert told["planted_kept"]["of"] >= 3
    assert told["repeat_consistency"]["rate"] < 1


def test_a_pilot_judges_some_and_projects_all(work: toy.Work) -> None:
    prices = {"input": 10.0, "output": 30.0}
    with LoopbackServer(right_answer) as server:
        work.llm(server.openai_url, prices=prices, max_cost=50)
        done = work.run("run", "job.yaml", "--pilot", "6")
        assert done.returncode == 3
        assert "The pilot judged 6 of " in done.stderr
        assert "a corrected label" in done.stderr
        assert len(server.requests) == 6
        found = json.loads((work.run_folder / "pilot.json").read_text())
        assert found["judged"] == 6
        assert found["cost"] == pytest.approx(work.summary["cost"])
        # The same command goes on, and pays for none of the pilot's answers again.
        done = work.run("run", "job.yaml", "--pilot", "6")
        assert done.returncode == 0, done.stderr
    users = [received.user for received in server.requests]
    assert len(users) == len(set(users))


def test_a_judge_that_changes_its_mind_after_the_pilot_stops_the_run(work: toy.Work) -> None:
    rows = 400
    work.write_rows(
        [{"id": f"i{n}", "text": toy.text(n), "label": toy.NAMES[n % 3]} for n in range(rows)]
    )
    # The model doubts every row a little differently, and is wrong about each.
    work.write_lines(
        "predictions.jsonl",
        [
            {"id": f"i{n}", "pred_probs": [
                0.6 - n / 1000 if name == toy.NAMES[(n + 1) % 3] else 0.2 + n / 2000
                for name in toy.NAMES
            ]}
            for n in range(rows)
        ],
    )  # fmt: skip
    broken = False

    def answer(received: Received) -> Any:
        return wrong_answer(received) if broken else right_answer(received)

    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    with LoopbackServer(answer) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url, "concurrency": 4}
        work.write_job(data=data, judge=judge, decide={"policy": "replace"}, rounds=1)
        assert work.run("run", "job.yaml", "--pilot", "60").returncode == 3
        broken = True
        stopped = work.run("run", "job.yaml")
        assert stopped.returncode == 3
        assert "the pilot foretells" in stopped.stderr
        assert len(server.requests) < 250
        broken = False
        judge["breakers"] = {"replacement": None}
        work.write_job(data=data, judge=judge, decide={"policy": "replace"}, rounds=1)
        assert work.run("run", "job.yaml").returncode == 0


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"model": "embedded", "samples": 3}, "samples puts questions to a language model"),
        ({"model": "recorded/recorded.jsonl", "controls": "5%"}, "controls puts questions"),
        ({"model": "openai/x", "controls": "80%"}, "at most 50%"),
        ({"model": "openai/x", "breakers": {"failed": 7}}, "less than or equal to 1"),
        ({"model": "mistral/x", "batch": True}, "has no batch API"),
        ({"model": "openai/x", "panel": [{"modle": "y"}]}, "did you mean 'model'"),
        ({"model": "openai/x", "escalate": {"model": "embedded", "belov": 1}}, "'below'"),
    ],
)
def test_settings_that_cannot_be_are_told(work: toy.Work, judge: Any, told: str) -> None:
    work.write_job(judge=judge)
    with pytest.raises(lr.JobError) as caught:
        lr.relabel(work.job)
    assert told in str(caught.value)


def test_a_panel_of_recorded_answers_needs_no_llm(work: toy.Work) -> None:
    work.write_lines("other.jsonl", [{"id": f"i{n}", "label": "tool"} for n in range(toy.ROWS)])
    panel = [{"model": "recorded/other.jsonl"}, {"model": "recorded/recorded.jsonl"}]
    work.write_job(judge={"model": "recorded/recorded.jsonl", "panel": panel})
    summary = lr.relabel(work.job).summary
    assert summary["gold"]["broken"] == 0
    assert [judge["model"] for judge in summary["judges"]] == [
        "recorded/recorded.jsonl", "recorded/other.jsonl", "recorded/recorded.jsonl#2",
    ]  # fmt: skip


def test_too_many_unusable_answers_stop_the_run(work: toy.Work) -> None:
    with LoopbackServer(faults=lambda _: Fault(text="I would say it is fruit.")) as server:
        work.llm(server.openai_url, breakers={"failures_in_a_row": 6}, concurrency=1)
        with pytest.raises(lr.Paused, match="6 verdicts in a row failed, the last with 'invalid'"):
            lr.relabel(work.job)
        assert len(server.requests) < 20
