"""95% intervals: exact ones for proportions, a bias-corrected bootstrap for all else.

Everything that is measured here is a function of counts: of a confusion matrix, of right and
wrong answers by confidence. So the bootstrap draws counts (a multinomial), never items, and
costs the same for a hundred items and for a million.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Not scipy.stats, which takes a command's start-up half a second longer.
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From counts (draws, cells) to values (draws,); NaN where a value is not defined."""

DRAWS = 2000
LEVEL = 0.95
TOO_FEW = 20  # cases below which a class's figure is too uncertain to be compared


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its 95% interval; `of` is how many cases stand behind it.

    `value` is None where it is not defined, `low` and `high` where no interval is.
    """

    value: float | None
    low: float | None
    high: float | None
    of: int
    percent: bool = True
    """Whether people read it as a percentage."""

    @property
    def too_few(self) -> bool:
        """Whether so few cases stand behind it that the interval says more than the value."""
        return self.of < TOO_FEW

    def as_json(self) -> dict[str, Any]:
        """The figure as result files hold it."""
        plain: dict[str, Any] = {
            "value": self.value, "low": self.low, "high": self.high, "of": self.of
        }  # fmt: skip
        plain |= {} if self.percent else {"percent": False}
        return {**plain, "too_few": True} if self.too_few else plain


def share(count: int, of: int) -> Figure:
    """A proportion with its exact interval (Clopper and Pearson, 1934)."""
    if of == 0:
        return Figure(None, None, None, 0)
    tail = (1 - LEVEL) / 2
    low, high = lower_bounds(count, of, tail), 1 - lower_bounds(of - count, of, tail)
    return Figure(count / of, float(low), float(high), of)


def lower_bounds(wins: ArrayLike, of: ArrayLike, tail: float = 1 - LEVEL) -> NDArray[np.float64]:
    """Exact one-sided lower bounds of shares (Clopper and Pearson, 1934); 0 of nothing.

    `tail` is the chance that a bound is missed.
    """
    wins, of = np.broadcast_arrays(np.asarray(wins), np.asarray(of))
    # Counts are few and their pairs fewer: each is looked up once.
    pairs, which = np.unique(np.stack([wins.ravel(), of.ravel()]), axis=1, return_inverse=True)
    some, total = np.maximum(pairs[0], 1), np.maximum(pairs[1], 1)
    bounds = np.where(pairs[0] > 0, betaincinv(some, total - some + 1, tail), 0.0)
    return np.asarray(bounds[which.reshape(-1)].reshape(wins.shape))


def proportion(count: int, of: int) -> dict[str, Any]:
    """A share of at least one case, as summaries hold it."""
    figure = share(count, of)
    return {"rate": figure.value, "count": count, "of": of,
            "low": figure.low, "high": figure.high}  # fmt: skip


def bootstrapped(
    counts: NDArray[Any], statistic: Statistic, *, seed: int = 0, draws: int = DRAWS
) -> Figure:
    """`statistic` of integer `counts` (cells,) with a BCa interval (Efron, 1987).

    Bias and acceleration are corrected as published; the percentiles are then widened as a
    t distribution's are (Hesterberg, 2015, section 5.2: "expanded"), since the bootstrap of few
    cases is too narrow by the factor sqrt((n - 1) / n) and by the normal's thinner tails.
    """
    cells = np.asarray(counts, dtype=np.float64)
    n = int(cells.sum())
    if n == 0:
        return Figure(None, None, None, 0)
    value = float(statistic(cells[None, :])[0])
    if math.isnan(value):
        return Figure(None, None, None, n)
    occupied = np.flatnonzero(cells)
    rng = np.random.default_rng(seed)
    drawn = np.zeros((draws, cells.size))
    drawn[:, occupied] = rng.multinomial(n, cells[occupied] / n, size=draws)
    values = statistic(drawn)
    values = np.sort(values[~np.isnan(values)])
    if n == 1 or values.size < draws / 2 or values[0] == values[-1]:
        # Nothing varies: the sample cannot show what others would; the value stands alone.
        return Figure(value, None, None, n)
    ties = np.searchsorted(values, [value - 1e-12, value + 1e-12])
    below = min(max(ties.mean() / values.size, 1 / (2 * values.size)), 1 - 1 / (2 * values.size))
    bias = ndtri(below)
    acceleration = _acceleration(cells, occupied, statistic)
    tail = ndtr(stdtrit(n - 1, (1 - LEVEL) / 2) * math.sqrt(n / (n - 1)))
    ends = []
    for alpha in (tail, 1 - tail):
        z = bias + ndtri(alpha)
        # Of very few cases the correction has no finite end; then only the bias is corrected.
        stretch = 1 - acceleration * z
        ends.append(float(ndtr(bias + (z / stretch if stretch > 0 else z))))
    low, high = np.quantile(values, np.clip(ends, 0, 1))
    return Figure(value, float(min(low, value)), float(max(high, value)), n)


def _acceleration(
    cells: NDArray[np.float64], occupied: NDArray[np.int64], statistic: Statistic
) -> float:
    """A third of the skewness of the jackknife's influence values; one jackknife value a cell."""
    without = np.repeat(cells[None, :], occupied.size, axis=0)
    without[np.arange(occupied.size), occupied] -= 1
    values = statistic(without)
    weights = cells[occupied]
    usable = ~np.isnan(values)
    if usable.sum() < 2:
        return 0.0
    values, weights = values[usable], weights[usable]
    deviations = np.average(values, weights=weights) - values
    spread = float(np.sum(weights * deviations**2))
    # Of two or three cases the jackknife values may differ by rounding only.
    if spread <= 1e-18:
        return 0.0
    return float(np.sum(weights * deviations**3) / (6 * spread**1.5))
