"""Out-of-fold predictions become ranked label issues."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_relabel.evidence.predicted import Predicted
from llm_relabel.prepared import Prepared
from llm_relabel.records import LabelIssue
from llm_relabel.units import Labels, differs, has_label


def find_issues(
    ids: Any,
    predicted: Predicted,
    *,
    open_rows: NDArray[np.bool_],
    labels: Labels | None = None,
    low_quality: float | None = None,
) -> list[LabelIssue]:
    """Every row whose label deserves a judge, the worst first.

    `ids` is the Arrow id column, `open_rows` (rows,) bool the rows that may change at all, `labels`
    what is flagged against, the current labels unless given. A row is flagged when it has no
    label, when its predicted label differs, or, with `low_quality`, when its label quality is
    below that value. Missing labels come first, then the lowest label quality; equal ones
    keep the order of the data.
    """
    labels = predicted.current if labels is None else labels
    quality = predicted.quality_of(labels)
    missing = ~has_label(labels)
    disagree = differs(labels, predicted.labels) & ~missing
    low = quality < low_quality if low_quality is not None else np.zeros_like(disagree)
    rows = np.flatnonzero((missing | disagree | low) & open_rows)
    rows = rows[np.argsort(np.where(missing[rows], -1.0, quality[rows]), kind="stable")]
    flagged_ids = ids.take(rows).to_pylist() if len(rows) else []
    issues = []
    for row, item_id in zip(rows.tolist(), flagged_ids, strict=True):
        reason: Literal["disagreement", "low_quality", "missing"] = (
            "missing" if missing[row] else "disagreement" if disagree[row] else "low_quality"
        )
        issues.append(
            LabelIssue(
                row=row,
                id=item_id,
                given_label=predicted.given[row],
                current_label=labels[row],
                predicted_label=predicted.labels[row],
                label_quality=round(float(quality[row]), 6),
                reason=reason,
            )
        )
    return issues


def flag(
    prepared: Prepared,
    predicted: Predicted,
    open_rows: NDArray[np.bool_],
    labels: Labels | None = None,
) -> list[LabelIssue]:
    """The round's label issues, the worst first; `labels` None: the current ones."""
    return find_issues(
        prepared.dataset.ids,
        predicted,
        open_rows=open_rows,
        labels=labels,
        low_quality=prepared.job.detect.quality,
    )
