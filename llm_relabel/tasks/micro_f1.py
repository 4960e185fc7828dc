"""Micro F1 of things that are in a label: what spans and boxes are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class MicroF1:
    """The value of summed counts; the cells are right things, things told and things of gold."""

    proportion = False
    percent = True

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """(...,) of summed counts; NaN where there is nothing at all."""
        right, told, true = (np.asarray(sums[..., cell]) for cell in range(3))
        found = np.full(right.shape, np.nan)
        np.divide(2 * right, told + true, out=found, where=told + true > 0)
        return found

    def errors(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(items,) missing and spurious ones."""
        return np.asarray(counts[:, 1] + counts[:, 2] - 2 * counts[:, 0])
