"""Stage 4: everything that was said becomes decisions, and decisions the current labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llm_relabel.agreement import labels_after
from llm_relabel.audit import AuditEvidence, decide_by, spot_checks_to_settle
from llm_relabel.evidence import beliefs
from llm_relabel.evidence.beliefs import Beliefs
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files import journal
from llm_relabel.people.answers import SpotCheck, read_answers, unanswered
from llm_relabel.provenance import now
from llm_relabel.rounds import controls
from llm_relabel.rounds.deciding import Decided
from llm_relabel.rounds.evidence import believed_by
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.rounds.tally import RoundTally, SourceFacts
from llm_relabel.run_folder import changes
from llm_relabel.run_folder.lines import decision_line, latest
from llm_relabel.units import differs


def stage(work: Work, state: RoundState) -> RoundState:
    """Decide the judged issues, and under `fuse` or by spot-checks every other row."""
    predicted, judged = state.predicted, state.judged
    assert predicted is not None
    assert judged is not None
    prepared, number = work.prepared, state.number
    said, believed = believed_by(work, number, predicted)
    if number == 1:
        work.deciding.first_doubted = state.doubted
    doubted = np.zeros_like(believed.judged)
    doubted[list(state.doubted)] = True
    audited = decide_by(
        _spot_checks(work, predicted), unanswered(work.run), number, prepared,
        AuditEvidence(predicted, said, doubted),
    )  # fmt: skip
    decided = work.deciding.decide(number, judged.issues, judged.opinions, believed, audited)
    if audited is None or audited.choice is None:
        decided = replace(decided, sources=_foreseen(work, decided.sources, believed))
    _log(work, number, decided, believed)
    answered = np.flatnonzero(believed.judged & ~believed.silent).tolist()
    return replace(
        state,
        decided=decided,
        audits=(*state.audits, audited),
        asked=state.asked | judged.opinions.keys(),
        answered_rows=state.answered_rows | set(answered),
        tally=_tallied(work, state.tally, decided),
    )


def _spot_checks(work: Work, predicted: Predicted) -> list[SpotCheck]:
    """What people answered, in the places of the labels that their items have."""
    prepared = work.prepared
    columns = (prepared.given, work.deciding.current, predicted.labels)

    def anchored(check: SpotCheck) -> SpotCheck:
        row = prepared.row_of.get(check.id)
        known = [] if row is None else [labels[row] for labels in columns]
        return replace(check, answer=prepared.task.anchored(check.answer, known))

    return [anchored(check) for check in read_answers(work.run, prepared.task)]


def _foreseen(work: Work, sources: SourceFacts | None, believed: Beliefs) -> SourceFacts:
    """The facts, with how many spot-checks it would take where none decided."""
    assert sources is not None
    current, given = work.deciding.current, work.prepared.given
    needed = spot_checks_to_settle(
        believed.judged, believed.belief_in(current), believed.belief_in(given),
        differs(given, current), work.prepared.dataset.locked,
    )  # fmt: skip
    return replace(sources, spot_checks_to_settle=needed, foreseen=True)


def _log(work: Work, number: int, decided: Decided, believed: Beliefs) -> None:
    """Decisions, changes and beliefs into the run folder."""
    folder = work.run.round(number)
    journal.write_lines(folder / "decisions.jsonl", map(decision_line, decided.decisions))
    work.run.append_changes(changes.reconcile(work.run.changes(), number, decided.changes, now()))
    beliefs.save(
        folder / beliefs.FILE, work.prepared.dataset.ids, believed, work.deciding.current,
        decided.at_odds,
    )  # fmt: skip


def _tallied(work: Work, tally: RoundTally, decided: Decided) -> RoundTally:
    prepared, gold = work.prepared, dict(tally.gold)
    if prepared.gold is not None:
        gold |= labels_after(prepared.task, work.deciding.current, prepared.gold)
    found = None
    if prepared.job.judge.controls:
        run = work.run
        verdicts = latest(run.verdicts(tally.number))
        found = controls.measure(run.asks(tally.number), verdicts, prepared.task) or None
    return replace(decided.counted(tally), controls=found, gold=gold)
