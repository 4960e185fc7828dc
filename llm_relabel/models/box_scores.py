"""What a detector's boxes say of a label: calibrated scores, beliefs in places, and proposals.

A score is drawn to the chance that a label of the class lies there (isotonic regression on the
labels as they are), so the set's own convention is in it: what annotators leave out scores low.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.data.boxes import (
    SAME_OBJECT,
    Box,
    Floats,
    box_at,
    corners_of,
    overlaps,
    pairs,
    rounded,
)
from llm_relabel.models.model import Predictions
from llm_relabel.units import Labels, LabelValue, Units, column

# From so much overlap on, a given box is where a predicted one is: nobody need look.
WELL_PLACED = 0.65
# Of a box with overlap m with a predicted one, this much of its chance: none at LOW, all at HIGH.
LOW, HIGH = 0.2, 0.8
# A predicted box that is likelier than this is proposed, where no label is. The chance carries what
# the set leaves out on purpose, which a judge does not know: of .5, .55, .6 and .7 the one that
# loses little under a good judge and little under one that says yes to all (evals/detection.py).
PREDICTED = 0.55
# A given box that is less likely than this is doubted.
DOUBTED = 0.5
# A predicted box that is at least so likely is a unit, though nobody named it.
POSSIBLE = 0.1
# An overlap from which a predicted box may be what a badly placed one is meant to be.
NEAR = 0.1
# Of two predicted boxes that overlap more, only the likelier is proposed.
ONE_OBJECT = 0.6
# Proposals for one picture; a judge is asked about all of them at once.
MOST_PROPOSALS = 12
UNLIKELY = 1e-3
BOXES, CLASSES, PROBS = "boxes", "classes", "probs"


@dataclass(frozen=True, slots=True)
class Detected:
    """The predicted boxes (n, 4) of one picture in its pixels, their classes (n,) and `scores`
    (n,), HIGHER is surer."""

    boxes: Floats
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]


def predictions_of(
    found: Sequence[Detected | None], labels: Labels, names: Sequence[str],
    facts: Mapping[str, Any],
) -> Predictions:  # fmt: skip
    """Predictions of rows with these current `labels`; None: nothing is known of the picture, and
    its label is as good as any."""
    codes = {name: code for code, name in enumerate(names)}
    given = [_of_label(label, codes) for label in labels.tolist()]
    probs = calibrated(found, given, len(names))
    proposed = [
        label if detected is None else _proposed(detected, own, label, names)
        for detected, own, label in zip(found, probs, labels.tolist(), strict=True)
    ]
    found = [
        None if detected is None else _on_labels(detected, own, *each)
        for detected, own, each in zip(found, probs, given, strict=True)
    ]
    nothing = Detected(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))
    each = [detected or nothing for detected in found]
    return Predictions(
        column(proposed),
        {
            BOXES: pa.array([e.boxes.round(2).tolist() for e in each],
                            pa.list_(pa.list_(pa.float32()))),
            CLASSES: pa.array([e.classes.tolist() for e in each], pa.list_(pa.int32())),
            PROBS: pa.array([own.tolist() for own in probs], pa.list_(pa.float32())),
        },
        tuple(names),
        facts,
    )  # fmt: skip


def _of_label(label: LabelValue, codes: Mapping[str, int]) -> tuple[Floats, NDArray[np.int64]]:
    boxes = list(label or ())
    return corners_of(boxes), np.array([codes[box.label] for box in boxes], dtype=np.int64)


def calibrated(
    found: Sequence[Detected | None], given: Sequence[tuple[Floats, NDArray[np.int64]]], count: int
) -> list[NDArray[np.float64]]:
    """For each row the chance (n,) that a label of the class lies at each predicted box."""
    from sklearn.isotonic import IsotonicRegression

    hits = []
    for detected, (boxes, classes) in zip(found, given, strict=True):
        if detected is None:
            hits.append(np.zeros(0))
            continue
        shared = overlaps(detected.boxes, boxes)
        shared[detected.classes[:, None] != classes[None]] = 0
        hit = np.zeros(len(detected.boxes))
        # One label for one box, the surest first: a second box on it is not right.
        taken = np.zeros(len(boxes), dtype=np.bool_)
        for place in np.argsort(-detected.scores, kind="stable").tolist():
            free = np.where(taken, 0, shared[place])
            if len(free) and free.max() >= SAME_OBJECT:
                hit[place] = 1
                taken[int(free.argmax())] = True
        hits.append(hit)
    rows = [row for row, detected in enumerate(found) if detected is not None]
    result = [np.zeros(len(hit)) for hit in hits]
    for code in range(count):
        scores = [found[row].scores[found[row].classes == code] for row in rows]  # type: ignore[union-attr]
        right = [hits[row][found[row].classes == code] for row in rows]  # type: ignore[union-attr]
        flat = np.concatenate(scores) if scores else np.zeros(0)
        if not len(flat):
            continue
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        curve.fit(flat, np.concatenate(right))
        for row, own in zip(rows, scores, strict=True):
            if len(own):
                result[row][found[row].classes == code] = curve.predict(own)  # type: ignore[union-attr]
    return result


def _on_labels(
    detected: Detected, probs: NDArray[np.float64], boxes: Floats, classes: NDArray[np.int64]
) -> Detected:
    """The predicted boxes, those that lie well on a label in its very place, the likeliest first:
    so they are one unit with it."""
    shared = overlaps(detected.boxes, boxes)
    least = np.where(detected.classes[:, None] == classes[None], WELL_PLACED, SAME_OBJECT)
    shared = np.where(shared >= least, shared, 0)
    moved, free = detected.boxes.copy(), np.ones(len(boxes), dtype=np.bool_)
    for place in np.argsort(-probs, kind="stable").tolist():
        near = np.where(free, shared[place], 0)
        if near.max(initial=0) > 0:
            at = int(near.argmax())
            moved[place] = boxes[at]
            free[at] = False
    return Detected(moved, detected.classes, detected.scores)


def fit(shared: Floats) -> Floats:
    """How much of a predicted box's chance one has that overlaps it so much."""
    return np.clip((shared - LOW) / (HIGH - LOW), 0, 1)


