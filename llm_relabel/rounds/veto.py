"""Stage 6: a round that made the labels worse, by trusted labels, is rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_relabel.audit import Audited
from llm_relabel.measure import told
from llm_relabel.provenance import now
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.rounds.train import predictions_of
from llm_relabel.run_folder import changes

ROUNDING = 1e-9


def by_spot_checks(number: int, before: Audited | None, after: Audited | None) -> str | None:
    """Why round `number` goes, if fewer labels are right by the spot-checks than before it."""
    found = after.against(before) if before is not None and after is not None else None
    if found is None or found[1] >= found[0] - ROUNDING:
        return None
    return (
        f"round {number} was rolled back: by the spot-checks {found[1]:.1%} of its labels are "
        f"right, before it {found[0]:.1%}"
    )


def by_dev(number: int, dev: Mapping[str, Any], after: float) -> str | None:
    """Why round `number` goes, if the small model is worse on `data.dev` for its labels.

    `dev` is the score before, as the round's facts hold it.
    """
    before = dev["accuracy"]
    if after >= before:
        return None
    if "measure" in dev:
        return (
            f"round {number} was rolled back: trained on its labels the small model's "
            f"{dev['measure']} on data.dev is {told(after, dev)}, before it {told(before, dev)}"
        )
    return (
        f"round {number} was rolled back: trained on its labels the small model is right in "
        f"{after:.1%} of data.dev, before in {before:.1%}"
    )


def stage(work: Work, state: RoundState) -> RoundState:
    """Take the round back that lowers the audited accuracy, or the small model's on `data.dev`."""
    decided, tally = state.decided, state.tally
    if decided is None or all(change.source == "human" for change in decided.changes):
        return state  # what people answered stays
    before, after = [None, *state.audits][-2:]
    why, source = by_spot_checks(state.number, before, after), changes.SPOT_CHECKS
    if why is None and "dev" in tally.model:
        again = predictions_of(work, state.number + 1).facts["dev"]["accuracy"]
        tally = replace(tally, dev_after=again)
        why, source = by_dev(state.number, tally.model["dev"], again), changes.DEV
    if why is not None:
        tally = replace(tally, rolled_back=why)
        work.run.append_changes(_undone(work, state.number, why, source))
        work.progress.note(why)
    return replace(state, tally=tally)


def _undone(work: Work, number: int, why: str, source: str) -> list[dict[str, Any]]:
    def of_the_round(line: Mapping[str, Any]) -> bool:
        # What a person answered stays, whatever becomes of the round.
        return bool(line["round"] == number and line["source"] != "human")

    return changes.roll_back(work.run.changes(), of_the_round, why=why, at=now(), source=source)
