"""What all sources together say of every item: given label, small model, every judge.

Dawid and Skene's model (1979): each labeler has a confusion matrix P(said | true), found by EM
together with the posterior of the true labels. Three things are added.

1. Each matrix is drawn to one coin (right with probability a, else any other class alike), so
   that a class which a labeler seldom met has a sensible row.
2. The small model is no labeler of its own: it learned from the same labels. It enters as the
   prior of each item (Raykar et al., 2010), softmax(w log p + b), and w and b are fitted in each
   M-step. A model that repeats its teachers' noise adds nothing to the likelihood of what the
   others say, and so w falls by itself; a model that is too modest, as one is that learned from
   noisy labels, is sharpened.
3. Rows whose label a person gave are held fixed, and teach every matrix.

The sources must be independent of each other given the true label. What they share (a judge that
was shown the given label; a model that makes its teachers' mistakes) makes the posterior too
sure: it ranks and decides, and is never reported as an accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import logsumexp

from llm_relabel.units import Units

ITERATIONS = 20
CONVERGED = 1e-4  # mean change of a posterior at which the EM ends
PRIOR_ROWS = 10.0  # what the one coin counts in each row of a matrix, in items
COIN = (8.0, 2.0)  # right and wrong answers that every labeler is credited with beforehand
MODEL_ROWS = 5.0  # what "the small model's probabilities are right as they are" counts, in items
FLOOR = 1e-3  # of a model's probability: no class is ever ruled out
# Of very many rows so many, evenly spread, teach the matrices and the reading of the small model;
# the last step is for all. More would say the same.
LEARNED_ROWS = 200_000
FITTED_ROWS = 50_000
RIDGE = 1e-4

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class SourceCodes:
    """One labeler: (rows,) class codes, -1 where it says nothing."""

    name: str
    codes: Codes


@dataclass(frozen=True)
class Fused:
    """`posterior` is (rows, classes), each row a distribution.

    `confusion` holds for each source P(said | true), (classes, classes); `accuracy` how often
    is right by the posterior, on the rows where it speaks, an estimate without a guarantee.
    `model_weight` is w: above 1 the model was too modest. `likelihood` (rows,) is the
    log-likelihood of all that the sources said of a row, given what the model says of it.
    """

    posterior: Floats
    confusion: Mapping[str, NDArray[np.float64]]
    accuracy: Mapping[str, float]
    model_weight: float
    likelihood: Floats


@dataclass(frozen=True)
class FusedUnits:
    """`posterior` is (units, K), 0 beyond a kind's own values; `kinds` what each kind gave.

    `likelihood` (units,) is the log-likelihood of all that the sources said of a unit.
    """

    posterior: Floats
    kinds: tuple[Fused, ...]
    likelihood: Floats

    @property
    def model_weight(self) -> float:
        """The mean over the kinds."""
        return float(np.nanmean([each.model_weight for each in self.kinds]))


def fuse_units(
    units: Units, codes: Mapping[str, Codes], beliefs: Floats, known: Codes
) -> FusedUnits:
    """One fusion for each kind. `codes` are the sources', (units,) each; `beliefs` (units, K).

    Where a unit may be absent, what its other values leave is the belief in `none`. A kind with one
    value leaves nothing to find out.
    """
    posterior = np.zeros((len(units), units.width), dtype=np.float32)
    likelihood = np.zeros(len(units), dtype=np.float32)
    found = []
    for number, kind in enumerate(units.kinds):
        here, width = units.of_kind(number), len(kind.values)
        if width == 1:
            posterior[here, 0] = 1
            found.append(_settled(codes))
            continue
        fused = fuse(
            [SourceCodes(name, each[here]) for name, each in codes.items()],
            np.ascontiguousarray(beliefs[here, :width]),
            known=known[here],
            none=kind.none,
            unseen=float(units.unseen[number]),
        )
        own = fused.posterior
        if kind.none is not None:
            own[:, kind.none] = 1 - np.delete(own, kind.none, axis=1).sum(axis=1)
        posterior[here, :width] = own
        likelihood[here] = fused.likelihood
        found.append(fused)
    return FusedUnits(posterior, tuple(found), likelihood)


def _settled(codes: Mapping[str, Codes]) -> Fused:
    """What there is to say of a kind with one value."""
    nothing = np.zeros((0, 1), dtype=np.float32)
    one = np.ones((1, 1))
    nan = float("nan")
    return Fused(nothing, dict.fromkeys(codes, one), dict.fromkeys(codes, nan), nan, nothing[:, 0])


def fuse(
    sources: Sequence[SourceCodes], pred_probs: Floats, *, known: Codes | None = None,
    none: int | None = None, unseen: float = 0.0,
) -> Fused:  # fmt: skip
    """The posterior of every row from `pred_probs` (rows, classes) and at least one source.

    `known` (rows,) holds a person's label where there is one, else -1. `unseen` further rows that
    nobody named, so that every source says `none` of them and is right, teach each matrix.
    """
    rows, classes = pred_probs.shape
    if known is None:
        known = np.full(rows, -1, dtype=np.int32)
    learned = np.linspace(0, rows - 1, min(rows, LEARNED_ROWS)).astype(np.int64)
    learned = np.union1d(learned, np.flatnonzero(known >= 0))
    log_model, part = _log(pred_probs[learned]), known[learned]
    codes = {source.name: source.codes[learned] for source in sources}
    one_hots = {name: _one_hot(said, classes) for name, said in codes.items()}
    fitted = np.linspace(0, len(learned) - 1, min(len(learned), FITTED_ROWS)).astype(np.int64)

    posterior = np.exp(log_model)
    for said in codes.values():
        spoken = np.flatnonzero(said >= 0)
        posterior[spoken, said[spoken]] *= 3
    _hold(posterior, part)
    model = _Model(1.0, np.zeros(classes))
    confusion: dict[str, NDArray[np.float64]] = {}
    for _ in range(ITERATIONS):
        before = posterior[fitted]
        confusion = {
            name: _matrix(one_hot, posterior, none, unseen) for name, one_hot in one_hots.items()
        }
        model = _fit_model(log_model[fitted], before, model)
        posterior = _posterior(log_model, model, codes, confusion, part)
        if np.abs(posterior[fitted] - before).sum(axis=1).mean() < CONVERGED:
            break
    if len(learned) < rows:
        codes = {source.name: source.codes for source in sources}
        log_model = _log(pred_probs)
        posterior = _posterior(log_model, model, codes, confusion, known)
    likelihood = _likelihood(log_model, model, codes, confusion)
    accuracy = {}
    for name, said in codes.items():
        spoken = np.flatnonzero(said >= 0)
        right = posterior[spoken, said[spoken]]
        accuracy[name] = float(right.mean()) if len(spoken) else float("nan")
    return Fused(posterior, confusion, accuracy, model.weight, likelihood)


@dataclass(frozen=True, slots=True)
class _Model:
    """How the small model's probabilities are read: softmax(weight log p + bias)."""

    weight: float
    bias: NDArray[np.float64]


