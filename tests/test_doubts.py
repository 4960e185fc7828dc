"""A run without spot-checks says what makes its evidence doubtful, and what would settle it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
import yaml
from audited import review

import llm_relabel as lr

ROWS = 600
NAMES = ("fruit", "tool")


def two_classes(work: toy.Work, judged_right: Any) -> dict[str, Any]:
    """A run on 600 rows of two classes, a quarter of the labels wrong, and a small model that is
    right as often as it says; `judged_right` maps a row's number to whether the judge is."""
    rng = np.random.default_rng(3)
    rows, probs, told = [], [], []
    for row in range(ROWS):
        right, wrong = NAMES[row % 2], NAMES[1 - row % 2]
        rows.append({"id": f"i{row}", "text": f"{right} {row}", "gold": right,
                     "label": right if rng.random() > 0.25 else wrong})  # fmt: skip
        sure = float(rng.uniform(0.5, 1))
        guess = right if rng.random() < sure else wrong
        pred_probs = [sure if name == guess else 1 - sure for name in NAMES]
        probs.append({"id": f"i{row}", "pred_probs": pred_probs})
        told.append({"id": f"i{row}", "label": right if judged_right(rng) else wrong})
    work.write_rows(rows)
    work.write_lines("predictions.jsonl", probs)
    work.write_lines("recorded.jsonl", told)
    labels = {name: f"A kind of {name}." for name in NAMES}
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    work.write_job(rounds=1)
    return dict(lr.relabel(work.job).summary)


def test_a_judge_that_guesses_is_told(work: toy.Work) -> None:
    doubts = two_classes(work, lambda rng: rng.random() < 0.5)["doubts"]
    assert any("go with nothing else" in doubt or "weak witness" in doubt for doubt in doubts)


def test_a_good_judge_raises_no_doubt(work: toy.Work) -> None:
    summary = two_classes(work, lambda rng: rng.random() < 0.92)
    assert summary["doubts"] == []
    assert summary["spot_checks_to_settle"] <= 200


@pytest.mark.parametrize("right", [0.5, 0.92])
def test_the_report_says_how_many_spot_checks_settle_it(work: toy.Work, right: float) -> None:
    summary = two_classes(work, lambda rng: rng.random() < right)
    report = (work.run_folder / "report.md").read_text(encoding="utf-8")
    count = summary["spot_checks_to_settle"]
    assert (f"About {count:,} spot-checks" if count else "so thin that") in report


def test_the_number_foretold_is_enough(work: toy.Work) -> None:
    """Draw as many as the run asks for, answer truly: the gate passes its changes."""
    summary = two_classes(work, lambda rng: rng.random() < 0.92)
    count = summary["spot_checks_to_settle"]
    review(work, count, say=lambda row: NAMES[row % 2])
    after = dict(lr.relabel(work.job).summary)
    assert after["spot_checks"]["gate"][-1]["applied"]
    assert after["spot_checks_to_settle"] is None
