"""What people answered, one spot-check an item, and how well they agree with each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_relabel.people.folder import PeopleFolder, majority, standing
from llm_relabel.people.spot_checks import DrawnItem, ReviewFolder
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks import Task
from llm_relabel.units import LabelValue, label_json


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """One item as people see it. `answer` is a label value, None where they are unsure.

    Several reviewers count by the answer that most of them gave, "unsure" being one; a tie is
    unsure. `agreed` says whether all who answered gave the same label. `inclusion_probability` is
    None where the item was chosen and not drawn: such items say nothing about the others.
    `round` is the round whose beliefs the item was drawn by.
    """

    id: str
    unit: str
    answer: LabelValue
    reviewers: int
    agreed: bool
    blind: bool
    stratum: str | None
    inclusion_probability: float | None
    round: int


def read_answers(folder: RunFolder, task: Task) -> list[SpotCheck]:
    """All spot-checks that were answered, in the order of their first standing answers.

    Raises RunError where an answer is no label of the task.
    """
    review = ReviewFolder(folder)
    asked = review.asked()
    by_item: dict[str, list[Mapping[str, Any]]] = {}
    for line in standing(review.lines()).values():
        by_item.setdefault(line["id"], []).append(line)
    checks = []
    for item_id, lines in by_item.items():
        answers = [review.label(line, task) for line in lines]
        # The sample knows better than the answer: a second draw raises the probability.
        drawn = asked.get(item_id) or _drawn_then(lines[-1])
        checks.append(
            SpotCheck(
                id=item_id,
                unit=lines[-1]["unit"],
                answer=majority(answers),
                reviewers=len(lines),
                agreed=answers[0] is not None and len(set(answers)) == 1,
                blind=all(line["blind"] for line in lines),
                stratum=drawn.stratum,
                inclusion_probability=drawn.inclusion_probability,
                round=drawn.round,
            )
        )
    return checks


def unanswered(folder: RunFolder) -> list[DrawnItem]:
    """The items that were drawn at random, and on which nobody has an answer that stands."""
    review = ReviewFolder(folder)
    done = {item_id for item_id, _ in standing(review.lines())}
    return [
        item for item in review.asked().values() if item.purpose == "sample" and item.id not in done
    ]


def confirmed_labels(folder: RunFolder, task: Task, before: int) -> dict[str, LabelValue]:
    """The labels that people gave blind to spot-checks of rounds `before` this one, by id."""
    return {
        check.id: check.answer
        for check in read_answers(folder, task)
        if check.round < before and check.blind and check.answer is not None
    }


def reviewers_agreement(folder: RunFolder, task: Task, *, seed: int = 0) -> dict[str, Any]:
    """How well the reviewers of the spot-checks agree; see `folder_agreement`."""
    return folder_agreement(ReviewFolder(folder), task, seed=seed)


def folder_agreement(folder: PeopleFolder[Any], task: Task, *, seed: int = 0) -> dict[str, Any]:
    """How well the reviewers agree on items that two or more of them answered.

    `raters`, `items` (with two answers or more), `pairwise` (the share of pairs that are equal,
    None without pairs) and `alpha` (Krippendorff's, nominal, with its interval). "unsure" is no
    answer here. In multi-label data two answers are equal where all labels are.
    """
    from llm_relabel.agreement.raters import people_agreement, rater_matrix

    by_item: dict[str, dict[str, str]] = {}
    for (item_id, reviewer), line in standing(folder.lines()).items():
        label = folder.label(line, task)
        if label is not None:
            by_item.setdefault(item_id, {})[reviewer] = json.dumps(label_json(label))
    names = sorted({said for answers in by_item.values() for said in answers.values()})
    matrix, _ = rater_matrix(
        list(by_item.values()), {name: code for code, name in enumerate(names)}
    )
    if not matrix.size:
        return {"raters": 0, "items": 0, "pairwise": None, "alpha": None}
    return people_agreement(matrix, len(names), seed=seed)


def _drawn_then(line: Mapping[str, Any]) -> DrawnItem:
    """How an item of no sample was chosen, as its answer has it."""
    return DrawnItem(
        line["id"],
        line["unit"],
        line["stratum"],
        line["inclusion_probability"],
        "attention" if line["inclusion_probability"] is None else "sample",
        line["round"],
    )
