"""Figures by class: counts before and after, confusions, and definitions that are mistaken."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.report.reading import RunRead
from llm_relabel.tasks import is_one_choice
from llm_relabel.units import Labels, counts_by_name, differs, has_label

MATRIX_CLASSES = 12  # more cells than these squared cannot be read on a phone
CONFUSABLE = 8
NO_LABEL = "(no label)"


def by_class(read: RunRead) -> list[dict[str, Any]]:
    """Rows of each class before and after, and how many left it and came to it, in definition
    order; classes without any left out."""
    old, new = (_counts(read, labels) for labels in (read.given, read.final))
    left, came = np.maximum(old - new, 0).sum(0), np.maximum(new - old, 0).sum(0)
    before, after = old.sum(0), new.sum(0)
    found = [
        {"label": name, "before": int(before[c]), "left": int(left[c]), "came": int(came[c]),
         "after": int(after[c])}
        for c, name in enumerate(read.names)
    ]  # fmt: skip
    had, has = has_label(read.given), has_label(read.final)
    found.append({
        "label": NO_LABEL,
        "before": int((~had).sum()), "left": int((~had & has).sum()),
        "came": int((had & ~has).sum()), "after": int((~has).sum()),
    })  # fmt: skip
    return [entry for entry in found if entry["before"] or entry["after"]]


def kinds(read: RunRead) -> list[dict[str, Any]]:
    """Kinds of label errors, for tasks that have them: by kind and name how often the small model's
    prediction of round 1 says so of a flagged row, how often a change mended it, and, where there
    is gold, how many were there before and are there now. Empty where a task has no kinds."""
    if not read.rounds:
        return []
    first = read.rounds[0]
    flagged = np.flatnonzero(first.flagged).tolist()
    sides = {
        "doubted": [(first.current[row], first.predicted[row]) for row in flagged],
        "changed": list(zip(read.given.tolist(), read.final.tolist(), strict=True)),
    }
    if read.gold is not None:
        known = np.flatnonzero(has_label(read.gold)).tolist()
        for name, labels in (("before", read.given), ("after", read.final)):
            sides[name] = [(labels[row], read.gold[row]) for row in known]
    counts = {name: Counter[tuple[str, str]]() for name in sides}
    for name, pairs in sides.items():
        for old, new in pairs:
            if old != new:
                counts[name].update(read.task.kinds_between(old, new))
    every = sorted(set().union(*counts.values()))
    return [
        {"kind": kind, "label": label, **{name: counts[name][kind, label] for name in counts}}
        for kind, label in every
    ]


def confusions(read: RunRead) -> list[dict[str, Any]]:
    """Matrices of the newest round: the small model against current labels, and against gold.

    Only where every item is one unit. Of many classes the ones confused most are shown,
    and `left_out` counts the others.
    """
    if not is_one_choice(read.task) or not read.rounds:
        return []
    last = read.rounds[-1]
    found = [_matrix(read, "current label", last.current, last.predicted)]
    if read.gold is not None and has_label(read.gold).any():
        found.append(_matrix(read, "trusted label", read.gold, last.predicted))
    return found


def confusable(read: RunRead) -> list[dict[str, Any]]:
    """Pairs of classes that are mistaken for each other, the most mistaken first.

    `changed` counts labels that moved between the two, either way; `confused` the rows of round
    1 whose label is the one and whose prediction is the other.
    """
    if not read.rounds:
        return []
    first = read.rounds[0]
    moved = _between(read, read.given, read.final)
    confused = _between(read, first.current, first.predicted)
    both = moved + confused
    both = np.triu(both + both.T, k=1)
    largest = np.argsort(-both, axis=None, kind="stable")[:CONFUSABLE]
    pairs = []
    for place in largest.tolist():
        a, b = divmod(place, len(read.names))
        if both[a, b] == 0:
            break
        pairs.append({
            "labels": [read.names[a], read.names[b]],
            "definitions": [_definition(read, name) for name in (read.names[a], read.names[b])],
            "changed": int(moved[a, b] + moved[b, a]),
            "confused": int(confused[a, b] + confused[b, a]),
        })  # fmt: skip
    return pairs


def _matrix(read: RunRead, against: str, truth: Labels, predicted: Labels) -> dict[str, Any]:
    rows = has_label(truth) & has_label(predicted)
    counts = _product(_counts(read, truth)[rows], _counts(read, predicted)[rows])
    off = counts - np.diag(np.diag(counts))
    used = np.flatnonzero(counts.sum(0) + counts.sum(1))
    mistaken = (off.sum(0) + off.sum(1))[used]
    shown = np.sort(used[np.argsort(-mistaken, kind="stable")[:MATRIX_CLASSES]])
    return {
        "against": against,
        "labels": [read.names[c] for c in shown],
        "counts": counts[np.ix_(shown, shown)].tolist(),
        "left_out": int(used.size - shown.size),
        "rows": int(rows.sum()),
        "same": int(np.diag(counts).sum()),
    }


def _between(read: RunRead, one: Labels, other: Labels) -> NDArray[np.int64]:
    """(names, names) how often an item has the first in `one` only, the second in `other`."""
    rows = has_label(one) & has_label(other) & differs(one, other)
    left, right = _counts(read, one)[rows], _counts(read, other)[rows]
    return _product(np.maximum(left - right, 0), np.maximum(right - left, 0))


def _product(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    # float64 holds every count exactly, and its product is the fast one.
    product = left.T.astype(np.float64) @ right.astype(np.float64)
    return np.asarray(np.rint(product), dtype=np.int64)


def _counts(read: RunRead, labels: Labels) -> NDArray[np.int64]:
    """(rows, names) how often each item has each name; 0 where its label is missing."""
    units = read.task.units({"labels": labels})
    return counts_by_name(units, read.task.codes(units, labels))


def _definition(read: RunRead, name: str) -> str:
    found = read.definitions.labels.get(name) if read.definitions is not None else None
    return found.definition if found is not None else ""
