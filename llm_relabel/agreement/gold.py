"""Measures against gold. Gold is only ever read here, after everything is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import Figure, bootstrapped, share
from llm_relabel.measure import Measure, described
from llm_relabel.tasks import Task
from llm_relabel.units import Labels, differs, has_label


def measured(task: Task, labels: Labels, gold: Labels) -> float | None:
    """The task's measure of labels on the rows with gold; None where no row has any."""
    if not has_label(gold).any():
        return None
    return float(task.measure.value(task.measure.counts(labels, gold).sum(axis=0)))


def measured_figure(task: Task, labels: Labels, gold: Labels, *, seed: int = 0) -> Figure:
    """`measured` with its 95% interval: exact for proportions, else of items drawn anew."""
    measure, known = task.measure, has_label(gold)
    counts = measure.counts(labels, gold)[known]
    if measure.proportion:
        return share(int(counts[:, 0].sum()), int(counts[:, 1].sum()))
    if not len(counts):
        return Figure(None, None, None, 0)
    alike, sizes = np.unique(counts, axis=0, return_counts=True)
    found = bootstrapped(sizes, lambda drawn: measure.value(drawn @ alike), seed=seed)
    return replace(found, percent=measure.percent)


def gained_figure(
    task: Task, before: Labels, after: Labels, gold: Labels, *, seed: int = 0
) -> Figure:
    """The measure after less that before, of the same items, with its 95% interval."""
    measure, known = task.measure, has_label(gold)
    was, now = (measure.counts(labels, gold)[known] for labels in (before, after))
    if measure.proportion:  # only items that were right or are right alone move it
        moved = (now - was)[:, 0]
        up, down = int((moved > 0).sum()), int((moved < 0).sum())

        def gain(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray((drawn[:, 0] - drawn[:, 1]) / drawn.sum(-1))

        return bootstrapped(np.array([up, down, len(moved) - up - down]), gain, seed=seed)
    alike, sizes = np.unique(np.hstack([was, now]), axis=0, return_counts=True)
    first, then = np.split(alike, 2, axis=1)

    def difference(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        return measure.value(drawn @ then) - measure.value(drawn @ first)

    return replace(bootstrapped(sizes, difference, seed=seed), percent=measure.percent)


def labels_after(task: Task, labels: Labels, gold: Labels) -> dict[str, Any]:
    """What a round says of the labels it ended with."""
    return {"labels_after": measured(task, labels, gold), **described(task.measure)}


def changes_against_gold(task: Task, before: Labels, after: Labels, gold: Labels) -> dict[str, Any]:
    """Rows with gold: labels before and after by the task's measure, and where changed rows went.

    `fixed` was wrong and is right, `broken` was right and is wrong, `wrong_to_wrong` changed
    from one wrong label to another, `still_wrong` is wrong and was not touched.
    """
    known = has_label(gold)
    wrong_before = wrong(task.measure, before, gold) & known
    wrong_after = wrong(task.measure, after, gold) & known
    changed = differs(before, after) & known
    return {
        "rows": int(known.sum()),
        **described(task.measure),
        "labels_before": measured(task, before, gold),
        "labels_after": measured(task, after, gold),
        "fixed": int((wrong_before & ~wrong_after).sum()),
        "broken": int((~wrong_before & wrong_after).sum()),
        "wrong_to_wrong": int((wrong_before & wrong_after & changed).sum()),
        "still_wrong": int((wrong_after & ~changed).sum()),
    }


def wrong(measure: Measure, labels: Labels, gold: Labels) -> NDArray[np.bool_]:
    """(rows,) whether a label is wrong by its task's measure; a missing one is."""
    errors = measure.errors(measure.counts(labels, gold))
    return np.asarray((errors > 0) | (~has_label(labels) & has_label(gold)))


def flagging_against_gold(
    measure: Measure,
    labels: Labels,
    gold: Labels,
    flagged: NDArray[np.bool_],
    label_quality: NDArray[np.float32],
) -> dict[str, float | None]:
    """How well flags find wrong labels, on rows with gold: precision, recall, average precision.

    `flagged` (rows,) bool; `label_quality` (rows,), LOWER is worse, ranks for the average
    precision. None where a figure is not defined (nothing flagged, or nothing wrong).
    """
    known = has_label(gold)
    amiss = wrong(measure, labels, gold)[known]
    hits = int((flagged[known] & amiss).sum())
    marked, errors = int(flagged[known].sum()), int(amiss.sum())
    return {
        "flag_precision": hits / marked if marked else None,
        "flag_recall": hits / errors if errors else None,
        "flag_average_precision": _exact_average_precision(amiss, label_quality[known])
        if errors
        else None,
    }


def average_precision(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision from `counts` (draws, 2 * groups): right and wrong rows, worst group first.

    Rows of a group are tied, as in scikit-learn's `average_precision_score`. NaN of no wrong row.
    """
    cells = counts.reshape(len(counts), -1, 2)
    found, seen = np.cumsum(cells[..., 1], -1), np.cumsum(cells.sum(-1), -1)
    out = np.full(len(counts), np.nan)
    weighted = (cells[..., 1] * found / np.maximum(seen, 1)).sum(-1)
    np.divide(weighted, found[..., -1], out=out, where=found[..., -1] > 0)
    return out


def _exact_average_precision(wrong: NDArray[np.bool_], quality: NDArray[np.float32]) -> float:
    _, group = np.unique(quality, return_inverse=True)
    counts = np.bincount(2 * group + wrong, minlength=2 * (int(group.max()) + 1))
    return float(average_precision(counts[None].astype(np.float64))[0])