@dataclass(frozen=True, slots=True)
class _Move:
    """One proposal: the label's box `at` is taken away, or `box` comes, or both. `doubt` in 0..1,
    LOWER is more certain."""

    doubt: float
    at: int | None
    box: Box | None


class _Picture:
    """One picture's label beside its predicted boxes."""

    def __init__(
        self, detected: Detected, probs: NDArray[np.float64], label: LabelValue,
        names: Sequence[str],
    ) -> None:  # fmt: skip
        self.boxes = list(label or ())
        fixed = corners_of([box for box in self.boxes if box.fixed])
        self.free = [place for place, box in enumerate(self.boxes) if not box.fixed]
        own = corners_of([self.boxes[place] for place in self.free])
        codes = np.array([names.index(self.boxes[place].label) for place in self.free], dtype=int)
        away = _covered(detected.boxes, fixed) < SAME_OBJECT
        likely = np.flatnonzero((probs >= POSSIBLE) & away)
        self.there, self.probs = detected.boxes[likely], probs[likely]
        self.kinds = [names[code] for code in detected.classes[likely]]
        self.shared = overlaps(own, self.there)
        self.same = codes[:, None] == detected.classes[likely][None]
        self.belief = (fit(self.shared) * self.probs[None] * self.same).max(axis=1, initial=0)

    def moves(self) -> list[_Move]:
        """What the detector would rather see, the most certain first."""
        matched = pairs(np.where(self.same, self.shared, 0), SAME_OBJECT)
        spare = set(range(len(self.there))) - {number for _, number in matched}
        found = [
            self._moved(row, number) for row, number in matched
            if self.shared[row, number] < WELL_PLACED and self.probs[number] >= PREDICTED
        ]  # fmt: skip
        for row in sorted(set(range(len(self.free))) - {row for row, _ in matched}):
            found += self._unmatched(row, spare)
        found += self._new(spare, [number for _, number in matched])
        return sorted(found, key=lambda move: move.doubt)

    def _place(self, number: int) -> Box:
        return Box(rounded(self.there[number]), self.kinds[number])

    def _moved(self, row: int, number: int) -> _Move:
        doubt = 1 - self.probs[number] * (1 - self.shared[row, number])
        return _Move(float(doubt), self.free[row], self._place(number))

    def _unmatched(self, row: int, spare: set[int]) -> list[_Move]:
        """What is wrong with a box on which none of its class was predicted."""
        others = [n for n in spare if self.shared[row, n] >= SAME_OBJECT and not self.same[row, n]]
        if (
            others
            and self.probs[best := max(others, key=lambda n: self.probs[n])] > (self.belief[row])
        ):
            spare.discard(best)
            box = Box(self.boxes[self.free[row]].box, self.kinds[best])
            return [_Move(1 - float(self.probs[best]), self.free[row], box)]
        near = self.shared[row] >= NEAR
        beside = [n for n in spare
                  if near[n] and self.same[row, n] and self.probs[n] >= PREDICTED]  # fmt: skip
        if beside:
            best = max(beside, key=lambda n: self.shared[row, n])
            spare.discard(best)
            return [self._moved(row, best)]
        doubted = self.belief[row] < DOUBTED
        return [_Move(float(self.belief[row]), self.free[row], None)] if doubted else []

    def _new(self, spare: set[int], taken: list[int]) -> list[_Move]:
        """Boxes where no label is, and no likelier box."""
        found = []
        for number in sorted(spare, key=lambda n: -self.probs[n]):
            near = overlaps(self.there[[number]], self.there[taken]).max(initial=0)
            labeled = self.shared[:, number].max(initial=0) >= SAME_OBJECT
            if self.probs[number] >= PREDICTED and near < ONE_OBJECT and not labeled:
                taken.append(number)
                found.append(_Move(1 - float(self.probs[number]), None, self._place(number)))
        return found


