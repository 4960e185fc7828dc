"""Stage 5: the next version of the dataset, and the summary so far."""

from __future__ import annotations

from llm_relabel.rounds.state import RoundState, Work


def stage(work: Work, state: RoundState) -> RoundState:
    """Write what was decided.

    Also after a pause, which is raised then: what was paid for is decided and written, and the
    rest waits for the same command.
    """
    work.results.write_dataset(work.run.round(state.number), work.deciding.current)
    work.progress.note(state.tally.told())
    work.results.write(state.tallies, state.audits, status="running", reason="")
    if state.judged is not None and state.judged.pause is not None:
        raise state.judged.pause
    return state
