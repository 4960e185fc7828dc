"""Boxes of a clean set spoiled on purpose, and a judge of known skill, for `detection.py`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_relabel.data.boxes import Box, corners_of, overlaps, rounded
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.tasks import Task
from llm_relabel.tasks.posed import posed
from llm_relabel.units import label_json

MISSING, MISPLACED, SPURIOUS, SWAPPED = 0.10, 0.10, 0.05, 0.05


def spoiled(
    boxes: Sequence[Box], size: tuple[int, int], names: Sequence[str], rng: random.Random
) -> tuple[list[Box], list[tuple[str, Box]]]:
    """A picture's boxes with faults, and each fault's kind and box (of a missing one the right)."""
    found, faults = list[Box](), list[tuple[str, Box]]()
    for box in boxes:
        if box.fixed:
            found.append(box)
            continue
        draw = rng.random()
        if draw < MISSING:
            faults.append(("missing", box))
        elif draw < MISSING + MISPLACED:
            found.append(_moved(box, size, rng))
            faults.append(("misplaced", found[-1]))
        elif draw < MISSING + MISPLACED + SWAPPED:
            found.append(Box(box.box, rng.choice([name for name in names if name != box.label])))
            faults.append(("swapped", found[-1]))
        else:
            found.append(box)
        if rng.random() < SPURIOUS:
            stray = _elsewhere(box, boxes, size, rng)
            if stray is not None:
                found.append(stray)
                faults.append(("spurious", stray))
    return sorted(found), faults


def _moved(box: Box, size: tuple[int, int], rng: random.Random) -> Box:
    """The box shifted and stretched until it overlaps with the right one by .35 to .75."""
    left, top, right, bottom = box.box
    wide, high = right - left, bottom - top
    for _ in range(200):
        dx, dy = (rng.uniform(-0.45, 0.45) * side for side in (wide, high))
        sx, sy = (rng.uniform(0.75, 1.35) for _ in range(2))
        middle = ((left + right) / 2 + dx, (top + bottom) / 2 + dy)
        corners = (
            max(0.0, middle[0] - wide * sx / 2), max(0.0, middle[1] - high * sy / 2),
            min(float(size[0]), middle[0] + wide * sx / 2),
            min(float(size[1]), middle[1] + high * sy / 2),
        )  # fmt: skip
        new = Box(rounded(map(round, corners)), box.label)
        if new.box[2] <= new.box[0] or new.box[3] <= new.box[1]:
            continue
        shared = overlaps(corners_of([box]), corners_of([new]))[0, 0]
        if 0.35 <= shared <= 0.75:
            return new
    return box


def _elsewhere(
    box: Box, boxes: Sequence[Box], size: tuple[int, int], rng: random.Random
) -> Box | None:
    """A box of the same size where there is little."""
    wide, high = box.box[2] - box.box[0], box.box[3] - box.box[1]
    for _ in range(30):
        left, top = rng.uniform(0, size[0] - wide), rng.uniform(0, size[1] - high)
        corners = rounded(map(round, (left, top, left + wide, top + high)))
        stray = Box(corners, box.label)
        if overlaps(corners_of([stray]), corners_of(boxes)).max(initial=0) < 0.3:
            return stray
    return None


class SimulatedJudge:
    """Right in each place with `skill`, by `gold`; `yes` is how often it calls a box that nobody
    had drawn an object. Its answers follow from its seed and the place alone."""

    is_llm = None
    concurrency = 1
    repeatable = True

    def __init__(
        self, name: str, task: Task, gold: dict[str, Sequence[Box]], skill: float,
        yes: float | None, seed: int,
    ) -> None:  # fmt: skip
        self.name, self._task, self._gold = name, task, gold
        self._skill, self._yes, self._seed = skill, yes, seed
        self.places = 0

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Nothing to prepare."""

    def stop(self, reason: str) -> None:
        """Nothing waits."""

    async def aclose(self) -> None:
        """Nothing is open."""

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """The answer of one ask."""
        question = posed(ask.candidates, item.id)
        given = {tuple(each["box"]) for each in item.anchor or ()}
        boxes = list(question.agreed)
        for place in question.places:
            self.places += 1
            boxes += self._of(place, given, item.id)
        return Verdict(ask.ask_id, ask.id, "answer", label_json(tuple(sorted(boxes))))

    def _of(self, place: Sequence[Box], given: set[Any], item_id: str) -> list[Box]:
        rng = random.Random(f"{self._seed}{item_id}{[box.key for box in place]}")
        gold = [box for box in self._gold[item_id] if not box.fixed]
        shared = overlaps(corners_of(place), corners_of(gold))
        best = np.unravel_index(int(shared.argmax()), shared.shape) if shared.size else None
        new = len(place) == 1 and place[0].box not in given
        right = rng.random() < self._skill
        if best is None or shared[best] < 0.5:
            if new and self._yes is not None:
                right = rng.random() >= self._yes
            return [] if right else [rng.choice(list(place))]
        name = gold[int(best[1])].label
        if new and self._yes is not None:
            right = rng.random() < self._yes
        if right:
            return [Box(place[int(best[0])].box, name)]
        if len(place) > 1:
            return [Box(place[1 - int(best[0])].box, name)]
        others = [other for other in self._task.names if other != name]
        wrong = [None, *others[:1]] if not new else [None]
        chosen = rng.choice(wrong)
        return [] if chosen is None else [Box(place[0].box, chosen)]
