"""When a better guideline is proved: one exact test, what it can show, and what a look costs.

Everything counts items: `fixed` are those that the new guideline brings nearer to gold, `broken`
those that it takes further away. Under the null hypothesis an item that changes is as likely to be
one as the other (McNemar 1947; for labels of several parts, the sign test).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POWER = 0.8
# So much of what is right breaks when a prompt changes at all: what a plan reckons with.
BREAKS = 0.03
_MOST_ITEMS = 20_000


def p_value(fixed: int, broken: int) -> float:
    """The exact one-sided p-value: how likely so many fixed ones are by chance alone."""
    from scipy.stats import binom

    return float(binom.sf(fixed - 1, fixed + broken, 0.5)) if fixed + broken else 1.0


def alpha_of_look(alpha: float, look: int) -> float:
    """What the look number `look` (from 1) at the same gold may use of `alpha`.

    The sum over any number of looks is at most `alpha`: 1/2 + 1/6 + 1/12 + ... = 1.
    """
    return alpha / (look * (look + 1))


def power(items: int, gain: float, breaks: float, alpha: float) -> float:
    """How likely a true net gain is proved on so many items; both are shares of the items."""
    from scipy.stats import binom

    changed = np.arange(items + 1)
    moving = min(1.0, gain + 2 * breaks)
    fixes = (gain + breaks) / moving if moving else 0.5
    needed = _needed(items, alpha)
    proved = binom.sf(needed - 1, changed, min(1.0, fixes))
    return float((binom.pmf(changed, items, moving) * proved).sum())


def smallest_gain(items: int, breaks: float = BREAKS, alpha: float = 0.05) -> float | None:
    """The least net gain that is proved with POWER, as a share; None where none would be."""
    low, high = 0.0, 1.0 - 2 * breaks
    if items < 1 or power(items, high, breaks, alpha) < POWER:
        return None
    while high - low > 0.0005:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if power(items, middle, breaks, alpha) >= POWER else (middle, high)
        )
    return high


def items_for(gain: float, breaks: float = BREAKS, alpha: float = 0.05) -> int | None:
    """How many test items prove this net gain with POWER; None where more than anybody has."""
    if gain <= 0 or power(_MOST_ITEMS, gain, breaks, alpha) < POWER:
        return None
    low, high = 1, _MOST_ITEMS
    while low < high:
        middle = (low + high) // 2
        if power(middle, gain, breaks, alpha) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


def _needed(items: int, alpha: float) -> NDArray[np.int64]:
    """(items + 1,) of so many changed items, how many fixed ones are significant."""
    from scipy.stats import binom

    changed = np.arange(items + 1)
    least = np.asarray(binom.isf(alpha, changed, 0.5)).astype(np.int64) + 1
    # isf gives the largest k with sf(k) <= alpha only up to rounding; check both sides.
    too_few = binom.sf(least - 1, changed, 0.5) > alpha
    least[too_few] += 1
    fewer = (least > 0) & (binom.sf(least - 2, changed, 0.5) <= alpha)
    least[fewer] -= 1
    return np.asarray(least)
