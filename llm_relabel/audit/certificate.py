"""How good the final labels are, by a probability sample that people looked at blind."""

from __future__ import annotations

from typing import Any

from llm_relabel.audit.checks import FOLDS, Audits, Values
from llm_relabel.audit.choosing import Choice


def certify(audits: Audits, choice: Choice, rows: int, *, seed: int = 0) -> dict[str, Any]:
    """Final label accuracy and residual noise with 95% intervals, of the `rows` that can change.

    Each audit judges the label that the procedure gave without it (cross-fitting), so the audits
    that chose the policy do not certify their own choice. Audited rows carry the person's label:
    what was wrong among them is known, and mended, and added to what the sample says of all rows.
    Of the drawn items that people are unsure of the low end takes all for wrong, the high end for
    right.
    """
    figure = audits.interval(choice.right, seed=seed)
    if figure.value is None or figure.low is None or figure.high is None:
        return {"n": 0, "note": "no spot-check was drawn at random, so nothing is certified"}
    # Without one audit a gate that just passed may fail, so the cross-fitted figure can be far
    # too low; never too high. The upper end looks at both.
    chosen = audits.interval(choice.right_as_chosen, seed=seed)
    assert chosen.high is not None

    def final(share: float, right: Values) -> float:
        return min(1.0, share + float(len(audits) - right.sum()) / rows)

    high = max(final(figure.high, choice.right), final(chosen.high, choice.right_as_chosen))
    accuracy = {
        "value": final(figure.value, choice.right), "low": final(figure.low, choice.right),
        "high": high,
    }  # fmt: skip
    return {
        "label_accuracy": accuracy,
        "residual_noise": {
            "value": 1 - accuracy["value"], "low": 1 - accuracy["high"],
            "high": 1 - accuracy["low"],
        },
        "rows": rows,
        "n": len(audits),
        "unsure": 0 if audits.unsure is None else int(audits.unsure.sum()),
        "strata": len(audits.sizes),
        "method": (
            "stratified blind sample; for each audit policy and gate were chosen by the others, "
            f"and labels learned in {FOLDS} folds; Clopper-Pearson bounds by stratum, combined by "
            "simulation"
        ),
    }  # fmt: skip


def as_written(certificate: dict[str, Any], others: int) -> dict[str, Any]:
    """The certificate of a dataset in which `others` rows have another label than was certified.

    Rows that people rolled back, that a veto holds or that are frozen may all be wrong, or all be
    right: both ends of the interval allow for it.
    """
    if not others or "label_accuracy" not in certificate:
        return certificate
    told, share = certificate["label_accuracy"], others / certificate["rows"]
    low, high = max(0.0, told["low"] - share), min(1.0, told["high"] + share)
    return {
        **certificate,
        "label_accuracy": {"value": told["value"], "low": low, "high": high},
        "residual_noise": {"value": 1 - told["value"], "low": 1 - high, "high": 1 - low},
        "other_labels": others,
    }