def _log(probs: Floats) -> Floats:
    return np.asarray(np.log(np.clip(probs, FLOOR, 1)), dtype=np.float32)


def _one_hot(codes: Codes, classes: int) -> csr_array:
    """(classes, rows), a one where a source says a class of a row."""
    spoken = np.flatnonzero(codes >= 0)
    ones = np.ones(len(spoken), dtype=np.float32)
    return csr_array((ones, (codes[spoken], spoken)), shape=(classes, len(codes)))


def _posterior(
    log_model: Floats,
    model: _Model,
    codes: Mapping[str, Codes],
    confusion: Mapping[str, NDArray[np.float64]],
    known: Codes,
) -> Floats:
    """(rows, classes): the E-step."""
    found = np.asarray(model.weight * log_model + model.bias, dtype=np.float32)
    _add_votes(found, codes, confusion)
    found -= found.max(axis=1, keepdims=True)
    np.exp(found, out=found)
    _hold(found, known)
    return found


def _likelihood(
    log_model: Floats,
    model: _Model,
    codes: Mapping[str, Codes],
    confusion: Mapping[str, NDArray[np.float64]],
) -> Floats:
    """(rows,): log sum_c P(c | the item) prod_s P(what s said | c)."""
    found = np.asarray(model.weight * log_model + model.bias, dtype=np.float32)
    alone = logsumexp(found, axis=1)
    _add_votes(found, codes, confusion)
    return np.asarray(logsumexp(found, axis=1) - alone, dtype=np.float32)


def _add_votes(
    found: Floats, codes: Mapping[str, Codes], confusion: Mapping[str, NDArray[np.float64]]
) -> None:
    """Add to the log-probabilities (rows, classes), in place, what each source said."""
    for name, said in codes.items():
        spoken = np.flatnonzero(said >= 0)
        by_code = np.log(confusion[name].T).astype(np.float32)
        found[spoken] += by_code[said[spoken]]


def _hold(posterior: Floats, known: Codes) -> None:
    """Normalise in place, and set the rows that a person labeled."""
    posterior /= posterior.sum(axis=1, keepdims=True)
    fixed = np.flatnonzero(known >= 0)
    posterior[fixed] = 0
    posterior[fixed, known[fixed]] = 1


def _matrix(
    one_hot: csr_array, posterior: Floats, none: int | None, unseen: float
) -> NDArray[np.float64]:
    """P(said | true) by the posterior, drawn to one coin."""
    counts = np.asarray(one_hot @ posterior, dtype=np.float64).T
    if none is not None:
        counts[none, none] += unseen
    classes = len(counts)
    right = (np.trace(counts) + COIN[0]) / (counts.sum() + sum(COIN))
    coin = np.full((classes, classes), (1 - right) / max(classes - 1, 1))
    np.fill_diagonal(coin, right)
    counts += PRIOR_ROWS * coin
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _fit_model(log_model: Floats, posterior: Floats, before: _Model) -> _Model:
    """The weight and bias that make the posterior likeliest. The last class's bias is 0."""
    features, targets = log_model.astype(np.float64), posterior.astype(np.float64)
    rows = len(features)
    start_from = np.append(1.0, np.zeros(features.shape[1] - 1))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = parameters[0] * features + np.append(parameters[1:], 0.0)
        top = scores.max(axis=1, keepdims=True)
        believed = np.exp(scores - top)
        total = believed.sum(axis=1, keepdims=True)
        believed /= total
        value = (top[:, 0] + np.log(total[:, 0])).sum() - (targets * scores).sum()
        gap = believed - targets
        slope = np.append((gap * features).sum(), gap.sum(axis=0)[:-1])
        off = parameters - start_from
        value += MODEL_ROWS * off[0] ** 2 + RIDGE * rows * float(off[1:] @ off[1:])
        slope[0] += 2 * MODEL_ROWS * off[0]
        slope[1:] += 2 * RIDGE * rows * off[1:]
        return value / rows, slope / rows

    start = np.append(before.weight, before.bias[:-1])
    limits = [(0.05, None), *[(None, None)] * (len(start) - 1)]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 8}
    )
    return _Model(float(found.x[0]), np.append(found.x[1:], 0.0))
