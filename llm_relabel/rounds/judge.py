"""Stage 3: the flagged issues are judged, part after part, as far as they are worth it; then the
rows drawn among the others, and as many more as pay."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_relabel.errors import Paused
from llm_relabel.evidence import policies
from llm_relabel.evidence.beliefs import Beliefs
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.judge.asking import Watch
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.people.answers import confirmed_labels
from llm_relabel.records import LabelIssue
from llm_relabel.rounds import pilot
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.rounds.beyond import Extension, unflagged, write_beyond
from llm_relabel.rounds.controls import ControlPool
from llm_relabel.rounds.evidence import believed_by
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.rounds.waves import Judged
from llm_relabel.units import has_label

PILOT = "pilot.json"
CAPPED = "capped"  # in what is told of the rows beyond: the money cap ended it


def stage(work: Work, state: RoundState) -> RoundState:
    """Ask about the round's issues; a pause is kept in what was judged."""
    assert state.predicted is not None
    round_ = _Round(work, state, state.predicted)
    judged = round_.flagged()
    stopped = work.allocation.stopped or None
    spent = any(each.beyond is not None and CAPPED in each.beyond for each in state.earlier)
    if spent and str(judged.pause) in work.judges.budget.refusals:
        stopped, judged.pause = {"why": str(judged.pause)}, None
    beyond = round_.beyond(judged)
    return replace(state, judged=judged, tally=replace(state.tally, stopped=stopped, beyond=beyond))


class _Round:
    """What one round asks."""

    def __init__(self, work: Work, state: RoundState, predicted: Predicted) -> None:
        self._work, self._state, self._predicted = work, state, predicted
        prepared, deciding, number = work.prepared, work.deciding, state.number
        names = {
            judge.name: prepared.labels_sha256(deciding.current)
            for judge in work.judges
            if not judge.repeatable
        }
        self._planner = AskPlanner(prepared, number, predicted, names)
        trusted = has_label(deciding.current)
        trusted[[issue.row for issue in state.issues]] = False
        self._evidence = RoundEvidence(
            model=work.model,
            labels=deciding.current,
            trusted=trusted,
            groups=prepared.dataset.groups,
            number=number,
        )
        self._pool = ControlPool(
            state.issues, deciding.current, confirmed_labels(work.run, prepared.task, number)
        )

    def flagged(self) -> Judged:
        """What came of the label issues."""
        work, state, predicted = self._work, self._state, self._predicted
        prepared, pilot_path = work.prepared, work.run.path / PILOT
        open_issues = [issue for issue in state.issues if _can_change(work, state, issue)]
        first, watch = list[LabelIssue](), None
        if state.number == 1 and (work.pilot_size is not None or pilot_path.exists()):
            foreseen = work.allocation.foreseen(open_issues, predicted)
            found = pilot.load(pilot_path)
            if found is None:
                return _pilot(work, self._planner, foreseen, self._evidence)
            first = pilot.draw(foreseen, found.judged, prepared.job.seed)
            breakers = prepared.job.judge.breakers
            if breakers.replacement is not None:
                watch = pilot.ReplacementWatch(found, open_issues, breakers).hear
        # The pilot's issues, which mostly are none, and the journals of the round.
        judged = self._ask(first, watch)
        for part in work.allocation.parts(
            open_issues,
            state.asked,
            self._believed,
            work.deciding.without_spot_checks,
            predicted.labels,
            done=first,
        ):
            if judged.pause is not None:
                break
            judged.add(self._ask(part, watch))
        return judged

    def beyond(self, judged: Judged) -> Mapping[str, Any] | None:
        """Ask about the drawn rows and those that the run extends to, and add what came of them
        to `judged`. What was done, and why no more; None where nothing was drawn."""
        work, state, predicted = self._work, self._state, self._predicted
        prepared, deciding = work.prepared, work.deciding
        if judged.pause is not None or not state.drawn:
            return None
        before, told = len(judged.issues), dict[str, Any]()
        told["drawn"] = len(state.drawn)
        judged.add(self._ask(state.drawn))
        if prepared.job.detect.extend and judged.pause is None:
            open_rows = ~prepared.dataset.locked
            open_rows[list(deciding.frozen | deciding.answered_by_people)] = False
            rows = unflagged(predicted, (*state.issues, *state.drawn), open_rows)
            extension = Extension(
                prepared, work.allocation, predicted, deciding.without_spot_checks
            )
            for part in extension.parts(
                rows, state.drawn, judged.issues,
                lambda done: self._believed(done, alike=True), asked=state.asked,
            ):  # fmt: skip
                judged.add(self._ask(part))
                if judged.pause is not None:
                    break
            asked = len(judged.issues) - before - len(state.drawn)
            told |= {"extended": asked, **extension.stopped}
        if str(judged.pause) in work.judges.budget.refusals:
            # What is asked beyond the flagged rows may use the money up, and that is no pause.
            told |= {"why": str(judged.pause), CAPPED: True}
            judged.pause = None
        write_beyond(work, state.number, judged.issues[before:])
        return told

    def _ask(self, part: Sequence[LabelIssue], watch: Watch | None = None) -> Judged:
        return self._work.judging.judge(
            self._planner, part, self._evidence, watch=watch, pool=self._pool
        )

    def _believed(self, done: Sequence[LabelIssue], *, alike: bool = False) -> Beliefs:
        only = {issue.id for issue in done}
        return believed_by(self._work, self._state.number, self._predicted, only, alike=alike)[1]


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