def _proposed(
    detected: Detected, probs: NDArray[np.float64], label: LabelValue, names: Sequence[str]
) -> LabelValue:
    """The label that the detector would rather see, in at most MOST_PROPOSALS places."""
    picture = _Picture(detected, probs, label, names)
    new: dict[int, Box] = dict(enumerate(picture.boxes))
    added = []
    for move in picture.moves()[:MOST_PROPOSALS]:
        if move.at is not None:
            del new[move.at]
        if move.box is not None:
            added.append(move.box)
    return tuple(sorted(dict.fromkeys([*new.values(), *added])))


def _covered(boxes: Floats, fixed: Floats) -> Floats:
    """(n,) the largest share of each box that lies in one of `fixed`."""
    if not len(fixed):
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], fixed[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], fixed[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 1e-9, None).prod(axis=1)
    return np.asarray((shared / areas[:, None]).max(axis=1))


def likely_places(predictions: Predictions | None, least: float) -> dict[int, list[Box]]:
    """The predicted boxes of each row that are at least so likely."""
    if predictions is None or BOXES not in predictions.scores:
        return {}
    found: dict[int, list[Box]] = {}
    for row, (boxes, classes, probs) in enumerate(_rows(predictions)):
        for box, code, prob in zip(boxes, classes, probs, strict=True):
            if prob >= least:
                found.setdefault(row, []).append(Box(rounded(box), predictions.names[code]))
    return found


def beliefs_in(units: Units, predictions: Predictions) -> NDArray[np.float32]:
    """(units, K) the belief in each class at each unit's place, and in no object there.

    Of a class it is the largest chance of a predicted box of it, less where the two fit badly.
    """
    found = np.zeros((len(units), units.width), dtype=np.float32)
    if BOXES not in predictions.scores:
        found[:, 0] = 1
        return found
    starts = units.starts.tolist()
    for row, (boxes, classes, probs) in enumerate(_rows(predictions)):
        first, last = starts[row], starts[row + 1]
        places = [at for at in range(first, last) if units.kind[at]]
        if not places:
            continue
        own = corners_of([box_at(units.key[at], "") for at in places])
        chance = fit(overlaps(own, np.array(boxes, dtype=np.float64).reshape(-1, 4)))
        chance = chance * np.array(probs)[None]
        for code in set(classes):
            here = np.array(classes) == code
            found[places, code + 1] = chance[:, here].max(axis=1)
    boxes_ = np.asarray(units.kind) > 0
    named = found[boxes_, 1:]
    none = np.clip(1 - named.max(axis=1, initial=0), UNLIKELY, 1)
    named = np.clip(named, UNLIKELY, 1)
    total = named.sum(axis=1) + none
    found[boxes_, 1:], found[boxes_, 0] = named / total[:, None], none / total
    found[~boxes_, 0] = 1
    return found


def _rows(predictions: Predictions) -> list[tuple[list[list[float]], list[int], list[float]]]:
    each = [predictions.scores[name].to_pylist() for name in (BOXES, CLASSES, PROBS)]
    return list(zip(*each, strict=True))
