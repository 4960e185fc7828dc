"""How well labels agree: with gold, with each other, among people. Nothing here decides.

`gold.py` measures a run's labels and flags, `measures.py` holds the coefficients,
`intervals.py` puts 95% intervals on every figure, `confidence.py` asks whether a judge knows
when it is right, `paired.py` compares two judges, `raters.py` many people.
"""

from llm_relabel.agreement.gold import (
    changes_against_gold,
    flagging_against_gold,
    labels_after,
    measured,
    measured_figure,
    wrong,
)
from llm_relabel.agreement.intervals import proportion

__all__ = [
    "changes_against_gold",
    "flagging_against_gold",
    "labels_after",
    "measured",
    "measured_figure",
    "proportion",
    "wrong",
]
