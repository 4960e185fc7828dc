"""How good the final labels are, by a probability sample that people looked at blind."""

from __future__ import annotations

from typing import Any

from llm_relabel.audit.checks import FOLDS, Audits
from llm_relabel.audit.choosing import Choice


def certify(audits: Audits, choice: Choice, rows: int, *, seed: int = 0) -> dict[str, Any]:
    """Final label accuracy and residual noise with 95% intervals; `rows` are in the data.

    Each audit judges the label that the procedure gave without it (cross-fitting), so the audits
    that chose the policy do not certify their own choice. Audited rows carry the person's label;
    they count as right, the others as the sample says.
    """
    figure = audits.interval(choice.right, seed=seed)
    if figure.value is None or figure.low is None or figure.high is None:
        return {"n": 0, "note": "no spot-check was drawn at random, so nothing is certified"}
    audited = min(1.0, len(audits) / rows)

    def with_audited(share: float) -> float:
        return audited + (1 - audited) * share

    accuracy = {
        "value": with_audited(figure.value), "low": with_audited(figure.low),
        "high": with_audited(figure.high),
    }  # fmt: skip
    return {
        "label_accuracy": accuracy,
        "residual_noise": {
            "value": 1 - accuracy["value"], "low": 1 - accuracy["high"],
            "high": 1 - accuracy["low"],
        },
        "n": len(audits),
        "strata": len(audits.sizes),
        "method": (
            "stratified blind sample; for each audit policy and gate were chosen by the others, "
            f"and labels learned in {FOLDS} folds; Clopper-Pearson bounds by stratum, combined by "
            "simulation"
        ),
    }  # fmt: skip
