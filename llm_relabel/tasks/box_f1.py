"""Detection's measure: boxes of the right class on an object of gold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm_relabel.data.boxes import SAME_OBJECT, corners_of, overlaps, pairs
from llm_relabel.tasks.micro_f1 import MicroF1
from llm_relabel.units import Labels, LabelValue, has_label


class BoxF1(MicroF1):
    """Micro F1 of boxes that are matched one to one with gold boxes of their class at an overlap of
    `at`; the cells are matched boxes, boxes and gold boxes. A missing label has no boxes.

    Fixed boxes are none of these, and a box on a fixed one of gold is neither right nor wrong.
    """

    def __init__(self, at: float = SAME_OBJECT) -> None:
        self.name = "box F1" if at == SAME_OBJECT else f"box F1 at IoU {at:g}"
        self._at = at

    def counts(self, labels: Labels, gold: Labels) -> NDArray[np.float64]:
        """(items, 3), all 0 of an item without gold."""
        cells = np.zeros((len(gold), 3))
        for row in np.flatnonzero(has_label(gold)).tolist():
            cells[row] = self._of_row(labels[row] or (), gold[row])
        return cells

    def _of_row(self, label: LabelValue, gold: LabelValue) -> tuple[int, int, int]:
        told = [box for box in label if not box.fixed]
        true = [box for box in gold if not box.fixed]
        aside = corners_of([box for box in gold if box.fixed])
        shared = overlaps(corners_of(told), corners_of(true))
        for place, one in enumerate(told):
            for number, other in enumerate(true):
                if one.label != other.label:
                    shared[place, number] = 0
        matched = {place for place, _ in pairs(shared, self._at)}
        rest = [box for place, box in enumerate(told) if place not in matched]
        excused = (overlaps(corners_of(rest), aside).max(axis=1, initial=0) >= self._at).sum()
        return len(matched), len(told) - int(excused), len(true)
