"""Stage 3: the flagged issues are judged, part after part, as far as they are worth it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from llm_relabel.errors import Paused
from llm_relabel.evidence import policies
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.people.answers import confirmed_labels
from llm_relabel.records import LabelIssue
from llm_relabel.rounds import pilot
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.rounds.controls import ControlPool
from llm_relabel.rounds.evidence import believed_by
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.rounds.waves import Judged
from llm_relabel.units import has_label

PILOT = "pilot.json"


def stage(work: Work, state: RoundState) -> RoundState:
    """Ask about the round's issues; a pause is kept in what was judged."""
    assert state.predicted is not None
    judged = _judged(work, state, state.predicted)
    stopped = work.allocation.stopped or None
    return replace(state, judged=judged, tally=replace(state.tally, stopped=stopped))


def _judged(work: Work, state: RoundState, predicted: Predicted) -> Judged:
    prepared, deciding, number = work.prepared, work.deciding, state.number
    names = {
        judge.name: prepared.labels_sha256(deciding.current)
        for judge in work.judges
        if not judge.repeatable
    }
    planner = AskPlanner(prepared, number, predicted, names)
    trusted = has_label(deciding.current)
    trusted[[issue.row for issue in state.issues]] = False
    evidence = RoundEvidence(
        model=work.model,
        labels=deciding.current,
        trusted=trusted,
        groups=prepared.dataset.groups,
        number=number,
    )
    open_issues = [issue for issue in state.issues if _can_change(work, state, issue)]
    first, watch = list[LabelIssue](), None
    if number == 1 and (work.pilot_size is not None or (work.run.path / PILOT).exists()):
        foreseen = work.allocation.foreseen(open_issues, predicted)
        found = pilot.load(work.run.path / PILOT)
        if found is None:
            return _pilot(work, planner, foreseen, evidence)
        first = pilot.draw(foreseen, found.judged, prepared.job.seed)
        if prepared.job.judge.breakers.replacement is not None:
            watch = pilot.ReplacementWatch(found, open_issues, prepared.job.judge.breakers).hear
    pool = ControlPool(
        state.issues, deciding.current, confirmed_labels(work.run, prepared.task, number)
    )
    # The pilot's issues, which mostly are none, and the journals of the round.
    judged = work.judging.judge(planner, first, evidence, watch=watch, pool=pool)
    for part in work.allocation.parts(
        open_issues,
        state.asked,
        lambda done: believed_by(work, number, predicted, {issue.id for issue in done})[1],
        deciding.without_spot_checks,
        predicted.labels,
        done=first,
    ):
        if judged.pause is not None:
            break
        judged.add(work.judging.judge(planner, part, evidence, watch=watch, pool=pool))
    return judged


def _can_change(work: Work, state: RoundState, issue: LabelIssue) -> bool:
    """Whether a verdict could change the label. Under `fuse` an earlier one still counts."""
    policy = work.deciding.policy
    counts = policy == "fuse" and issue.row in state.answered_rows and work.judges.first.repeatable
    return policies.can_change(policy, issue) and not counts


def _pilot(
    work: Work, planner: AskPlanner, foreseen: Sequence[LabelIssue], evidence: RoundEvidence
) -> Judged:
    """Judge a few issues, and stop with what they foretell."""
    assert work.pilot_size is not None
    began = time.monotonic()
    drawn = pilot.draw(foreseen, work.pilot_size, work.prepared.job.seed)
    judged = work.judging.judge(planner, drawn, evidence)
    if judged.pause is not None or not judged.opinions:
        return judged
    # Too few verdicts to fuse; how often the judge would be followed is what is projected.
    policy = "replace" if work.deciding.policy == "fuse" else work.deciding.policy
    task = work.prepared.task
    found = pilot.measured(
        drawn,
        len(foreseen),
        judged.opinions,
        [
            decision
            for issue in drawn
            if issue.id in judged.opinions
            for decision in policies.decide(issue, judged.opinions[issue.id], task, policy)
        ],
        work.run.verdicts(planner.number),
        time.monotonic() - began,
    )
    pilot.save(work.run.path / PILOT, found)
    judged.pause = Paused(
        f"{found.told()}\nThe same command, with or without --pilot, judges the rest."
    )
    return judged
