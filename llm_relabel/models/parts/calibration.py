"""Scores to probabilities: one slope and a shift per class, fitted to leave-out scores.

So few parameters that fitting them on the labels they are read against leaks nothing that
matters (temperature and bias scaling, Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

FIT_ROWS = 50_000
# Pulls the shifts of classes with next to no rows to zero.
SHIFT_PRIOR = 1.0


@dataclass(frozen=True)
class Calibration:
    """`slope` times a score plus the class's `shift` is a logit."""

    slope: float
    shift: NDArray[np.float64]
    exclusive: bool

    def apply(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, classes) probabilities; rows sum to 1 where classes exclude each other."""
        logits = self.slope * scores + self.shift
        probs = softmax(logits, axis=1) if self.exclusive else expit(logits)
        return np.asarray(probs, dtype=np.float32)


def calibrate(
    scores: NDArray[np.float32],
    matrix: NDArray[np.bool_],
    rows: NDArray[np.int64],
    *,
    exclusive: bool,
) -> Calibration:
    """Fit to the labels `matrix` (rows, classes) of the given rows, by maximum likelihood."""
    if len(rows) > FIT_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, FIT_ROWS).astype(np.int64)]
    count = max(1, len(rows))  # with no labels the prior alone decides
    s = scores[rows].astype(np.float64)
    y = matrix[rows].astype(np.float64)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, shift = np.exp(parameters[0]), parameters[1:]
        logits = slope * s + shift
        if exclusive:
            total = logsumexp(logits, axis=1)
            value = float((total - (logits * y).sum(axis=1)).sum())
            gap = np.exp(logits - total[:, None]) - y
        else:
            value = float((np.logaddexp(0, logits) - y * logits).sum())
            gap = expit(logits) - y
        value += 0.5 * SHIFT_PRIOR * float(shift @ shift)
        gradient = np.concatenate(
            [[slope * float((gap * s).sum())], gap.sum(axis=0) + SHIFT_PRIOR * shift]
        )
        return value / count, gradient / count

    start = np.concatenate([[np.log(5.0)], np.zeros(s.shape[1])])
    bounds = [(-3.0, 5.0)] + [(-10.0, 10.0)] * s.shape[1]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(np.exp(found[0])), found[1:], exclusive)
