"""Human spot-checks: which items a person is asked about, and what people answered.

A person sees the item and the label definitions, and never the old label, a prediction or a
verdict. `sampling` draws, `page` and the exchange formats ask, `answers` reads what was said.
"""

from llm_relabel.review.answers import (
    SpotCheck,
    confirmed_labels,
    read_answers,
    reviewers_agreement,
)
from llm_relabel.review.drawing import Drawn, draw_sample, stratum_sizes
from llm_relabel.review.exchange import EXPORTS, export_items, import_answers
from llm_relabel.review.opening import Review

__all__ = [
    "EXPORTS",
    "Drawn",
    "Review",
    "SpotCheck",
    "confirmed_labels",
    "draw_sample",
    "export_items",
    "import_answers",
    "read_answers",
    "reviewers_agreement",
    "stratum_sizes",
]
