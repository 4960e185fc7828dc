"""What a judge of boxes is asked: numbered places, each with one box or two for one object."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_relabel.data.boxes import Box, corners_of, overlaps, pairs
from llm_relabel.models.box_scores import WELL_PLACED
from llm_relabel.units import LabelValue

# From so much overlap on, two boxes that no candidate holds together may be of one object.
ONE_OF_TWO = 0.1
LETTERS = ("A", "B")


@dataclass(frozen=True, slots=True)
class Posed:
    """`agreed` are boxes that all candidates have; `places` what is asked, in the order of its
    numbers from 1: one box, or two in the order of LETTERS. Of a place in one box its class in the
    candidates is not told."""

    agreed: tuple[Box, ...]
    places: tuple[tuple[Box, ...], ...]

    @property
    def keys(self) -> frozenset[str]:
        """The units that an answer speaks of."""
        return frozenset(box.key for place in self.places for box in place)


def posed(candidates: Sequence[LabelValue], salt: str) -> Posed:
    """The question that these labels of one picture differ in; `salt` orders A and B."""
    listed = [label for label in candidates if label is not None]
    labels = [{box.key: box for box in label if not box.fixed} for label in listed]
    fixed = sorted({box for label in listed for box in label if box.fixed})
    every = dict.fromkeys(key for label in labels for key in label)
    agreed, open_ = list(fixed), dict[str, Box]()
    for key in every:
        told = [label.get(key) for label in labels]
        first = next(box for box in told if box is not None)
        if all(box == first for box in told):
            agreed.append(first)
        else:
            open_[key] = first
    boxes = list(open_.values())
    shared = overlaps(corners_of(boxes), corners_of(boxes))
    near = [
        (float(shared[a, b]), a, b)
        for a in range(len(boxes)) for b in range(a)
        if shared[a, b] >= ONE_OF_TWO and boxes[a].label == boxes[b].label
        and not any(boxes[a].key in label and boxes[b].key in label for label in labels)
    ]  # fmt: skip
    paired: dict[int, int] = {}
    for _, a, b in sorted(near, reverse=True):
        if a not in paired and b not in paired:
            paired[a], paired[b] = b, a
    places = list[tuple[Box, ...]]()
    for number, box in enumerate(boxes):
        other = paired.get(number)
        if other is None:
            places.append((box,))
        elif other > number:
            places.append(_in_turn(box, boxes[other], salt))
    places.sort(key=lambda place: (round(place[0].box[1] / 40), place[0].box[0], place[0].box))
    return Posed(tuple(sorted(agreed)), tuple(places))


def _in_turn(one: Box, other: Box, salt: str) -> tuple[Box, ...]:
    ordered = sorted((one, other))
    turned = hashlib.sha256(f"{salt}{ordered[0].key}".encode()).digest()[0] % 2
    return tuple(ordered[::-1] if turned else ordered)


def anchored(label: LabelValue, known: Sequence[LabelValue]) -> LabelValue:
    """A label drawn by hand in the boxes of known labels that lie well on its own: nobody draws the
    same box twice. Fixed boxes are those of the known labels."""
    fixed = {box for each in known for box in each if box.fixed}
    there = list(dict.fromkeys(box.box for each in known for box in each if not box.fixed))
    told = [box for box in label if not box.fixed]
    places = corners_of([Box(place, "") for place in there])
    taken = dict(pairs(overlaps(corners_of(told), places), WELL_PLACED))
    drawn = {
        Box(there[taken[number]], box.label) if number in taken else box
        for number, box in enumerate(told)
    }
    return tuple(sorted({*drawn, *fixed}))


def settled(label: LabelValue, candidates: Sequence[LabelValue], least: float) -> LabelValue:
    """A label drawn by somebody who did not see the candidates, in their boxes: each of its boxes
    as the candidates' box that it overlaps most, of at least `least`; without those that none of
    them is. What all candidates have stays."""
    question = posed(candidates, "")
    told = [box for box in label if not box.fixed]
    kept = [box for box in question.agreed if not box.fixed]
    asked = [box for place in question.places for box in place]
    shared = overlaps(corners_of(told), corners_of([*kept, *asked]))
    shared[:, : len(kept)] += 1e-6  # an agreed box comes first where two fit alike
    found = list(question.agreed)
    for place, number in pairs(np.where(shared >= least, shared, 0), least):
        if number >= len(kept):
            found.append(Box(asked[number - len(kept)].box, told[place].label))
    return tuple(sorted(found))
