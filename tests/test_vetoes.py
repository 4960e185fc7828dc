"""A round that trusted labels show to be worse is rolled back, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
import toy
from audited import misled, review

import llm_relabel as lr
from llm_relabel.audit import Audited, Audits, Choice
from llm_relabel.rounds.veto import by_spot_checks
from llm_relabel.units import column


def test_a_round_that_makes_the_model_worse_on_dev_is_taken_back(work: toy.Work) -> None:
    """The judge is never right and is followed; data.dev notices."""
    summary = misled(work)
    first = summary["rounds"][0]
    assert first["replaced"] > 20
    assert first["dev_after"] < first["dev"]["accuracy"]
    assert "was rolled back" in summary["reason"]
    assert summary["changed"] == 0
    assert work.labels() == [toy.given(n) for n in range(toy.ROWS)]
    report = (work.run_folder / "report.md").read_text(encoding="utf-8")
    assert "ound 1 was rolled back" in report
    log = (work.run_folder / "changes.jsonl").read_text()
    assert lr.relabel(work.job).summary["changed"] == 0
    assert (work.run_folder / "changes.jsonl").read_text() == log
    assert summary["rolled_back"] == 0, "no person took anything back"


@pytest.mark.parametrize("calls_a_second", [1, 1000])
def test_what_a_person_said_stays_when_the_round_goes(
    work: toy.Work, monkeypatch: pytest.MonkeyPatch, calls_a_second: int
) -> None:
    clock = count()

    def ticking() -> str:
        return f"2026-01-01T00:00:{next(clock) // calls_a_second:02}Z"

    for stage in ("decide", "veto"):
        monkeypatch.setattr(f"llm_relabel.rounds.{stage}.now", ticking)
    misled(work)
    review(work, 16)
    summary = lr.relabel(work.job).summary
    answers = {int(line["id"][1:]): line["answer"] for line in work.lines("review/answers.jsonl")}
    assert any(answer != toy.given(row) for row, answer in answers.items())
    assert work.labels() == [answers.get(n, toy.given(n)) for n in range(toy.ROWS)]
    assert "was rolled back" in summary["spot_checks"]["note"]
    log = (work.run_folder / "changes.jsonl").read_text()
    lr.relabel(work.job)
    assert (work.run_folder / "changes.jsonl").read_text() == log


def audited(rows: Sequence[int], right: Sequence[int], *, strata: Sequence[int]) -> Audited:
    """One round as its spot-checks judge it; the first stratum has 90 rows, the second 10."""
    labels = column(["a"] * len(rows))
    values = np.array(right, dtype=np.float64)
    choice = Choice(
        policy="fuse", labels=labels, rejected=np.zeros(len(rows), dtype=bool), estimates={}, p=1.0,
        gate=[], right=values, right_as_chosen=values, without_spot_checks=labels,
    )  # fmt: skip
    audits = Audits(np.array(rows), labels, np.array(strata), np.array([90.0, 10.0]))
    return Audited({}, choice, {}, audits)


def test_a_round_goes_that_lowers_the_audited_accuracy() -> None:
    strata = [0, 0, 1, 1]
    before = audited([1, 2, 3, 4], [1, 1, 0, 0], strata=strata)
    # One of the large stratum is lost and both of the small one are won: fewer rows are right.
    worse = audited([1, 2, 3, 4], [1, 0, 1, 1], strata=strata)
    assert before.choice is not None
    why = by_spot_checks(3, before, worse)
    assert why is not None
    assert "round 3 was rolled back" in why
    assert "55.0%" in why
    assert "90.0%" in why
    assert by_spot_checks(3, worse, before) is None
    assert by_spot_checks(3, before, before) is None


def test_only_what_both_rounds_audited_is_held_against_each_other() -> None:
    before = audited([1, 2], [1, 1], strata=[0, 1])
    after = audited([1, 2, 5, 6], [1, 1, 0, 0], strata=[0, 1, 0, 1])
    assert by_spot_checks(2, before, after) is None
    assert by_spot_checks(2, None, after) is None
    assert by_spot_checks(2, before, Audited({}, None, {})) is None
    assert after.against(before) == pytest.approx((1.0, 1.0))
