"""The test once more, under another judge than the one that chose the guideline."""

from __future__ import annotations

from typing import Any

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.provenance import now
from llm_relabel.tune.split import FIRST, SECOND, TEST
from llm_relabel.tune.testing import tested
from llm_relabel.tune.tuning import Tuning


def repeated(
    tuning: Tuning, judge: str, guide: LabelDefinitions, form: str | None
) -> dict[str, Any]:
    """What `judge`, which is the tuning's, says under `guide` and the form of the prompt.

    Gives items, fixed, broken, p and `told`. Raises Paused.
    """
    tuning.folder.mkdir(parents=True, exist_ok=True)
    parts = [TEST] if tuning.mode == "locked" else [FIRST, SECOND]
    alpha = tuning.settings.alpha
    desk = tuning.desk()
    try:
        desk.allow(desk.budget.calls + tuning.settings.max_calls)
        found = tested(
            (desk, desk.in_form(form)), tuning.gold, tuning.parts, tuning.start,
            [(part, guide) for part in parts], alpha=alpha, look=1,
        )  # fmt: skip
    finally:
        desk.close()
    holds = "holds" if found.p <= alpha else "is not proved"
    told = (
        f"under {judge} the tuned guideline {holds}: {found.fixed} fixed, {found.broken} "
        f"broken of {found.items}, p = {found.p:.2g} (one further test on the same items; it "
        "chose nothing)"
    )
    return {"judge": judge, "items": found.items, "fixed": found.fixed,
            "broken": found.broken, "p": found.p, "told": told, "at": now()}  # fmt: skip
