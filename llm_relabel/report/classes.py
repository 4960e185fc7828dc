"""Figures by class: counts before and after, confusions, and definitions that are mistaken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.records import Targets
from llm_relabel.report.reading import RunRead

MATRIX_CLASSES = 12  # more cells than these squared cannot be read on a phone
CONFUSABLE = 8
NO_LABEL = "(no label)"


def by_class(read: RunRead) -> list[dict[str, Any]]:
    """Rows of each class before and after, in definition order; classes without any left out."""
    before, after = _counts(read.given), _counts(read.final)
    found = [
        {"label": name, "before": int(before[c]), "after": int(after[c])}
        for c, name in enumerate(read.names)
    ]
    found.append({
        "label": NO_LABEL,
        "before": int((~read.given.known).sum()), "after": int((~read.final.known).sum()),
    })  # fmt: skip
    return [entry for entry in found if entry["before"] or entry["after"]]


def confusions(read: RunRead) -> list[dict[str, Any]]:
    """Matrices of the newest round: the small model against current labels, and against gold.

    Only for classes that exclude each other. Of many classes the ones confused most are shown,
    and `left_out` counts the others.
    """
    if not read.task.exclusive or not read.rounds:
        return []
    last = read.rounds[-1]
    found = [_matrix(read, "current label", last.current, last.predicted)]
    if read.gold is not None and read.gold.known.any():
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
    moved = _between(read.given, read.final)
    confused = _between(first.current, first.predicted)
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


def _matrix(read: RunRead, against: str, truth: Targets, predicted: Targets) -> dict[str, Any]:
    rows = truth.known & predicted.known
    counts = _product(truth.matrix[rows], predicted.matrix[rows])
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


def _between(one: Targets, other: Targets) -> NDArray[np.int64]:
    """(classes, classes) rows that have the first class in `one` only, the second in `other`."""
    rows = one.known & other.known
    differing = rows & (one.matrix != other.matrix).any(1)
    left, right = one.matrix[differing], other.matrix[differing]
    return _product(left & ~right, right & ~left)


def _product(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    # float64 holds every count exactly, and its product is the fast one.
    product = left.T.astype(np.float64) @ right.astype(np.float64)
    return np.asarray(np.rint(product), dtype=np.int64)


def _counts(labels: Targets) -> NDArray[np.int64]:
    return np.asarray(labels.matrix[labels.known].sum(0), dtype=np.int64)


def _definition(read: RunRead, name: str) -> str:
    return read.definitions.labels[name].definition if read.definitions is not None else ""
