"""Whether a round made the labels worse, by trusted labels: then it is rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_relabel.audit import Audited
from llm_relabel.measure import told

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
