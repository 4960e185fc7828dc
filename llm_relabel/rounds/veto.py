"""Whether a round made the labels worse, by trusted labels: then it is rolled back."""

from __future__ import annotations

from llm_relabel.audit import Audited

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


def by_dev(number: int, before: float, after: float) -> str | None:
    """Why round `number` goes, if the small model is worse on `data.dev` for its labels."""
    if after >= before:
        return None
    return (
        f"round {number} was rolled back: trained on its labels the small model is right in "
        f"{after:.1%} of data.dev, before in {before:.1%}"
    )
