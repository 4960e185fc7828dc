"""How many spot-checks it takes to tell whether a round's changes do more good than harm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from llm_relabel.agreement.intervals import lower_bounds
from llm_relabel.people.sampling import LEAST, OUTSIDE, STRATA, allocate, strata_of

SIZES = (25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000)
POWER = 0.8


def spot_checks_to_settle(
    judged: NDArray[np.bool_],
    belief: NDArray[np.float32],
    belief_in_old: NDArray[np.float32],
    changed: NDArray[np.bool_],
    locked: NDArray[np.bool_],
) -> int | None:
    """The least of SIZES, or all rows, by which the gate would pass all changes, with a chance
    of 80%.

    `belief` (rows,) is that in the label a row has now, `belief_in_old` in the one it came with.
    A change is right against its old label with the believed odds, of which half the advantage
    over even is taken to be real, as beliefs are too sure of themselves. The sample is drawn as
    `review sample` draws it. None where nothing was changed, or all rows are too few.
    """
    strata = strata_of(judged, belief, locked)
    members = [strata == code for code in range(len(STRATA))]
    sizes = [int(mask.sum()) for mask in members]
    if not changed[strata != OUTSIDE].any():
        return None
    means = [float(belief[mask].mean()) if mask.any() else 0.5 for mask in members]
    decisive = belief + belief_in_old
    share = [float(decisive[mask & changed].sum()) / max(int(mask.sum()), 1) for mask in members]
    better = float(belief[changed].sum() / max(decisive[changed].sum(), 1e-9))
    better = 0.5 + (better - 0.5) / 2
    total = sum(sizes)
    for size in [*(s for s in SIZES if LEAST * len(STRATA) <= s < total), total]:
        drawn = allocate(sizes, means, [0] * len(sizes), size)
        seen = round(float(drawn @ np.array(share)))
        wins = np.arange(seen + 1)
        passing = wins[lower_bounds(wins, seen) > 0.5]
        if len(passing) and bdtrc(passing[0] - 1, seen, better) >= POWER:
            return size
    return None
