"""Tagging's measure: exact spans, as conlleval and seqeval count them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm_relabel.tasks.micro_f1 import MicroF1
from llm_relabel.units import Labels, has_label


class SpanF1(MicroF1):
    """Micro F1 of spans that are in gold with the same borders and type; the cells are right
    spans, spans and gold spans. A missing label has no spans."""

    name = "span F1"

    def counts(self, labels: Labels, gold: Labels) -> NDArray[np.float64]:
        """(items, 3), all 0 of an item without gold."""
        cells = np.zeros((len(gold), 3))
        for row in np.flatnonzero(has_label(gold)).tolist():
            true, told = set(gold[row]), set(labels[row] or ())
            cells[row] = len(true & told), len(told), len(true)
        return cells
