"""Ridge regression on class indicators, with exact predictions that leave each row out.

Leave-one-out: Allen's PRESS (1974), e_i = (y_i - f_i) / (1 - h_ii). Leave-one-group-out, the
block form: the weights without group G are w - A^-1 X_G' (I - H_GG)^-1 (Y_G - F_G), with
A = X'X + penalty I, F the fit and H = X A^-1 X' (Cook and Weisberg 1982, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve

Floats = NDArray[np.float32]

# Strengths relative to the mean eigenvalue of the Gram matrix, weakest first.
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
CHUNK = 16_384
# Above this many members, taking a group out of the Gram matrix is cheaper than its block.
BIG_GROUP = 600
ENOUGH_SINGLES = 200


class LeaveOutRidge:
    """One design matrix; any number of fits on subsets of its rows.

    `features` is (rows, d); rows that share a number in `groups` never vouch for each other.
    """

    def __init__(self, features: Floats, groups: NDArray[np.int64]) -> None:
        self._x = features
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[:1]] - 1))
        members = np.split(order, starts[1:]) if len(order) else []
        self._groups = [rows for rows in members if len(rows) > 1]
        self._single = np.ones(len(groups), dtype=np.bool_)
        for rows in self._groups:
            self._single[rows] = False

    def leave_out(
        self, y: Floats, train: NDArray[np.bool_], penalty: float | None = None
    ) -> tuple[Floats, float]:
        """Scores (rows, classes) for every row, each from a fit without its own group.

        `y` is (rows, classes), `train` (rows,) bool says which rows are fitted on; the others
        are only predicted. `penalty` None takes the one of PENALTIES with the least squared
        leave-out error on `y`. Gives the scores and the penalty.
        """
        gram, moment = self._moments(y, train)
        values, vectors = eigh(gram)
        values = np.maximum(values, 0.0)
        scale = float(values.sum() / max(1, len(values))) or 1.0
        rotated = vectors.T @ moment
        if penalty is None:
            penalty = self._choose(y, train, values, vectors, rotated, scale)
        ridge = penalty * scale
        weights = (vectors @ (rotated / (values + ridge)[:, None])).astype(np.float32)
        half = (vectors / np.sqrt(values + ridge)).astype(np.float32)
        scores, leverage = self._fit_and_leverage(weights, half)
        factor = np.where(train & self._single, leverage / np.maximum(1 - leverage, 1e-6), 0)
        scores -= factor[:, None].astype(np.float32) * (y - scores)
        for rows in self._groups:
            # The formula below needs the fit, and grouped rows still hold it (factor 0).
            fitted_on = rows[train[rows]]
            if len(fitted_on) == 0:
                continue
            if len(fitted_on) > BIG_GROUP:
                scores[rows] = self._without(rows, fitted_on, gram, moment, y, ridge)
                continue
            tall = self._x[rows] @ half
            inner = tall[train[rows]]
            block = np.eye(len(fitted_on)) - inner @ inner.T
            residual = (y[fitted_on] - scores[fitted_on]).astype(np.float64)
            correction = solve(block + 1e-9 * np.eye(len(block)), residual, assume_a="sym")
            scores[rows] -= ((tall @ inner.T) @ correction).astype(np.float32)
        return scores, penalty

    def fit(self, y: Floats, train: NDArray[np.bool_], penalty: float) -> Floats:
        """Weights (d, classes) fitted on all `train` rows, for texts outside the data."""
        gram, moment = self._moments(y, train)
        ridge = penalty * (np.trace(gram) / max(1, len(gram)) or 1.0)
        return np.asarray(
            solve(gram + ridge * np.eye(len(gram)), moment, assume_a="pos"), dtype=np.float32
        )

    def _choose(
        self,
        y: Floats,
        train: NDArray[np.bool_],
        values: NDArray[np.float64],
        vectors: NDArray[np.float64],
        rotated: NDArray[np.float64],
        scale: float,
    ) -> float:
        # Copies would make any penalty look too strong, so rows without one choose, if they can.
        rows = np.flatnonzero(train & self._single)
        if len(rows) < ENOUGH_SINGLES:
            rows = np.flatnonzero(train)
        if len(rows) == 0:
            return PENALTIES[-1]
        if len(rows) > CHUNK:
            rows = rows[np.linspace(0, len(rows) - 1, CHUNK).astype(np.int64)]
        projected = self._x[rows].astype(np.float64) @ vectors
        errors = []
        for penalty in PENALTIES:
            shrink = 1 / (values + penalty * scale)
            leverage = np.einsum("ij,ij,j->i", projected, projected, shrink)
            residual = y[rows] - projected @ (rotated * shrink[:, None])
            errors.append(np.mean((residual / np.maximum(1 - leverage, 1e-6)[:, None]) ** 2))
        return PENALTIES[int(np.argmin(errors))]

    def _moments(
        self, y: Floats, train: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        width = self._x.shape[1]
        gram = np.zeros((width, width))
        moment = np.zeros((width, y.shape[1]))
        for part in _chunks(len(self._x)):
            chosen = train[part]
            x = self._x[part][chosen]
            gram += x.T @ x
            moment += x.T @ y[part][chosen]
        return gram, moment

    def _fit_and_leverage(
        self, weights: Floats, half: Floats
    ) -> tuple[Floats, NDArray[np.float64]]:
        scores = np.empty((len(self._x), weights.shape[1]), dtype=np.float32)
        leverage = np.empty(len(self._x))
        for part in _chunks(len(self._x)):
            x = self._x[part]
            scores[part] = x @ weights
            leverage[part] = np.square(x @ half).sum(axis=1)
        return scores, leverage

    def _without(
        self,
        rows: NDArray[np.int64],
        fitted_on: NDArray[np.int64],
        gram: NDArray[np.float64],
        moment: NDArray[np.float64],
        y: Floats,
        ridge: float,
    ) -> Floats:
        x = self._x[fitted_on]
        rest = gram - x.T @ x + ridge * np.eye(len(gram))
        weights = solve(rest, moment - x.T @ y[fitted_on], assume_a="pos")
        return np.asarray(self._x[rows] @ weights, dtype=np.float32)


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK):
        yield slice(start, min(rows, start + CHUNK))
