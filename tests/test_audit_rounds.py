"""Spot-checks and the rounds after them, what is not answered yet, and what the gate withdraws."""

from __future__ import annotations

import pytest
import toy
from audited import ROWS, misled, review

import llm_relabel as lr
from llm_relabel.review import Review, draw_sample
from llm_relabel.rounds.deciding import HELD_BACK

WRONG = dict(zip(toy.NAMES, toy.NAMES[1:] + toy.NAMES[:1], strict=True))


def test_later_rounds_ask_about_spot_checked_rows_as_about_all_others(big: toy.Work) -> None:
    """People contradict the model everywhere; that alone flags none of their rows."""
    big.write_job(decide={"policy": "agree"})
    lr.relabel(big.job, overrides=["rounds=1"])
    first = {line["id"] for line in big.lines("round-1/issues.jsonl")}
    guess = {line["id"]: max(zip(line["pred_probs"], toy.NAMES, strict=True))[1]
             for line in big.lines("../predictions.jsonl")}  # fmt: skip
    review(big, 80, say=lambda n: WRONG[guess[f"i{n}"]])
    lr.relabel(big.job, overrides=["rounds=2"])
    answered = {line["id"] for line in big.lines("review/answers.jsonl")} - first
    flagged = {line["id"] for line in big.lines("round-2/issues.jsonl")}
    assert len(answered) > 30
    assert len(answered & flagged) < len(answered) / 10
    labels = big.labels()
    assert all(labels[int(item[1:])] == WRONG[guess[item]] for item in answered)


def test_what_is_drawn_and_not_answered_changes_no_figure_and_is_told(big: toy.Work) -> None:
    lr.relabel(big.job)
    review(big, 80)
    lr.relabel(big.job)
    before = big.summary["spot_checks"]
    assert before["unanswered"] == 0
    draw_sample(Review(big.run_folder), 200)
    lr.relabel(big.job)
    after = big.summary["spot_checks"]
    assert after["unanswered"] == 200
    for name, share in before["estimates"].items():
        assert after["estimates"][name] == pytest.approx(share, abs=1e-3), name
    assert after["certificate"]["label_accuracy"] == pytest.approx(
        before["certificate"]["label_accuracy"], abs=0.005
    )
    assert "provisional: 200 that were drawn" in (big.run_folder / "report.md").read_text()


def test_what_the_gate_withdraws_is_no_change_and_no_rollback_brings_it_back(big: toy.Work) -> None:
    big.write_lines(
        "recorded.jsonl", [{"id": f"i{n}", "label": WRONG[toy.truth(n)]} for n in range(ROWS)]
    )
    big.write_job(decide={"policy": "replace"})
    lr.relabel(big.job)
    review(big, 80)
    run = lr.relabel(big.job)
    given = [line["label"] for line in big.lines("../data.jsonl")]
    changed = [f"i{n}" for n, label in enumerate(big.labels()) if label != given[n]]
    assert sorted({line["id"] for line in run.changes()}) == sorted(changed)
    withdrawn = [x for x in run.changes(in_force=False) if x["why"] == HELD_BACK]
    assert len(withdrawn) > 20
    assert {x["id"] for x in withdrawn}.isdisjoint(changed)
    run.rollback(rounds=[2])
    labels = big.labels()
    assert all(labels[int(x["id"][1:])] == given[int(x["id"][1:])] for x in withdrawn)


def test_no_round_is_vetoed_whose_changes_are_all_held_back(work: toy.Work) -> None:
    assert "was rolled back" in misled(work)["reason"]
    review(work, 40)
    summary = lr.relabel(work.job).summary
    assert "rolled_back" not in summary["rounds"][0]
    assert summary["spot_checks"]["certificate"]["n"] == 40


def test_the_log_names_the_policy_that_spot_checks_chose(big: toy.Work) -> None:
    lr.relabel(big.job)
    review(big, 80)
    run = lr.relabel(big.job)
    chosen = run.summary["policy"]
    newest = [x for x in run.changes() if x["round"] == len(run.summary["rounds"])]
    assert newest
    assert {x["policy"] for x in newest} == {chosen}


def test_effort_finds_what_a_judge_was_overruled_on(big: toy.Work) -> None:
    lr.relabel(big.job)
    labels = big.labels()
    drawn = draw_sample(Review(big.run_folder), 0, 10)
    assert drawn.attention == 10
    said = {line["id"]: line["label"] for line in big.lines("../recorded.jsonl")}
    [first, *_] = big.lines("review/sample.jsonl")
    assert said[first["id"]] != labels[int(first["id"][1:])]
