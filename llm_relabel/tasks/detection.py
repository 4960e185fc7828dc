"""Object detection: the objects of a picture, each with its class and the box around it.

A label is the boxes of one picture. Units are the places that any source named, and those that the
detector holds possible; each is of one class, or no object. A place is its exact box: predictions
that lie well on a given box are that box, and a judge chooses among boxes that it is shown, so all
sources speak of the same places. Gold, which nobody was shown, is matched by overlap.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import ModelSection
from llm_relabel.data import Dataset
from llm_relabel.data.box_cells import TYPE, box_cells
from llm_relabel.data.boxes import (
    SAME_OBJECT,
    Box,
    box_at,
    corners_of,
    overlaps,
    pairs,
    rounded,
)
from llm_relabel.errors import nearest
from llm_relabel.images import ImagePart
from llm_relabel.models.box_scores import POSSIBLE, beliefs_in, likely_places
from llm_relabel.models.detector import Detector
from llm_relabel.models.model import Predictions
from llm_relabel.models.own_boxes import load_boxes
from llm_relabel.records import Item
from llm_relabel.spellings import visible_name
from llm_relabel.tasks.answers import SHOWN
from llm_relabel.tasks.box_f1 import BoxF1
from llm_relabel.tasks.box_kinds import kinds_between
from llm_relabel.tasks.box_replies import answer_schema, answered
from llm_relabel.tasks.checks import box_findings
from llm_relabel.tasks.posed import Posed, anchored, posed, settled
from llm_relabel.tasks.task import Answer, Findings, InvalidAnswer, Shown, Starter
from llm_relabel.units import SILENT, Codes, Kind, Labels, LabelValue, Units, column, has_label

# The unit of the picture itself, and what the units of boxes that nobody decides about begin with.
PICTURE, FIXED = "picture", "fixed "


class Detection:
    """The detection task; the classes are the defined labels."""

    name = "detection"
    inputs: Literal["text", "image"] = "image"
    cells = staticmethod(box_cells)
    starter = Starter(
        least=1,
        instruction="Say of each marked place which object it shows.",
        told="what is a {name!r}, where its box ends, and what looks like one and is none.",
        examples=lambda *_: Shown({}, {}),
        asks=(
            "Under `instruction` say, too, what the set leaves out: are objects labeled that are",
            "cut off by the edge, crowded, tiny, blurred or mirrored? No judge can know it.",
        ),
    )
    template = "detection.jinja"
    measure = BoxF1()
    widget: Literal["choices", "spans", "boxes"] = "boxes"
    unit_note = (
        "A change is of one box: it is added, taken away, or given another class; a box that is "
        "moved is two changes. A row is right only with a box on each object and no other."
    )
    # A judge is asked about single places, so it is no rival of the other sources: fused, with the
    # detector's scores as the prior, labels were worse in every case (evals/detection.py).
    policy = "replace"
    careful = 0.0
    proves_changes = False
    label_parts = None
    answer_forms = ()
    answer_tokens = 220
    embedded_judge = "llm_relabel.judge.without_llm.box_judge:BoxJudge"
    weighs_sides = False

    def __init__(self, definitions: LabelDefinitions, label_type: pa.DataType) -> None:  # noqa: ARG002
        self.definitions = definitions
        self.names = definitions.names
        self.kinds = (
            Kind(PICTURE, (None,), ("",), none=0),
            Kind("box", (None, *self.names), ("", *self.names), none=0),
        )
        shown_as = {visible_name(name): name for name in self.names}
        self._spelled = shown_as | definitions.aliases | {name: name for name in self.names}
        self._code = {name: code for code, name in enumerate(self.names, start=1)}

    # Labels

    def read(self, labels: pa.ChunkedArray) -> Labels:
        return column(
            None if boxes is None
            else tuple(sorted(Box(tuple(e["box"]), e["label"], e["fixed"]) for e in boxes))
            for boxes in labels.to_pylist()
        )  # fmt: skip

    def to_arrow(self, labels: Labels) -> pa.Array:
        def cell(label: LabelValue) -> Any:
            if label is None:
                return None
            return [{"label": b.label, "box": list(b.box), "fixed": b.fixed} for b in label]

        return pa.array(map(cell, labels.tolist()), TYPE)

    def check(self, value: Any, item: Item | None = None) -> LabelValue:
        if not isinstance(value, list | tuple):
            raise InvalidAnswer(f"{value!r:.{SHOWN}} is not a list of boxes")
        found = tuple(sorted({self._box(each) for each in value}))
        if item is not None and item.picture is not None and (size := item.picture.size):
            for box in found:
                if box.box[0] >= size[0] or box.box[1] >= size[1] or min(box.box[2:]) <= 0:
                    raise InvalidAnswer(f"{box.key} lies outside of the picture of {size}")
        return found

    def _box(self, value: Any) -> Box:
        if not isinstance(value, Mapping):
            raise InvalidAnswer(f"{value!r:.{SHOWN}} is no box with a label")
        name = value.get("label", value.get("cls"))
        place = value.get("box")
        if not isinstance(place, list | tuple) or len(place) != 4:
            raise InvalidAnswer(f"{place!r:.{SHOWN}} is no box [left, top, right, bottom]")
        if not all(isinstance(each, int | float) and np.isfinite(each) for each in place):
            raise InvalidAnswer(f"{place!r:.{SHOWN}} is no box [left, top, right, bottom]")
        fixed = bool(value.get("fixed"))
        corners = rounded(place)
        if not fixed and (corners[2] <= corners[0] or corners[3] <= corners[1]):
            raise InvalidAnswer(f"the box {place!r:.{SHOWN}} has no area")
        name = self._spelled.get(name, name) if isinstance(name, str) else name
        if not isinstance(name, str) or name not in self._code:
            raise InvalidAnswer(
                f"the class {name!r:.{SHOWN}} is not one of the defined ones"
                f"{nearest(str(name)[:SHOWN], self.names)}"
            )
        return Box(corners, name, fixed)

    def findings(self, dataset: Dataset) -> Findings:
        return box_findings(self.names, dataset)

    def show(self, label: LabelValue) -> str:
        if label is None:
            return "(no label)"
        counts = Counter(visible_name(box.label) for box in label)
        return ", ".join(f"{count} {name}" for name, count in counts.items()) or "(no object)"

    def show_unit(self, key: str, value: Any) -> str:
        if isinstance(value, list):
            return self.show(self.check(value))
        if value is None:
            return "no object" if key.startswith("box ") else "(no label)"
        return visible_name(value)

    def example(self, item: Item, key: str) -> str:  # noqa: ARG002 - a picture is no words
        return ""

    # Units

    def units(self, columns: Mapping[str, Labels], predictions: Predictions | None = None) -> Units:
        exact = [labels.tolist() for name, labels in columns.items() if name != "gold"]
        gold = columns.get("gold")
        possible = likely_places(predictions, POSSIBLE)
        rows = len(next(iter(columns.values())))
        row, key = list[int](), list[str]()
        for number in range(rows):
            named = {_key(box) for labels in exact for box in labels[number] or ()}
            named.update(box.key for box in possible.get(number, ()))
            if gold is not None and gold[number]:
                named.update(_unmatched(gold[number], named))
            row += [number] * (len(named) + 1)
            fixed = sorted(each for each in named if each.startswith(FIXED))
            key += [*fixed, PICTURE, *sorted(named.difference(fixed))]
        keys = np.array(key, dtype=object)
        kind = np.array([each.startswith("box ") for each in key], dtype=np.int32)
        return Units(
            kinds=self.kinds, rows=rows, row=np.array(row, dtype=np.int64), kind=kind, key=keys,
            unseen=np.zeros(len(self.kinds)),
        )  # fmt: skip

    def codes(self, units: Units, labels: Labels) -> Codes:
        starts, keys = units.starts.tolist(), units.key
        found = np.where(has_label(labels)[units.row], 0, SILENT).astype(np.int32)
        for row, label in enumerate(labels.tolist()):
            if not label:
                continue
            first, last = starts[row], starts[row + 1]
            places = {key: at for at, key in enumerate(keys[first:last].tolist(), start=first)}
            free = [box for box in label if not box.fixed]
            astray = [box for box in free if box.key not in places]
            for box in free:
                if (at := places.get(box.key)) is not None:
                    found[at] = self._code[box.label]
            if astray:
                rest = [key for key, at in places.items() if units.kind[at] and found[at] == 0]
                for box, key in _matched(astray, rest):
                    found[places[key]] = self._code[box.label]
        return found

    def labels(
        self,
        units: Units,
        codes: Codes,
        belief: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> Labels:
        starts = units.starts.tolist()
        found: list[LabelValue] = []
        for row in range(units.rows):
            here = range(starts[row], starts[row + 1])
            if (codes[starts[row] : starts[row + 1]] == SILENT).all():
                found.append(None)
                continue
            boxes = [_fixed(units.key[at]) for at in here if units.key[at].startswith(FIXED)]
            boxes += [
                box_at(units.key[at], self.names[codes[at] - 1]) for at in here if codes[at] > 0
            ]
            found.append(tuple(sorted(boxes)))
        return column(found)

    def values(self, label: LabelValue, given: LabelValue) -> dict[str, Any]:  # noqa: ARG002
        free = (box for box in label or () if not box.fixed)
        return {box.key: box.label for box in sorted(free, key=lambda box: box.key)}

    def assemble(self, old: LabelValue, decided: Mapping[str, Any]) -> LabelValue:
        new = [box_at(key, name) for key, name in decided.items() if name is not None]
        kept = [box for box in old or () if box.fixed or box.key not in decided]
        return tuple(sorted([*kept, *new]))

    def kinds_between(self, old: LabelValue, new: LabelValue) -> Counter[tuple[str, str]]:
        return kinds_between(old or (), new or ())

    def decoy(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        label = avoid[0] or ()
        free = [place for place, box in enumerate(label) if not box.fixed]
        for place in rng.sample(free, len(free)):
            rest, box = (*label[:place], *label[place + 1 :]), label[place]
            others = [name for name in self.names if name != box.label]
            left, top, right, bottom = box.box
            wide, high = (right - left) / 2, (bottom - top) / 2
            away = rng.choice([(wide, 0.0), (-wide, 0.0), (0.0, high), (0.0, -high)])
            moved = rounded(np.maximum(
                [left + away[0], top + away[1], right + away[0], bottom + away[1]], 0
            ))  # fmt: skip
            wrong = [tuple(sorted([*rest, Box(box.box, name)])) for name in others[:1]]
            if moved[2] > moved[0] and moved[3] > moved[1]:
                wrong.append(tuple(sorted([*rest, Box(moved, box.label)])))
            for each in rng.sample(wrong, len(wrong)):
                if each not in avoid:
                    return each
        return None

    # The small model

    def model(
        self, section: ModelSection, dataset: Dataset, *, seed: int, cache: Path, folder: Path,
        progress: Any,
    ) -> Detector:  # fmt: skip
        return Detector(
            section, dataset.pictures, dataset.text, dataset.groups, dataset.locked, self.names,
            seed=seed, cache=cache, folder=folder, progress=progress,
        )  # fmt: skip

    def own_predictions(self, path: Path, dataset: Dataset) -> Predictions:
        return load_boxes(path, dataset, self.read(dataset.labels), self.names)

    def beliefs(self, units: Units, predictions: Predictions) -> NDArray[np.float32]:
        return beliefs_in(units, predictions)

    # The question and its answer

    def asked(self, candidates: Sequence[LabelValue]) -> frozenset[str] | None:
        return posed(candidates, "").keys

    def settled(self, label: LabelValue, candidates: Sequence[LabelValue]) -> LabelValue:
        return settled(label, candidates, SAME_OBJECT)

    def anchored(self, label: LabelValue, known: Sequence[LabelValue]) -> LabelValue:
        return label if label is None else anchored(label, [k for k in known if k is not None])

    def posed(self, item: Item, candidates: Sequence[LabelValue]) -> Item:
        return replace(item, posed=posed(candidates, item.id))

    def told_without(self, item: Item) -> LabelValue:
        question: Posed = item.posed
        return None if question.places else question.agreed

    def images(self, item: Item) -> tuple[ImagePart, ...]:
        from llm_relabel.tasks.box_drawing import drawn

        return drawn(item.picture, item.posed)

    def about(self, item: Item | None) -> dict[str, Any]:
        question: Posed | None = None if item is None else item.posed
        places = question.places if question is not None else ()
        numbered = enumerate(places, start=1)
        return {"places": [{"number": n, "two": len(place) > 1} for n, place in numbered]}

    def question(self) -> dict[str, Any]:
        return self.definitions.as_asked(self.starter.instruction)

    def answer_schema(self, *, full: bool = False, form: str | None = None) -> dict[str, Any]:  # noqa: ARG002 - classes are few
        return answer_schema(self.names)

    def parse(self, text: str, item: Item | None = None) -> Answer:
        if item is None or item.posed is None:
            raise InvalidAnswer("without its picture the numbers of an answer mean nothing")
        given = {each.key: each.label for each in self._given(item)}
        return answered(text, item, given, self._spelled)

    def _given(self, item: Item) -> LabelValue:
        return self.check([{**e, "fixed": True} for e in item.anchor]) if item.anchor else ()


def _key(box: Box) -> str:
    return f"{FIXED}{box.key} {box.label}" if box.fixed else box.key


def _fixed(key: str) -> Box:
    place, _, name = key.removeprefix(f"{FIXED}box ").partition(" ")
    return replace(box_at(place, name), fixed=True)


def _matched(boxes: Sequence[Box], keys: Sequence[str]) -> list[tuple[Box, str]]:
    """Boxes and the places that they are of, by overlap."""
    there = corners_of([box_at(key, "") for key in keys])
    shared = overlaps(corners_of(boxes), there)
    return [(boxes[row], keys[number]) for row, number in pairs(shared, SAME_OBJECT)]


def _unmatched(boxes: Sequence[Box], keys: set[str]) -> list[str]:
    """The places of boxes that lie on none of the named ones."""
    free = [box for box in boxes if not box.fixed and box.key not in keys]
    named = [key for key in keys if key.startswith("box ")]
    taken = {box for box, _ in _matched(free, sorted(named))}
    return [box.key for box in free if box not in taken]
