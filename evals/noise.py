"""Label noise of known kind and rate, for sets whose true labels are known.

All three flip exactly `rate` of the rows. `probs` (rows, classes) are out-of-fold
probabilities of a model trained on the true labels.

sym   rows at random, each to any other class, uniformly
conf  rows at random, each to class c with probability proportional to how much of its class's
      probability mass the model puts on c (the model's confusion, the diagonal left out)
inst  rows that the model finds ambiguous: drawn without replacement with weight 1 - p(true),
      each to the other class that the model believes most
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = ("sym", "conf", "inst")


def flip(
    kind: str, rate: float, true: NDArray[np.int64], probs: NDArray[np.float32], seed: int
) -> NDArray[np.int64]:
    """(rows,) labels with `rate` of them wrong."""
    rng = np.random.default_rng(seed)
    rows, classes = probs.shape
    count = round(rate * rows)
    labels = true.copy()
    if kind == "inst":
        weight = 1 - probs[np.arange(rows), true] + 1e-6
        chosen = rng.choice(rows, count, replace=False, p=weight / weight.sum())
        others = probs[chosen].copy()
        others[np.arange(count), true[chosen]] = -1
        labels[chosen] = others.argmax(axis=1)
        return labels
    chosen = rng.choice(rows, count, replace=False)
    if kind == "sym":
        labels[chosen] = (true[chosen] + rng.integers(1, classes, count)) % classes
        return labels
    confusion = np.stack([probs[true == c].sum(axis=0) for c in range(classes)]).astype(np.float64)
    np.fill_diagonal(confusion, 0)
    confusion /= confusion.sum(axis=1, keepdims=True)
    for row in chosen:
        labels[row] = rng.choice(classes, p=confusion[true[row]])
    return labels
