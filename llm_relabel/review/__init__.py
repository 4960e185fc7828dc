"""What people are asked, and what they answered: blind spot-checks, and the questions of a judge.

In a spot-check a person sees the item and the label definitions, and never the old label, a
prediction or a verdict. `sampling` draws, `page` and the exchange formats ask, `answers` reads what
was said. The judge `people` asks by the same page and formats, in a folder of its own.
"""

from llm_relabel.people.answers import (
    SpotCheck,
    confirmed_labels,
    read_answers,
    reviewers_agreement,
    unanswered,
)
from llm_relabel.people.spot_checks import DrawnItem
from llm_relabel.review.drawing import Drawn, draw_sample, stratum_sizes
from llm_relabel.review.exchange import EXPORTS, export_items, import_answers
from llm_relabel.review.opening import Questions, Review, open_review

__all__ = [
    "EXPORTS",
    "Drawn",
    "DrawnItem",
    "Questions",
    "Review",
    "SpotCheck",
    "confirmed_labels",
    "draw_sample",
    "export_items",
    "import_answers",
    "open_review",
    "read_answers",
    "reviewers_agreement",
    "stratum_sizes",
    "unanswered",
]
