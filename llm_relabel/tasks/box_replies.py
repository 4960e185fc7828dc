"""A judge's answer about numbered places, and the label that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from llm_relabel.data.boxes import Box
from llm_relabel.records import Item
from llm_relabel.tasks.answers import SHOWN, LabelText, Reply, named, object_schema, parsed
from llm_relabel.tasks.posed import LETTERS, Posed
from llm_relabel.tasks.task import Answer, InvalidAnswer

NO_OBJECT, BAD_BOX, UNSURE = "NO_OBJECT", "BAD_BOX", "UNSURE"
BOTH, NEITHER, ONE = "BOTH", "NEITHER", "ONE"


class _Place(BaseModel):
    model_config = ConfigDict(extra="ignore")

    number: int
    verdict: LabelText
    better: LabelText = ONE


class _Places(Reply):
    places: list[_Place]


def answer_schema(names: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of an answer; there are no coordinates in it."""
    place = {
        "number": {"type": "integer"},
        "verdict": {"type": "string", "enum": [*names, NO_OBJECT, BAD_BOX, UNSURE]},
        "better": {"type": "string", "enum": [*LETTERS, BOTH, NEITHER, ONE]},
    }
    return object_schema({
        "rationale": {"type": "string"},
        "places": {"type": "array", "items": object_schema(place)},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    })  # fmt: skip


def answered(text: str, item: Item, given: Mapping[str, str], spelled: Mapping[str, str]) -> Answer:
    """The answer to a posed item. `given` is the class of each given box by its key: what a judge
    leaves open stays like it. `spelled` has the class behind each way to write it.

    Raises InvalidAnswer where a number is missing, or said twice.
    """
    said = parsed(_Places, text, item)
    question: Posed = item.posed
    numbers = sorted(place.number for place in said.places)
    wanted = list(range(1, len(question.places) + 1))
    if numbers != wanted:
        raise InvalidAnswer(
            f"`places` speaks of {numbers!s:.{SHOWN}}, and the numbers are {wanted}, each once"
        )
    words = {word: word for word in (NO_OBJECT, BAD_BOX, UNSURE)}
    boxes = list(question.agreed)
    for place in said.places:
        shown = question.places[place.number - 1]
        verdict = named(place.verdict, {**spelled, **words})
        if verdict is None:
            raise InvalidAnswer(f"the verdict {place.verdict!r:.{SHOWN}} is none of the allowed")
        if verdict in (BAD_BOX, UNSURE):
            boxes += [Box(box.box, given[box.key]) for box in shown if box.key in given]
        elif verdict != NO_OBJECT:
            boxes += [Box(box.box, verdict) for box in _better(place, shown, given)]
    return Answer(tuple(sorted(boxes)), None, said.confidence, said.rationale, said.repaired)


def _better(place: _Place, shown: Sequence[Box], given: Mapping[str, str]) -> Sequence[Box]:
    """Which boxes of a place an answer takes: where both fit, or none, the given one stays."""
    if len(shown) == 1:
        return shown
    word = named(place.better, {each: each for each in (*LETTERS, BOTH, NEITHER)})
    if word is None:
        raise InvalidAnswer(
            f"place {place.number} shows the boxes A and B, and `better` is "
            f"{place.better!r:.{SHOWN}}; say A, B, BOTH or NEITHER"
        )
    if word in LETTERS:
        return [shown[LETTERS.index(word)]]
    own = [box for box in shown if box.key in given]
    return own or (shown[:1] if word == BOTH else [])
