"""Stage 2: out-of-fold predictions become ranked label issues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement import flagging_against_gold
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files import journal
from llm_relabel.prepared import Prepared
from llm_relabel.records import LabelIssue
from llm_relabel.rounds.beyond import drawn_issues
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.run_folder.lines import issue_line
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


def stage(work: Work, state: RoundState) -> RoundState:
    """Flag the rows that are open, against labels that people's answers had no part in."""
    predicted, deciding = state.predicted, work.deciding
    assert predicted is not None
    open_rows = ~work.prepared.dataset.locked
    open_rows[list(deciding.frozen | deciding.answered_by_people)] = False
    issues = flag(work.prepared, predicted, open_rows, deciding.without_spot_checks)
    rows = np.array([issue.row for issue in issues], dtype=np.int64)
    texts = work.prepared.dataset.text.take(rows)
    journal.write_lines(
        work.run.round(state.number) / "issues.jsonl",
        (issue_line(issue, text.as_py()) for issue, text in zip(issues, texts, strict=True)),
    )
    doubted = {issue.row for issue in issues if issue.reason != "low_quality"}
    drawn = drawn_issues(work.prepared, predicted, issues, open_rows) if state.number == 1 else []
    if work.reading is not None and drawn:
        work.reading.drawn = {issue.row for issue in drawn}
    return replace(
        state,
        issues=tuple(issues),
        drawn=tuple(drawn),
        doubted=state.doubted | doubted,
        tally=replace(state.tally, flagged=len(issues), gold=_measured(work, rows, predicted)),
    )


def _measured(work: Work, rows: NDArray[np.int64], predicted: Predicted) -> Mapping[str, Any]:
    """How well the flagged `rows` are the wrong ones, where gold says which are."""
    gold, labels = work.prepared.gold, work.deciding.without_spot_checks
    if gold is None:
        return {}
    flagged = np.zeros(len(labels), dtype=np.bool_)
    flagged[rows] = True
    quality = predicted.quality_of(labels)
    return dict(flagging_against_gold(predicted.task.measure, labels, gold, flagged, quality))
