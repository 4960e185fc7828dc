"""Spot-checks decide: policy, gate, certificate, and people's own answers, in whole runs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import toy
from audited import ROWS, review
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_relabel as lr
from llm_relabel.agreement.intervals import lower_bounds
from llm_relabel.audit.checks import Audits
from llm_relabel.review import Review, draw_sample, import_answers
from llm_relabel.units import no_labels


def test_the_last_round_is_decided_again_without_a_call(big: toy.Work) -> None:
    lr.relabel(big.job)
    before = big.summary
    assert before["gated"] is False
    assert before["spot_checks"] is None
    page = (big.run_folder / "report.md").read_text()
    assert "Nobody has looked at a sample" in page
    asks = [big.lines(f"round-{n}/asks.jsonl") for n in (1, 2)]
    review(big, 80)
    lr.relabel(big.job)
    after = big.summary
    assert [big.lines(f"round-{n}/asks.jsonl") for n in (1, 2)] == asks
    checked = after["spot_checks"]
    assert checked["drawn_at_random"] == checked["certificate"]["n"] == 80
    told = checked["certificate"]["label_accuracy"]
    assert told["low"] <= after["gold"]["labels_after"] <= told["high"]
    assert checked["certificate"]["residual_noise"]["high"] == pytest.approx(1 - told["low"])
    assert after["gated"] is True
    assert after["policy"] == checked["policy"] in checked["estimates"]
    assert "Certified: labels right" in (big.run_folder / "report.md").read_text()
    # A person's answer is final: every answered row carries it.
    labels = big.labels()
    answers = big.lines("review/answers.jsonl")
    assert all(labels[int(line["id"][1:])] == line["answer"] for line in answers)
    lr.relabel(big.job)
    assert big.summary["gold"] == after["gold"], "running again changes nothing"


def test_a_judge_that_breaks_labels_is_gated_away(big: toy.Work) -> None:
    """The judge is never right; `replace` follows it, the gate does not."""
    wrong = dict(zip(toy.NAMES, toy.NAMES[1:] + toy.NAMES[:1], strict=True))
    big.write_lines(
        "recorded.jsonl", [{"id": f"i{n}", "label": wrong[toy.truth(n)]} for n in range(ROWS)]
    )
    big.write_job(decide={"policy": "replace"})
    lr.relabel(big.job)
    harmed = big.summary["gold"]["labels_after"]
    assert harmed < big.summary["gold"]["labels_before"]
    review(big, 80)
    lr.relabel(big.job)
    summary = big.summary
    assert summary["spot_checks"]["held_back"] > 0
    assert not any(group["applied"] for group in summary["spot_checks"]["gate"])
    assert summary["gold"]["labels_after"] >= summary["gold"]["labels_before"]
    # Held back changes are taken back in the log, not forgotten.
    assert any(line["kind"] == "change" for line in lr.Run(big.run_folder).changes(in_force=False))


def test_min_precision_holds_back_what_is_not_proved_that_precise(big: toy.Work) -> None:
    lr.relabel(big.job)
    review(big, 80)
    lr.relabel(big.job, overrides=["decide.min_precision=99%"])
    strict = big.summary
    assert strict["spot_checks"]["held_back"] > 0
    humans = len(big.lines("review/answers.jsonl"))
    assert strict["changed"] <= humans
    done = big.run("run", str(big.job), "--min-precision", "60%")
    assert done.returncode == 0, done.stderr
    assert big.summary["changed"] > humans
    done = big.run("run", str(big.job), "--min-precision", "lots")
    assert done.returncode == 2
    assert "like 90%" in done.stderr


def test_few_answers_are_final_but_choose_nothing(big: toy.Work) -> None:
    lr.relabel(big.job)
    policy = big.summary["policy"]
    review(big, 16)
    lr.relabel(big.job)
    checked = big.summary["spot_checks"]
    assert "certify nothing" in checked["note"]
    assert big.summary["policy"] == policy
    labels = big.labels()
    assert all(
        labels[int(line["id"][1:])] == line["answer"] for line in big.lines("review/answers.jsonl")
    )


def test_asked_about_everything_spot_checks_choose_where_the_judge_is_heard(
    big: toy.Work,
) -> None:
    big.write_job(detect={"quality": 0.999})
    assert lr.relabel(big.job).summary["rounds"][0]["judged"] == ROWS
    review(big, 60)
    estimates = lr.relabel(big.job).summary["spot_checks"]["estimates"]
    assert set(estimates) == {
        "fuse", "fuse doubted", "pool", "agree", "replace", "replace doubted", "keep"
    }  # fmt: skip
    assert min(estimates["replace"], estimates["replace doubted"]) > estimates["keep"]


def test_spot_checks_and_not_gold_decide(big: toy.Work) -> None:
    lr.relabel(big.job)
    review(big, 60)
    lr.relabel(big.job)
    labels = big.labels()
    rows = [json.loads(line) for line in big.data.read_text().splitlines()]
    golds = [row["gold"] for row in rows]
    random.Random(1).shuffle(golds)
    answers = (big.run_folder / "review").rename(big.folder / "kept-review")
    big.write_rows([{**row, "gold": gold} for row, gold in zip(rows, golds, strict=True)])
    big.write_job(output="other")
    big.run_folder = big.folder / "other"
    lr.relabel(big.job)
    Path(answers).rename(big.run_folder / "review")
    lr.relabel(big.job)
    assert big.labels() == labels


@given(st.integers(0, 60), st.integers(0, 60))
def test_lower_bound_is_clopper_and_pearsons(wins: int, losses: int) -> None:
    bound = lower_bounds(wins, wins + losses)
    assert 0 <= bound <= (wins / (wins + losses) if wins else 0)
    if wins and not losses:
        assert bound == pytest.approx(0.05 ** (1 / wins))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 2000)), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
def test_strata_weigh_by_their_size_and_the_interval_holds_the_mean(
    strata: list[tuple[int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    counts = [count for count, _ in strata]
    sizes = np.array([max(count, size) for count, size in strata], dtype=float)
    stratum = np.repeat(np.arange(len(strata)), counts)
    rows = len(stratum)
    audits = Audits(np.arange(rows), no_labels(rows), stratum, sizes)
    values = (rng.random(rows) < 0.6).astype(float)
    wanted = (
        sum(size * values[stratum == code].mean() for code, size in enumerate(sizes)) / sizes.sum()
    )
    assert audits.mean(values) == pytest.approx(wanted)
    figure = audits.interval(values)
    assert figure.low is not None
    assert figure.high is not None
    assert 0 <= figure.low <= wanted <= figure.high <= 1
    folds = audits.folds(seed)
    for code, count in enumerate(counts):
        spread = np.bincount(folds[stratum == code], minlength=4)
        assert spread.sum() == count
        assert spread.max() - spread.min() <= 1


def test_unsure_answers_are_no_random_part_of_the_others(big: toy.Work) -> None:
    """People are unsure of what is wrong: the truth stays inside, the interval says why."""
    lr.relabel(big.job)
    labels = big.labels()
    opened = Review(big.run_folder)
    draw_sample(opened, 120)
    wrong = {f"i{n}" for n in range(ROWS) if labels[n] != toy.truth(n)}
    asked = sorted(opened.folder.asked())
    unsure = {item_id for item_id in asked if item_id in wrong}
    out = big.write_lines(
        "answers.jsonl",
        [
            {
                "id": i,
                "answer": None if i in unsure else toy.truth(int(i[1:])),
                "unsure": i in unsure,
            }
            for i in asked
        ],
    )
    import_answers(opened, out, "ann")
    summary = lr.relabel(big.job).summary
    certificate = summary["spot_checks"]["certificate"]
    told = certificate["label_accuracy"]
    assert certificate["unsure"] == len(unsure) > 5
    assert certificate["n"] == 120 - len(unsure)
    assert told["value"] > summary["gold"]["labels_after"]
    assert told["low"] <= summary["gold"]["labels_after"] <= told["high"]
    report = (big.run_folder / "report.md").read_text(encoding="utf-8")
    assert f"{len(unsure)} more were unsure" in report


def test_locked_rows_are_not_certified(big: toy.Work) -> None:
    rows = [json.loads(line) for line in big.data.read_text().splitlines()]
    for row in rows:
        row["closed"] = row["label"] != row["gold"]
    big.write_rows(rows)
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id",
            "gold": "gold", "locked": "closed"}  # fmt: skip
    big.write_job(data=data)
    lr.relabel(big.job)
    review(big, 60)
    lr.relabel(big.job)
    open_rows = sum(not row["closed"] for row in rows)
    assert big.summary["spot_checks"]["certificate"]["rows"] == open_rows < ROWS
    report = (big.run_folder / "report.md").read_text(encoding="utf-8")
    assert f"of the {open_rows} rows that are not locked" in report
    assert "Labels still wrong, as the spot-checks certify" in report
    assert "Clopper" in report


def test_what_was_rolled_back_is_certified_no_more(big: toy.Work) -> None:
    lr.relabel(big.job)
    review(big, 100)
    before = lr.relabel(big.job).summary["spot_checks"]["certificate"]
    done = big.run("rollback", str(big.run_folder), "--all")
    assert done.returncode == 0, done.stderr
    assert "label_accuracy" not in big.summary["spot_checks"]["certificate"]
    assert "rolled back since" in (big.run_folder / "report.md").read_text(encoding="utf-8")
    lr.relabel(big.job)
    after = big.summary["spot_checks"]["certificate"]
    assert after["other_labels"] > 20
    assert after["label_accuracy"]["low"] < before["label_accuracy"]["low"]
    assert after["label_accuracy"]["low"] <= big.summary["gold"]["labels_after"]


def test_spot_checks_of_a_run_that_ended_early_begin_no_round(work: toy.Work) -> None:
    """The judge keeps every label, so the run ends after round 1; people change some."""
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    work.write_lines("recorded.jsonl", [{"id": row["id"], "label": row["label"]} for row in rows])
    work.write_job(decide={"policy": "replace"}, rounds=3)
    assert len(lr.relabel(work.job).summary["rounds"]) == 1
    review(work, 30)
    summary = lr.relabel(work.job).summary
    assert summary["changed"] > 0
    assert len(summary["rounds"]) == 1
    work.write_job(decide={"policy": "replace"}, rounds=4)
    assert len(lr.relabel(work.job).summary["rounds"]) > 1


def test_a_precision_that_nothing_proves_is_told(big: toy.Work) -> None:
    big.write_job(decide={"min_precision": "90%"})
    lr.relabel(big.job)
    report = (big.run_folder / "report.md").read_text(encoding="utf-8")
    assert "90% was not applied" in report
