"""Tagging's measure: exact spans, as conlleval and seqeval count them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.units import Labels, has_label


class SpanF1:
    """Micro F1 of spans that are in gold with the same borders and type; the cells are right
    spans, spans and gold spans. A missing label has no spans."""

    name = "span F1"
    proportion = False
    percent = True

    def counts(self, labels: Labels, gold: Labels) -> NDArray[np.float64]:
        """(items, 3), all 0 of an item without gold."""
        cells = np.zeros((len(gold), 3))
        for row in np.flatnonzero(has_label(gold)).tolist():
            true, told = set(gold[row]), set(labels[row] or ())
            cells[row] = len(true & told), len(told), len(true)
        return cells

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """(...,) of summed counts; NaN where there is no span at all."""
        right, told, true = (np.asarray(sums[..., cell]) for cell in range(3))
        found = np.full(right.shape, np.nan)
        np.divide(2 * right, told + true, out=found, where=told + true > 0)
        return found

    def errors(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(items,) missing and spurious spans."""
        return np.asarray(counts[:, 1] + counts[:, 2] - 2 * counts[:, 0])
