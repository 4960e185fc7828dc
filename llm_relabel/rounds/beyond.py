"""What is asked beyond the flagged rows: some drawn at random, and as many more as pay.

Rows that the small model does not doubt are drawn at random and judged with the flagged ones:
they show what flagging misses, and how right the judge is where nobody doubted the label. Where
all evidence expects that judging them mended enough, the run goes on to the other rows, those
first whose verdict is expected to mend most, part after part, as long as the last part paid.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.judges import PEOPLE
from llm_relabel.evidence.beliefs import Beliefs
from llm_relabel.evidence.policies import resolved_policy
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.evidence.views import FEWEST_UNDOUBTED
from llm_relabel.files.journal import write_lines
from llm_relabel.prepared import Prepared
from llm_relabel.records import LabelIssue
from llm_relabel.rounds.allocate import PARTS, SMALLEST_PART, Allocation, within_budget
from llm_relabel.rounds.state import Work
from llm_relabel.run_folder.lines import issue_line
from llm_relabel.units import Labels, differs, has_label

# Rows that are drawn where the job does not say and the task weighs sides.
SAMPLE = 200
# With fewer rows that nobody doubts, a sample of them would say nothing.
FEWEST_TO_DRAW = 2 * FEWEST_UNDOUBTED
# A budget is there for the doubted rows: drawn ones take at most this share of it.
SHARE_OF_BUDGET = 0.2
# Labels mended a call, as all evidence believes, below which no further row is asked about where
# the job does not say what a mended label is worth. It was set as what a call should bring at
# least, not fitted: 1% to 5% ask the same of most recorded judges of evals/sets.py.
WORTH_A_CALL = 0.02

Beyond = Literal["drawn", "extended"]


def sample_size(prepared: Prepared) -> int:
    """How many rows that nobody doubts are to be drawn."""
    wanted = prepared.job.detect.sample
    if wanted is not None:
        return wanted
    return SAMPLE if prepared.task.weighs_sides else 0


def draws(prepared: Prepared) -> bool:
    """Whether the job draws rows that nobody doubts: where the evidence is fused, and a small
    model can be trained on the verdicts."""
    job = prepared.job
    return (
        bool(sample_size(prepared))
        and resolved_policy(job) == "fuse"
        and prepared.own_predictions is None
        and PEOPLE not in job.judge.member_names
    )


def drawn_issues(
    prepared: Prepared, predicted: Predicted, issues: Sequence[LabelIssue],
    open_rows: NDArray[np.bool_],
) -> list[LabelIssue]:  # fmt: skip
    """The job's sample of rows that are open, labeled and not flagged, in the order drawn."""
    if not draws(prepared):
        return []
    rows = unflagged(predicted, issues, open_rows)
    if len(rows) < FEWEST_TO_DRAW:
        return []
    count, budget = sample_size(prepared), prepared.job.detect.budget
    if budget is not None:
        whole = budget * len(prepared.dataset) if isinstance(budget, float) else budget
        count = min(count, int(SHARE_OF_BUDGET * whole))
    rng = random.Random(f"{prepared.job.seed}:drawn")
    chosen = rng.sample(rows.tolist(), min(count, len(rows)))
    return as_issues(prepared, predicted, np.array(chosen, dtype=np.int64), "drawn")


def unflagged(
    predicted: Predicted, issues: Sequence[LabelIssue], open_rows: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The open, labeled rows whose label the small model predicts too."""
    free = open_rows & has_label(predicted.given) & ~differs(predicted.given, predicted.labels)
    free[[issue.row for issue in issues]] = False
    return np.flatnonzero(free)


def as_issues(
    prepared: Prepared, predicted: Predicted, rows: NDArray[np.int64], reason: Beyond
) -> list[LabelIssue]:
    """Rows in the form in which a judge is asked about them."""
    ids = prepared.dataset.ids.take(rows).to_pylist() if len(rows) else []
    return [
        LabelIssue(
            row=row, id=item_id, given_label=predicted.given[row],
            current_label=predicted.current[row], predicted_label=predicted.labels[row],
            label_quality=round(float(predicted.quality[row]), 6), reason=reason,
        )
        for row, item_id in zip(rows.tolist(), ids, strict=True)
    ]  # fmt: skip


def write_beyond(work: Work, number: int, issues: Sequence[LabelIssue]) -> None:
    """Write `beyond.jsonl`, the round's items that were asked about without being flagged."""
    texts = work.prepared.dataset.text
    write_lines(
        work.run.round(number) / "beyond.jsonl",
        (issue_line(issue, texts[issue.row].as_py()) for issue in issues),
    )


class Extension:
    """The parts that a run goes on to, one after another. `stopped` says why there are no more."""

    def __init__(
        self, prepared: Prepared, allocation: Allocation, predicted: Predicted, current: Labels
    ) -> None:
        self._prepared, self._allocation = prepared, allocation
        self._predicted, self._current = predicted, current
        self.stopped: dict[str, Any] = {}

    def parts(
        self,
        rows: NDArray[np.int64],
        drawn: Sequence[LabelIssue],
        done: Sequence[LabelIssue],
        believed: Callable[[Sequence[LabelIssue]], Beliefs],
        *,
        asked: Collection[str],
    ) -> Iterator[list[LabelIssue]]:
        """Parts of `rows`, while the part before (first: the `drawn` rows) paid.

        `believed` gives the beliefs by the verdicts on the issues it is called with.
        """
        done, last = list(done), list(drawn)
        left = as_issues(self._prepared, self._predicted, rows, "extended")
        size = len(left) if self._allocation.slow else max(SMALLEST_PART, -(-len(left) // PARTS))
        counted = set(asked) | {issue.id for issue in done}
        while left:
            beliefs = believed(done)
            if not self._paid(beliefs, last):
                return
            ranked = self._allocation.ranked(left, beliefs, self._current, self._predicted.labels)
            budget = self._prepared.job.detect.budget
            part = within_budget(ranked, budget, len(self._prepared.dataset), counted)[:size]
            if not part:
                self.stopped = {"why": "detect.budget is used up"}
                return
            yield part
            done += part
            given_out = {issue.id for issue in part}
            counted |= given_out
            left = [issue for issue in left if issue.id not in given_out]
            last = part
        self.stopped = {"why": "every item was asked about"}

    def _paid(self, beliefs: Beliefs, last: Sequence[LabelIssue]) -> bool:
        """Whether the verdicts on the `last` part are believed to have mended enough."""
        rows = np.array([issue.row for issue in last], dtype=np.int64)
        now, then = beliefs.belief_in(self._current)[rows], beliefs.belief_in(beliefs.labels)[rows]
        mended = float((then - now).clip(0).mean()) if len(rows) else 0.0
        value = self._prepared.job.detect.value_per_fix
        least, why = WORTH_A_CALL, ""
        if value is not None:
            least = self._allocation.price(rows) / value
            why = ", which is less than they cost at detect.value_per_fix"
        if mended >= least:
            return True
        self.stopped = {
            "why": f"of the last {len(rows):,} items asked about that nobody doubted, the answers "
            f"are believed to have mended {mended:.1%}{why or f', below {least:.0%}'}",
            "believed_mended": round(mended, 4),
        }
        return False
