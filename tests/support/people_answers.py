"""What people answer as the judge."""

from __future__ import annotations

from typing import Any

import toy

from llm_relabel.people.folder import PersonsAnswer
from llm_relabel.review import Review


def say(review: Review, answers: dict[str, Any], reviewer: str = "ann", note: str = "") -> None:
    """Answer as the page does; None is unsure."""
    asked = review.folder.asked()
    given = [PersonsAnswer(i, reviewer, a, a is None, note) for i, a in answers.items()]
    with review.folder.held():
        review.folder.append_answers(given, asked)


def truths(review: Review) -> dict[str, str]:
    return {item: toy.truth(int(item[1:])) for item in review.asked_ids()}
