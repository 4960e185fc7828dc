"""Two judges on the same items: which is right more often, and is that chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import Figure, bootstrapped


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of McNemar's test (1947), from the two discordant counts."""
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979), in the order given."""
    order = np.argsort(p_values)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def compare(right: Mapping[str, NDArray[np.bool_]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Every pair of judges: difference in accuracy, exact McNemar, Holm over all pairs.

    `right` holds, for each judge, whether each item (the same items, in the same order) was
    answered right.
    """
    pairs: list[dict[str, Any]] = []
    for (one, first), (other, second) in combinations(right.items(), 2):
        both, only_first = int((first & second).sum()), int((first & ~second).sum())
        only_second, neither = int((~first & second).sum()), int((~first & ~second).sum())
        difference = _difference([both, only_first, only_second, neither], seed)
        pairs.append({
            "judges": [one, other], "difference": difference.as_json(),
            "only_first": only_first, "only_second": only_second,
            "p": mcnemar(only_first, only_second),
        })  # fmt: skip
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_corrected"] = corrected
    return pairs


def _difference(cells: Sequence[int], seed: int) -> Figure:
    def difference(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((drawn[:, 1] - drawn[:, 2]) / drawn.sum(-1))

    return bootstrapped(np.array(cells), difference, seed=seed)
