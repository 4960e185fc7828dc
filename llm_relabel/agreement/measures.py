"""Coefficients of agreement, each a function of a confusion matrix, for many matrices at once.

A matrix is (..., K, K + 1): rows are the true classes, columns the answered ones, and the last
column counts items without an answer. Every function gives one value for each matrix, NaN
where it is not defined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Values = NDArray[np.float64]


def confusion(
    truth: NDArray[np.int64], answer: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """The matrix (classes, classes + 1) of codes 0..classes-1; an answer of -1 is none."""
    column = np.where(answer < 0, classes, answer)
    flat = np.bincount(truth * (classes + 1) + column, minlength=classes * (classes + 1))
    return flat.reshape(classes, classes + 1)


def answered_only(matrix: NDArray[Any]) -> NDArray[Any]:
    """The matrix with items without an answer left out (their column emptied)."""
    left = matrix.copy()
    left[..., -1] = 0
    return left


def accuracy(matrix: Matrix) -> Values:
    """Share of items answered right; no answer is a wrong one."""
    return _divide(_hits(matrix).sum(-1), matrix.sum((-1, -2)))


def precision(matrix: Matrix) -> Values:
    """(..., K) of the items answered with a class, the share that has it; NaN if none was."""
    return _divide(_hits(matrix), matrix[..., :-1].sum(-2))


def recall(matrix: Matrix) -> Values:
    """(..., K) of the items of a class, the share that was answered so; NaN if it has none."""
    return _divide(_hits(matrix), matrix.sum(-1))


def f1(matrix: Matrix) -> Values:
    """(..., K) 2 TP / (2 TP + FP + FN); NaN for a class that is neither true nor answered."""
    hits = _hits(matrix)
    return _divide(2 * hits, matrix.sum(-1) + matrix[..., :-1].sum(-2))


def cohen_kappa(matrix: Matrix) -> Values:
    """Agreement beyond chance (Cohen, 1960); no answer is a category of its own."""
    square = _square(matrix)
    total = square.sum((-1, -2))
    observed = _divide(np.einsum("...ii->...", square), total)
    chance = _divide((square.sum(-1) * square.sum(-2)).sum(-1), total**2)
    return _divide(observed - chance, 1 - chance)


def matthews(matrix: Matrix) -> Values:
    """Matthews' correlation for any number of classes (Gorodkin, 2004)."""
    square = _square(matrix)
    total = square.sum((-1, -2))
    true, answered = square.sum(-1), square.sum(-2)
    right = np.einsum("...ii->...", square)
    numerator = right * total - (true * answered).sum(-1)
    spread = (total**2 - (answered**2).sum(-1)) * (total**2 - (true**2).sum(-1))
    return _divide(numerator, np.sqrt(spread))


def alpha_of_two(matrix: Matrix) -> Values:
    """Nominal alpha (Krippendorff, 2011) of truth and answer, from their confusion matrix.

    1 is full agreement, 0 that of chance; `raters.alpha` is the same for many raters.
    """
    inner = matrix[..., :-1]
    total = 2 * inner.sum((-1, -2))
    by_category = inner.sum(-1) + inner.sum(-2)
    observed = 1 - _divide(2 * np.einsum("...ii->...", inner), total)
    expected = 1 - _divide((by_category * (by_category - 1)).sum(-1), total * (total - 1))
    return 1 - _divide(observed, expected)


def _hits(matrix: Matrix) -> Values:
    return np.asarray(np.einsum("...ii->...i", matrix[..., :-1]))


def _square(matrix: Matrix) -> Matrix:
    """Without an answer as a class of its own, which is never true."""
    shape = (*matrix.shape[:-2], 1, matrix.shape[-1])
    return np.concatenate([matrix, np.zeros(shape, dtype=matrix.dtype)], axis=-2)


def _divide(numerator: Any, denominator: Any) -> Values:
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 1e-15)
    return out
