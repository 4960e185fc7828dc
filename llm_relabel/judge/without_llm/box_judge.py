"""`embedded` for boxes: what the frozen network sees in each doubted place, against agreed boxes.

A linear model of classes and of no object learns from the boxes that nobody doubts, and from such
boxes shifted aside or put elsewhere; never from the pictures that it is asked about. It sees what
the detector sees, so it is no independent witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.data.boxes import Box, Floats, corners_of, overlaps
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.tasks import Task
from llm_relabel.tasks.posed import Posed, posed
from llm_relabel.units import label_json

FOLDS = 3
# Of an agreed box so far away lies what is none, in shares of its sides; and elsewhere another one.
SHIFTS = (0.35, 0.6)
ELSEWHERE = 0.2  # what a box elsewhere overlaps with any label at most
STRENGTH = 0.02  # inverse of the ridge of the linear model
MOST_BOXES = 12_000  # that it learns from, in each fold
NONE = 0


class BoxJudge:
    """Judges without any LLM, as far as the frozen network tells classes apart."""

    name = "embedded"
    is_llm = False
    concurrency = 1
    repeatable = False

    def __init__(self, task: Task, definitions: LabelDefinitions) -> None:  # noqa: ARG002 - boxes are compared, not words
        self._task = task
        self._codes = {name: code for code, name in enumerate(task.names, start=1)}
        self._beliefs: dict[str, list[NDArray[np.float64]]] = {}

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Learn from what the round's questions do not doubt, and look at each of their places."""
        detector: Any = evidence.model
        asked: dict[int, Posed] = {}
        for ask in asks:
            asked.setdefault(ask.row, posed(ask.candidates, ask.id))
        rng = np.random.default_rng(evidence.number)
        taught = [
            self._lessons(detector, row, label, asked.get(row), rng)
            for row, label in enumerate(evidence.labels.tolist())
            if label is not None and detector.sees(row)
        ]
        rows = np.array([row for row, label in enumerate(evidence.labels.tolist())
                         if label is not None and detector.sees(row)], dtype=np.int64)  # fmt: skip
        names, group = np.unique(evidence.groups, return_inverse=True)
        fold = np.random.default_rng(0).permutation(len(names))[group] % FOLDS
        self._beliefs = {}
        for number in range(FOLDS):
            held = [ask for ask in asks if fold[ask.row] == number and detector.sees(ask.row)]
            if not held:
                continue
            part = [taught[at] for at in np.flatnonzero(fold[rows] != number).tolist()]
            model = self._fitted(part, rng)
            for ask in held:
                question = posed(ask.candidates, ask.id)
                self._beliefs[ask.ask_id] = [
                    model(detector.look(ask.row, corners_of(place))) for place in question.places
                ]

    def stop(self, reason: str) -> None:
        """Nothing waits."""

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """The likeliest reading of each place; where there is no picture, no answer."""
        found = self._beliefs.get(ask.ask_id)
        if found is None:
            return Verdict(ask.ask_id, ask.id, "abstain", reason="unsure",
                           rationale="there is no picture to look at")  # fmt: skip
        question = posed(ask.candidates, item.id)
        boxes, told, sure = list(question.agreed), list[str](), 1.0
        for number, (place, belief) in enumerate(zip(question.places, found, strict=True), start=1):
            at = int((1 - belief[:, NONE]).argmax())
            code = int(belief[at].argmax())
            sure = min(sure, float(belief[at, code]))
            if code != NONE:
                boxes.append(Box(place[at].box, self._task.names[code - 1]))
            said = "no object" if code == NONE else self._task.names[code - 1]
            told.append(f"{number}: {said} ({belief[at, code]:.0%})")
        label = label_json(tuple(sorted(boxes)))
        return Verdict(ask.ask_id, ask.id, "answer", label, confidence=sure,
                       rationale="looks like " + ", ".join(told), cost=0.0)  # fmt: skip

    async def aclose(self) -> None:
        """Nothing is open."""

    def _lessons(
        self, detector: Any, row: int, label: Any, question: Posed | None, rng: Any
    ) -> tuple[Floats, NDArray[np.int64]]:
        """What one picture teaches: what is seen in boxes (n, d), and their codes (n,)."""
        boxes = [box for box in (label if question is None else question.agreed) if not box.fixed]
        own, every = corners_of(boxes), corners_of(list(label))
        sides = own[:, 2:] - own[:, :2]
        away = rng.uniform(*SHIFTS, size=(len(own), 2)) * rng.choice((-1, 1), size=(len(own), 2))
        away[np.arange(len(own)), rng.integers(0, 2, len(own))] *= rng.random(len(own))
        beside = own + np.tile(away * sides, 2)
        size = np.array(detector.size(row), dtype=np.float64)
        corner = rng.random((len(own), 2)) * np.maximum(size - sides, 1)
        stray = np.concatenate([corner, corner + sides], axis=1)
        stray = stray[overlaps(stray, every).max(axis=1, initial=0) < ELSEWHERE]
        beside = beside[overlaps(beside, every).max(axis=1, initial=0) < 0.5]
        codes = [self._codes[box.label] for box in boxes] + [NONE] * (len(beside) + len(stray))
        seen = detector.look(row, np.concatenate([own, beside, stray]))
        return seen, np.array(codes, dtype=np.int64)

    def _fitted(self, lessons: Sequence[tuple[Floats, NDArray[np.int64]]], rng: Any) -> Any:
        """A function of what is seen (n, d): the belief (n, 1 + classes) in none and each class."""
        from sklearn.linear_model import LogisticRegression

        seen = np.concatenate([each for each, _ in lessons]) if lessons else np.zeros((0, 1))
        codes = np.concatenate([each for _, each in lessons]) if lessons else np.zeros(0, int)
        classes, width = np.unique(codes), 1 + len(self._codes)
        if len(classes) < 2:
            return lambda looked: np.full((len(looked), width), 1 / width)
        chosen = rng.permutation(len(seen))[:MOST_BOXES]
        middle, spread = seen[chosen].mean(axis=0), seen[chosen].std(axis=0) + 1e-6
        model = LogisticRegression(C=STRENGTH, max_iter=200, class_weight="balanced")
        model.fit((seen[chosen] - middle) / spread, codes[chosen])

        def believed(looked: Floats) -> Floats:
            found = np.zeros((len(looked), width))
            found[:, model.classes_] = model.predict_proba((looked - middle) / spread)
            return found

        return believed
