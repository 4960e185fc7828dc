"""How good a column of labels is against gold: the seam of a task's own measure.

A measure is counts of each item that add up, and a value of their sums. So intervals by items,
paired differences and sums over parts come with it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llm_relabel.units import Labels, differs, has_label

Counts = NDArray[np.float64]


class Measure(Protocol):
    """A task's measure. HIGHER is better."""

    name: str
    proportion: bool
    """Whether the value is the first count over the second, so that exact intervals hold."""

    def counts(self, labels: Labels, gold: Labels) -> Counts:
        """(items, cells), all 0 of an item without gold. A missing label counts as wrong."""
        ...

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """(...,) the measure of summed counts (..., cells); NaN where it is not defined."""
        ...


class Accuracy:
    """The share of labels that are the gold label; the cells are right and of."""

    name = "accuracy"
    proportion = True

    def counts(self, labels: Labels, gold: Labels) -> Counts:
        known = has_label(gold)
        return np.stack([known & ~differs(labels, gold), known], axis=1).astype(np.float64)

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        right, of = np.asarray(sums[..., 0]), np.asarray(sums[..., 1])
        found = np.full(of.shape, np.nan)
        np.divide(right, of, out=found, where=of > 0)
        return found
