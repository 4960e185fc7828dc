"""Gold in parts that know nothing of each other: whole groups, alike in labels.

The strata come from the labels as they are, never from gold: what is proposed must not depend on
the gold of the items that test it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llm_relabel.errors import JobError

PROPOSE, SELECT, TEST = "propose", "select", "test"
FIRST, SECOND = "first half", "second half"
Mode = Literal["locked", "cross-fit", "proposals"]

# From so many items with gold on, one part is locked away for the test; from FEW on, each half
# tests what the other proposed; below, nothing can be proved.
MANY, FEW = 150, 60
SHARES = (0.3, 0.2, 0.5)
# Where no part is locked away, a search learns from one part and chooses by the other.
HALVES = {PROPOSE: 0.6, SELECT: 0.4}


def mode_of(items: int) -> Mode:
    """How gold of so many items is used."""
    return "locked" if items >= MANY else "cross-fit" if items >= FEW else "proposals"


def parse_shares(text: str) -> tuple[float, float, float]:
    """`30/20/50` as shares of propose, select and test. Raises JobError."""
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts, default=0) < 0 or parts[0] <= 0 or parts[1] <= 0:
        raise JobError(
            f"--split {text!r}: expected three numbers for propose, select and test, such as "
            "30/20/50"
        )
    return parts[0] / sum(parts), parts[1] / sum(parts), parts[2] / sum(parts)


def dealt(
    shares: Mapping[str, float], groups: NDArray[np.int64], strata: NDArray[np.int64], seed: int
) -> NDArray[np.object_]:
    """(items,) the part of each item; `groups` and `strata` (items,) are numbers.

    Groups stay whole. Stratum by stratum, each goes to the part that lacks most of its share.
    """
    rng = np.random.default_rng(seed)
    names = [name for name, share in shares.items() if share > 0]
    wanted = np.array([shares[name] for name in names])
    found = np.full(len(groups), "", dtype=object)
    distinct, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = rng.permutation(len(distinct))
    order = order[np.argsort(strata[first][order], kind="stable")]
    have, dealt_so_far = np.zeros(len(names)), 0
    for place in order.tolist():
        dealt_so_far += int(sizes[place])
        chosen = int(np.argmax(wanted * dealt_so_far - have))
        have[chosen] += sizes[place]
        found[groups == distinct[place]] = names[chosen]
    return found


def parts_of(
    mode: Mode, shares: tuple[float, float, float], groups: NDArray[np.int64],
    strata: NDArray[np.int64], seed: int,
) -> dict[str, NDArray[np.int64]]:  # fmt: skip
    """The places (items,) of each part; parts of a half are called `first half: propose`."""

    def part(places: NDArray[np.int64], of: Mapping[str, float]) -> dict[str, NDArray[np.int64]]:
        named = dealt(of, groups[places], strata[places], seed)
        return {name: places[named == name] for name in of}

    everything = np.arange(len(groups))
    if mode == "locked":
        return part(everything, dict(zip((PROPOSE, SELECT, TEST), shares, strict=True)))
    found = part(everything, HALVES)
    if mode == "cross-fit":
        for name, places in part(everything, {FIRST: 0.5, SECOND: 0.5}).items():
            found[name] = places
            found |= {f"{name}: {k}": v for k, v in part(places, HALVES).items()}
    return found
