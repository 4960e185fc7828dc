"""What a run did to the labels, against gold: every figure with its interval.

Gold is read here after everything is decided. Figures of the judge are of the items it was
asked about, which are the doubtful ones: they are lower than on items drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement import confidence as stated
from llm_relabel.agreement.gold import (
    average_precision,
    changes_against_gold,
    flagging_against_gold,
    gained_figure,
    measured_figure,
    wrong,
)
from llm_relabel.agreement.intervals import Figure, bootstrapped, lower_bounds, share
from llm_relabel.measure import described
from llm_relabel.tasks import Task
from llm_relabel.units import Labels, differs, has_label

GRID = 200  # label qualities are told apart to so many ranks in the bootstrap
POINTS = 120  # of a curve that is drawn


@dataclass(frozen=True)
class RoundLabels:
    """One round's labels and flags. `current` is what it began with, `after` what it ended with.

    `flagged` (rows,) bool; `quality` (rows,), LOWER is worse; `asked` the rows in the order of
    asking, `calls` what each took.
    """

    current: Labels
    predicted: Labels
    after: Labels
    flagged: NDArray[np.bool_]
    quality: NDArray[np.float32]
    asked: NDArray[np.int64]
    calls: NDArray[np.int64]


def run_measures(
    task: Task, given: Labels, final: Labels, gold: Labels, rounds: Sequence[RoundLabels]
) -> dict[str, Any]:
    """Labels before and after, where each change went, the flags, the rounds and the curve."""
    counts = changes_against_gold(task, given, final, gold)
    known, rows = has_label(gold), counts["rows"]
    wrong_after = wrong(task.measure, final, gold) & known
    missed = wrong_after & ~differs(given, final)
    flagged = np.zeros(len(known), dtype=np.bool_)
    for each in rounds:
        flagged |= each.flagged
    by_round = [_round(task, gold, each) for each in rounds]
    better, worse = counts["fixed"], counts["broken"]
    return {
        "rows": rows,
        **described(task.measure),
        "labels_before": measured_figure(task, given, gold).as_json(),
        "labels_after": measured_figure(task, final, gold).as_json(),
        "difference": gained_figure(task, given, final, gold).as_json(),
        "by_origin": _by_origin(task, given, final, gold),
        "fixed": better,
        "broken": worse,
        "wrong_to_wrong": counts["wrong_to_wrong"],
        "missed": int(missed.sum()),
        "missed_unflagged": int((missed & ~flagged).sum()),
        "missed_kept": int((missed & flagged).sum()),
        # Of the changes that made a difference; the bound is what a gate would look at.
        "fixed_of_changed": {
            **share(better, better + worse).as_json(),
            "one_sided_low": _one_sided(better, better + worse),
        },
        "flagging": by_round[0]["flagging"] if rounds else None,
        "rounds": by_round,
        "curve": measured_by_calls(task, gold, rounds),
    }


def _by_origin(task: Task, given: Labels, final: Labels, gold: Labels) -> dict[str, Any] | None:
    """Rows that had a label (repaired) and rows that had none (filled), apart; None where all had
    one: filling is not repairing, and a mean over both says little of either."""
    known, had = has_label(gold), has_label(given)
    if not (known & ~had).any():
        return None
    repaired, filled = gold.copy(), gold.copy()
    repaired[~had], filled[had] = None, None
    return {
        "repaired": {
            "rows": int((known & had).sum()),
            "labels_before": measured_figure(task, given, repaired).as_json(),
            "labels_after": measured_figure(task, final, repaired).as_json(),
        },
        "filled": {
            "rows": int((known & ~had).sum()),
            "labels_after": measured_figure(task, final, filled).as_json(),
        },
    }


def measured_by_calls(
    task: Task, gold: Labels, rounds: Sequence[RoundLabels]
) -> list[dict[str, Any]]:
    """The measure after so many calls, as if the verdicts had come in the order of asking.

    The first point of each round, its last, and some between.
    """
    measure, points, spent = task.measure, list[dict[str, Any]](), 0
    if not has_label(gold).any():
        return []
    for number, each in enumerate(rounds, start=1):
        before, after = (measure.counts(labels, gold) for labels in (each.current, each.after))
        gained = np.cumsum((after - before)[each.asked], axis=0)
        sums = before.sum(axis=0) + np.concatenate([np.zeros((1, before.shape[1])), gained])
        values = measure.value(sums)
        calls = spent + np.concatenate([[0], np.cumsum(each.calls)])
        shown = np.unique(np.linspace(0, len(calls) - 1, POINTS).round().astype(np.int64))
        points += [
            {"round": number, "calls": int(calls[at]), "labels": float(values[at])}
            for at in shown.tolist()
        ]
        spent = int(calls[-1])
    return points


def calls_saved(rows: int, each_item: float, calls: int) -> dict[str, Any]:
    """Against judging every row once, at `each_item` calls (the first round's, retries and all).

    `rows` could have been asked about; `calls` were made, in all rounds.
    """
    everything = round(each_item * rows) or None
    return {
        "rows": rows,
        "calls": calls,
        "everything": everything,
        "saved": 1 - min(calls / everything, 1.0) if everything else None,
    }


def judge_against_gold(
    right: NDArray[np.bool_], confidence: NDArray[np.float64], asked: int,
    given_right: NDArray[np.bool_],
) -> dict[str, Any]:  # fmt: skip
    """One judge on the items with gold that it was asked about.

    `right` and `confidence` (answered,), NaN where none is stated; `asked` counts abstained and
    failed items too. `given_right` (answered,) is whether the given label was right there.
    """
    found: dict[str, Any] = {
        "asked": asked,
        "coverage": share(len(right), asked).as_json(),
        "accuracy": {
            "abstained_wrong": share(int(right.sum()), asked).as_json(),
            "answered_only": share(int(right.sum()), len(right)).as_json(),
        },
        "given_labels": share(int(given_right.sum()), len(given_right)).as_json(),
        "against_labels": _stands(int(right.sum()) - int(given_right.sum()), len(right)),
    }
    told = stated.count_stated(confidence, right, asked)
    if told is not None:
        found["confidence"] = {
            "stated": int(told.counts.sum()),
            "calibration_error": stated.calibration_error(told).as_json(),
            "auroc": stated.discrimination(told).as_json(),
            "reliability": stated.reliability(told),
        }
    return found


def _stands(ahead: int, of: int) -> str:
    """How a judge stands against the given labels of the same items, in one of three strata."""
    if ahead > 0:
        return "better than the labels"
    return "up to ten points worse" if ahead >= -0.1 * of else "far worse than the labels"


def scored(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The small model's score on dev, as a round's facts hold it, with its interval."""
    if facts and "figure" in facts:
        return dict(facts["figure"])
    if not facts or facts.get("accuracy") is None:
        return None
    rows = int(facts["rows"])
    return share(round(facts["accuracy"] * rows), rows).as_json()


def _round(task: Task, gold: Labels, each: RoundLabels) -> dict[str, Any]:
    def right(labels: Labels) -> dict[str, Any]:
        return measured_figure(task, labels, gold).as_json()

    return {
        "labels_before": right(each.current),
        "labels_after": right(each.after),
        "model_out_of_fold": right(each.predicted),
        "flagging": _flagging(task, gold, each),
    }


def _flagging(task: Task, gold: Labels, each: RoundLabels) -> dict[str, Any]:
    known = has_label(gold)
    amiss = wrong(task.measure, each.current, gold)[known]
    flagged = each.flagged[known]
    hits = int((flagged & amiss).sum())
    exact = flagging_against_gold(task.measure, each.current, gold, each.flagged, each.quality)
    return {
        "precision": share(hits, int(flagged.sum())).as_json(),
        "recall": share(hits, int(amiss.sum())).as_json(),
        "average_precision": _average_precision(
            amiss, each.quality[known], exact["flag_average_precision"]
        ).as_json(),
    }


def _average_precision(
    wrong: NDArray[np.bool_], quality: NDArray[np.float32], exact: float | None
) -> Figure:
    """The exact value, with the interval of its counterpart over ranked groups of equal size."""
    if exact is None:
        return Figure(None, None, None, 0)
    edges = np.unique(np.quantile(quality, np.linspace(0, 1, GRID + 1)[1:-1]))
    place = np.searchsorted(edges, quality, side="left")
    counts = np.bincount(2 * place + wrong, minlength=2 * (len(edges) + 1))
    near = bootstrapped(counts, average_precision)
    if near.low is None or near.high is None:
        return Figure(exact, None, None, int(wrong.sum()))
    # Groups tie what the exact value tells apart; the interval moves with it.
    shift = exact - (near.value or 0.0)
    low, high = max(0.0, near.low + shift), min(1.0, near.high + shift)
    return Figure(exact, low, high, int(wrong.sum()))


def _one_sided(count: int, of: int) -> float | None:
    """The one-sided 95% lower bound of a proportion (Clopper and Pearson, 1934)."""
    if not of:
        return None
    return float(lower_bounds(count, of))
