"""How good a column of labels is against gold: the seam of a task's own measure.

A measure is counts of each item that add up, and a value of their sums. So intervals by items,
paired differences and sums over parts come with it.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    percent: bool
    """Whether people read the value as a percentage."""

    def counts(self, labels: Labels, gold: Labels) -> Counts:
        """(items, cells), all 0 of an item without gold. A missing label counts as wrong."""
        ...

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """(...,) the measure of summed counts (..., cells); NaN where it is not defined."""
        ...

    def errors(self, counts: Counts) -> NDArray[np.float64]:
        """(items,) how far each label of these counts (items, cells) is from gold: 0 where it is
        right, else above 0, so that a label can be nearer to gold than another wrong one."""
        ...


class Accuracy:
    """The share of labels that are the gold label; the cells are right and of."""

    name = "accuracy"
    proportion = True
    percent = True

    def counts(self, labels: Labels, gold: Labels) -> Counts:
        known = has_label(gold)
        return np.stack([known & ~differs(labels, gold), known], axis=1).astype(np.float64)

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        right, of = np.asarray(sums[..., 0]), np.asarray(sums[..., 1])
        found = np.full(of.shape, np.nan)
        np.divide(right, of, out=found, where=of > 0)
        return found

    def errors(self, counts: Counts) -> NDArray[np.float64]:
        return np.asarray(counts[:, 1] - counts[:, 0])


def described(measure: Measure) -> dict[str, Any]:
    """What a summary says of the measure beside its values."""
    return {"measure": measure.name, **({} if measure.percent else {"percent": False})}


def told(value: float, about: Mapping[str, Any], *, signed: bool = False) -> str:
    """A value as people read it; `about` is what `described` gave, or holds it."""
    sign = "+" if signed else ""
    if about.get("percent", True):
        return f"{value:{sign}.1%}"
    return f"{value + 0.0:{sign}.3g}"  # no minus before a nought


def title(about: Mapping[str, Any]) -> str:
    """What the measured labels are called where they are shown."""
    name = str(about.get("measure", Accuracy.name))
    return "Right labels" if name == Accuracy.name else name[:1].upper() + name[1:]
