"""How a blind sample of items is drawn: strata, how many of each, which ones, with what chance.

Strata are {judged, not judged} x the belief in the label, from 0.9 or below. Allocation is
Neyman's (1934): to a stratum in proportion to its size times the standard deviation of "the label
is right", taken from its mean belief. It minimises the variance of the estimated accuracy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SURE = 0.9
LEAST = 4  # of each stratum, or all of a smaller one: without it an error there cannot be seen
CLIP = 0.05  # a belief near 0 or 1 would leave its stratum out, and beliefs are overconfident
STRATA = ("judged-sure", "judged-doubtful", "unjudged-sure", "unjudged-doubtful")
OUTSIDE = -1


def strata_of(
    judged: NDArray[np.bool_], belief: NDArray[np.float32], outside: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """(rows,) the place in STRATA of each row, OUTSIDE for rows that are never drawn."""
    codes = 2 * ~judged + (belief < SURE)
    return np.where(outside, OUTSIDE, codes).astype(np.int8)


def allocate(
    sizes: Sequence[int], beliefs: Sequence[float], drawn: Sequence[int], more: int
) -> NDArray[np.int64]:
    """(strata,) how many to draw now of each stratum; they sum to `more`, or to all that is left.

    `sizes` are the strata's, `beliefs` their mean beliefs in 0..1, `drawn` what was drawn before.
    The whole sample, earlier draws included, comes as near to Neyman's as the bounds allow: at
    least LEAST of a stratum, never more than it has. Raises ValueError where `more` is too few
    for LEAST of each.
    """
    size, before = np.asarray(sizes, dtype=np.int64), np.asarray(drawn, dtype=np.int64)
    low = np.maximum(before, np.minimum(LEAST, size))
    total = min(before.sum() + more, size.sum())
    if total < low.sum():
        raise ValueError(f"{low.sum() - before.sum()} are needed for {LEAST} of each stratum")
    p = np.clip(np.asarray(beliefs, dtype=np.float64), CLIP, 1 - CLIP)
    weight = np.where(size > 0, size * np.sqrt(p * (1 - p)), 1.0)
    # The optimum within bounds is a common factor, clipped; its sum grows with the factor.
    least, most = 0.0, float((size / weight).max(initial=0.0))
    for _ in range(100):
        middle = (least + most) / 2
        if np.clip(middle * weight, low, size).sum() < total:
            least = middle
        else:
            most = middle
    ideal = np.clip(most * weight, low, size)
    whole = np.floor(ideal + 1e-9).astype(np.int64)
    open_ = np.flatnonzero(whole < size)
    by_rest = open_[np.argsort(-(ideal - whole)[open_], kind="stable")]
    whole[by_rest[: total - whole.sum()]] += 1
    return whole - before


def drawing_order(rows: int, seed: int, round_number: int) -> NDArray[np.int64]:
    """A random order of all rows. Drawing takes the first ones of a stratum not drawn before,

    so that a later draw goes on where the one before ended, and the same job draws the same.
    """
    key = hashlib.sha256(f"spot-checks/{seed}/{round_number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16])).permutation(rows)


def inclusion_probabilities(
    strata: Sequence[NDArray[np.int8]], drawn: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """(rows,) the chance of each row to have been drawn by now, over the rounds with a sample.

    `strata` holds each such round's (rows,) strata, `drawn` the rows drawn in it. In one round
    the chance is drawn / size of the stratum. A later round draws from what was not drawn before,
    so the chances to be missed multiply.
    """
    missed = np.ones(len(strata[0]))
    earlier = np.zeros(len(strata[0]), dtype=np.bool_)
    for codes, here in zip(strata, drawn, strict=True):
        for code in range(len(STRATA)):
            stratum = codes == code
            left = int((stratum & ~earlier).sum())
            if left:
                missed[stratum] *= 1 - int((stratum & here).sum()) / left
        earlier |= here
    return np.asarray(1 - missed)
