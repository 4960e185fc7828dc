"""Answers out of a file, before they count: every one is checked, and all problems are told.

The formats name what they found in a file as `Filled`; here it becomes a person's answer, or
a problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_relabel.errors import DataError, nearest
from llm_relabel.people.folder import PersonsAnswer, reviewer_name
from llm_relabel.records import Item
from llm_relabel.tasks import InvalidAnswer, Task, from_name, is_one_choice
from llm_relabel.units import label_json

SHOWN = 5
CANDIDATES = "candidates"  # in every format, what a question of the judge has and no spot-check
UNSURE = "unsure"
NO_LABEL = "no label applies"  # multi-label: somebody looked, and the set is empty


@dataclass(frozen=True, slots=True)
class Filled:
    """One answer as a file has it. `where` is its place, in words.

    `answer` is text, a list of names, or None; `otherwise` is UNSURE, NO_LABEL or empty.
    `annotator` is who a labeling tool says it was, None where the file says nothing. `at` orders
    several answers of one annotator. `as_judge` says that candidates were shown.
    """

    where: str
    id: Any
    answer: Any
    otherwise: str = ""
    note: str = ""
    annotator: str | None = None
    at: str = ""
    as_judge: bool = False


def answer_words(task: Task) -> tuple[str, str]:
    """What stands for "unsure" and for "no label applies" in a cell: `?` and `[]`.

    Made longer until no class is called so.
    """
    unsure, none = "?", "[]"
    while unsure in task.names:
        unsure += "?"
    while none in task.names:
        none += "]"
    return unsure, none


def from_cell(cell: str, task: Task) -> tuple[Any, str]:
    """The cell of a sheet as (answer, otherwise), both empty where nothing was filled in.

    A multi-label cell holds a JSON list, one name, or names between semicolons.
    """
    unsure, none = answer_words(task)
    text = cell.strip()
    if cell in task.names or not text:
        return (cell if is_one_choice(task) else [cell]) if text else None, ""
    if text == unsure:
        return None, UNSURE
    if is_one_choice(task):
        return text, ""
    if text == none:
        return None, NO_LABEL
    if text in task.names:
        return [text], ""
    if text.startswith("["):
        try:
            return json.loads(text), ""
        except ValueError:
            pass
    return [part.strip() for part in text.split(";") if part.strip()], ""


def checked(
    filled: Iterable[Filled],
    task: Task,
    asked: Collection[str],
    known: Collection[str],
    *,
    path: Path,
    reviewer: str | None,
    item_of: Callable[[str], Item | None] = lambda _: None,
) -> tuple[list[PersonsAnswer], int]:
    """The answers of a file, and how many items it leaves unanswered.

    `asked` are the ids under review, `known` those of them and others that the data has.
    `item_of` gives an item by its id, which an answer must fit. `reviewer` is who gave all of them;
    None takes the annotators that the file names. Raises
    DataError with all problems.
    """
    problems: dict[str, list[str]] = {}
    given: dict[tuple[str, str], tuple[Filled, PersonsAnswer]] = {}
    empty = 0
    for each in sorted(filled, key=lambda one: one.at):
        item_id = each.id if isinstance(each.id, str) else str(each.id)
        if item_id not in asked:
            kind = "ids that are not under review" if item_id in known else "ids not in the data"
            places = problems.setdefault(kind, [])
            # Looking for the nearest is slow, and only the first ones are told.
            hint = nearest(item_id, asked) if len(places) < SHOWN else ""
            places.append(f"{each.where}: {item_id!r:.80}{hint}")
            continue
        if each.answer is None and not each.otherwise:
            empty += 1
            continue
        if each.answer is not None and each.otherwise:
            told = f"{each.where}: {each.answer!r:.80} and {each.otherwise!r}"
            problems.setdefault("answers that say two things", []).append(told)
            continue
        name = reviewer if reviewer is not None else each.annotator
        if name is None:
            raise DataError(
                f"the file {str(path)!r} does not say who answered; name the person with --reviewer"
            )
        try:
            answer = None
            if each.otherwise != UNSURE:
                value = [] if each.otherwise == NO_LABEL else each.answer
                answer = label_json(from_name(task, value, item_of(item_id)))
        except InvalidAnswer as error:
            told = f"{each.where} (id {item_id!r:.80}): {error}"
            problems.setdefault("answers that cannot be used", []).append(told)
            continue
        name = reviewer_name(name)
        one = PersonsAnswer(item_id, name, answer, each.otherwise == UNSURE, each.note.strip())
        before = given.pop((item_id, name), None)
        if before is not None and _contradict(before, (each, one), reviewer):
            told = f"{each.where}: {item_id!r:.80} was {before[0].where}"
            problems.setdefault("items that were answered twice, differently", []).append(told)
        given[item_id, name] = each, one
    if problems:
        raise DataError(
            f"{str(path)!r} was not imported; nothing of it counts: "
            + "; ".join(_told(kind, places, task) for kind, places in problems.items())
        )
    return [one for _, one in given.values()], empty


def _contradict(
    before: tuple[Filled, PersonsAnswer], after: tuple[Filled, PersonsAnswer], reviewer: str | None
) -> bool:
    """Whether two answers to one item cannot both be one person's. A later time is a second
    thought, and counts; two annotators of a tool are not one reviewer."""
    (first, one), (second, other) = before, after
    if (one.answer, one.unsure) == (other.answer, other.unsure):
        return False
    if reviewer is not None and first.annotator != second.annotator:
        return True
    return first.at == second.at


def _told(kind: str, places: list[str], task: Task) -> str:
    more = f", and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    text = f"{len(places):,} {kind}: {', '.join(places[:SHOWN])}{more}"
    if kind.startswith("answers that cannot"):
        names = ", ".join(map(repr, task.names[:20]))
        text += f" (allowed: {names}{', ...' if len(task.names) > 20 else ''}"
        text += f", or {answer_words(task)[0]} for unsure)"
    if kind.endswith("differently"):
        text += " (where several people answered, leave out --reviewer: each counts by name)"
    return text


def json_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    """The objects of a JSON array or of JSON lines. Raises DataError."""
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} is not valid JSON: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{str(path)!r} must hold objects, one for each item, and has none or other values"
        )
    found: list[Mapping[str, Any]] = rows
    return found
