"""`run`: one process's work on one run folder, round after round."""

from __future__ import annotations

import asyncio
from typing import Any

from llm_relabel.config.job import Job
from llm_relabel.engine.status import Summary
from llm_relabel.errors import Paused
from llm_relabel.evidence.views import Reading
from llm_relabel.judge.asking import outside_event_loops
from llm_relabel.judge.opening import open_judges
from llm_relabel.judge.seam import Judges
from llm_relabel.models import SmallModel
from llm_relabel.people.answers import read_answers
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.progress import Progress, Relay, Silent
from llm_relabel.rounds import stages_of
from llm_relabel.rounds.allocate import Allocation
from llm_relabel.rounds.deciding import Deciding
from llm_relabel.rounds.results import Results
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.rounds.waves import Judging
from llm_relabel.run_folder.folder import RunFolder


def run_job(
    job: Job, *, progress: Progress | None = None, pilot_size: int | None = None
) -> Summary:
    """Run, or go on with, the whole job.

    `pilot_size`: judge so many issues of the first round, and stop with a projection, unless that
    was done before. Raises Paused when it stopped on purpose; dataset, summary and report are
    written then too. Any other RelabelError means that nothing was spent.
    """
    made = outside_event_loops(lambda: _opened(job, progress or Silent(), pilot_size))
    return Summary(job.output_path, made)


def _opened(job: Job, progress: Progress, pilot_size: int | None) -> dict[str, Any]:
    """Open all that the rounds work with, let them work, and close it."""
    with progress.step("Reading and checking the data"):
        prepared = prepare(job)
    for warning in prepared.warnings:
        progress.note(f"Warning: {warning}")
    allocation, steps = Allocation(prepared), Relay()
    # Judges and model are opened before the folder is touched: a bad key or name leaves no run.
    model = prepared.small_model(steps)
    if prepared.own_predictions is None:
        model.open()
    folder = RunFolder(job.output_path)
    # One event loop for the whole run: a provider's connections belong to the loop they were made
    # in.
    with folder.held(), asyncio.Runner() as loop:
        judges = _judges(prepared, model, folder)
        folder.start(job, prepared.identity(), prepared.definitions)
        judging = Judging(prepared, folder, judges, loop, progress)
        work = Work(
            prepared=prepared, run=folder, judges=judges, model=model, model_steps=steps,
            judging=judging, allocation=allocation, deciding=Deciding(prepared),
            results=Results(prepared, folder, judges), progress=progress,
            reading=_reading(prepared, model), pilot_size=pilot_size,
        )  # fmt: skip
        try:
            return _Run(work).to_its_end()
        finally:
            loop.run(judges.aclose())


def _reading(prepared: Prepared, model: SmallModel) -> Reading | None:
    """None where a model of the verdicts would say nothing: the job has its own predictions, its
    judge sees only what the small model sees, or its task has no use for it."""
    sees_the_same = prepared.job.judge.provider == "embedded"
    if prepared.own_predictions is not None or sees_the_same or not prepared.task.weighs_sides:
        return None
    return Reading(prepared.task, prepared.given, model.out_of_fold)


def _judges(prepared: Prepared, model: SmallModel, run: RunFolder) -> Judges:
    spent = sum(
        verdict.cost or 0.0
        for number in range(1, prepared.job.rounds + 1)
        for verdict in run.verdicts(number)
    )
    return open_judges(
        prepared.job,
        prepared.task,
        prepared.definitions,
        cache=prepared.cache,
        model=model,
        spent=spent,
        folder=run.path,
    )


class _Run:
    """The rounds of one process. `state` is the newest, so that a pause writes what there is."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._state: RoundState | None = None

    def to_its_end(self) -> dict[str, Any]:
        """All rounds; whatever ends them, its reason is in the summary."""
        self._finish("running", "")
        try:
            reason = self._rounds()
        except Paused as pause:
            self._finish("paused", str(pause))
            raise
        except KeyboardInterrupt:
            self._finish("interrupted", "stopped from outside; the same command goes on")
            raise
        except BaseException as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        return self._finish("done", reason)

    def _finish(self, status: str, reason: str) -> dict[str, Any]:
        state = self._state
        tallies, audits = ((), ()) if state is None else (state.tallies, state.audits)
        return self._work.results.write(tallies, audits, status=status, reason=reason)

    def _rounds(self) -> str:
        """Why the last round was the last."""
        work, rounds = self._work, self._work.prepared.job.rounds
        spot_checked = bool(read_answers(work.run, work.prepared.task))
        last = work.results.last_round(rounds, spot_checked=spot_checked)
        state = RoundState.first()
        for number in range(1, last + 1):
            state = self._round(state if number == 1 else state.next())
            if not state.changed:
                if stopped := work.allocation.stopped:
                    why = stopped["why"]
                    return f"round {number} changed nothing and asked no further: {why}"
                return f"round {number} changed nothing, so a further round would see the same"
            if state.tally.rolled_back is not None:
                return state.tally.rolled_back
        if last < rounds:
            return f"round {last} was decided again with the spot-checks; it had been the last"
        return f"all {rounds} rounds are done" if rounds > 1 else "the round is done"

    def _round(self, state: RoundState) -> RoundState:
        self._state = state
        for after in stages_of(self._work, state):
            self._state = state = after
        return state
