"""What will be asked: label issues for the judge, and one ask for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llm_relabel.detect import find_issues
from llm_relabel.preparation import Prepared
from llm_relabel.prompts import choose_candidates
from llm_relabel.records import Ask, LabelIssue, LabelValue, Targets


def flag(
    prepared: Prepared,
    current: Targets,
    pred_probs: NDArray[np.float32],
    open_rows: NDArray[np.bool_],
) -> list[LabelIssue]:
    """The round's label issues, the worst first."""
    return find_issues(
        prepared.task,
        prepared.dataset.ids,
        prepared.given,
        current,
        pred_probs,
        open_rows=open_rows,
        low_quality=prepared.job.detect.quality,
    )


def plan_asks(
    prepared: Prepared,
    number: int,
    issues: Sequence[LabelIssue],
    pred_probs: NDArray[np.float32],
    judge: str,
    state: str = "",
) -> list[Ask]:
    """One ask for each issue, in their order.

    An ask's id follows from what is asked, so that a resumed run knows what was answered;
    `state` joins it for a judge whose verdicts depend on the round's labels.
    """
    job, asks = prepared.job, []
    for issue in issues:
        candidates: tuple[LabelValue, ...] = ()
        if job.judge.evidence == "referenced":
            runner_up = prepared.task.runner_up(pred_probs[issue.row])
            candidates = choose_candidates(issue, runner_up=runner_up, seed=job.seed)
        asked = [number, issue.id, job.judge.evidence, candidates, judge, state]
        ask_id = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:20]
        asks.append(
            Ask(
                ask_id=ask_id,
                id=issue.id,
                row=issue.row,
                purpose="label",
                evidence=job.judge.evidence,
                candidates=candidates,
                judge=judge,
            )
        )
    return asks
