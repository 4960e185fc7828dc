"""What one more verdict is worth: the label errors that it is expected to mend.

With the belief q over a row's true class c and a judge's P(says y | c), the answer y comes with
probability sum_c q_c P(y | c), and after it the policy gives the label d(y). The expected gain is
the expected loss now less the expected loss then,

    sum_c q_c S(c, now)  -  sum_y sum_c q_c P(y | c) S(c, d(y)),

the value of an experiment of Raiffa and Schlaifer (1961). S(c, d) is how bad the label d is where c
is true: 1, or less where the two are near in the hierarchy of the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.evidence.beliefs import Beliefs
from llm_relabel.evidence.fusion import COIN
from llm_relabel.units import SILENT, Labels

BLOCK = 10_000_000  # numbers that are worked on at once

Floats = NDArray[np.float64]


def expected_gains(
    beliefs: Beliefs,
    current: Labels,
    predicted: Labels,
    rows: NDArray[np.int64],
    *,
    judge: str,
    policy: str,
    severity: Floats | None = None,
    given: Labels | None = None,
) -> Floats:
    """(len(rows),) label errors that the next verdict of `judge` is expected to mend.

    Below 0 where it would rather break a label (under `replace`). A missing label is an error,
    but under `fuse`, which gives the row the likeliest one also without a verdict. The gains of
    an item's units add up. `severity` (classes, classes) is S; None is 1 for every wrong label.
    `given` are the labels against which the beliefs lean, where they do.
    """
    units, task = beliefs.units, beliefs.task
    places = np.full(units.rows, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    now, small = task.codes(units, current), task.codes(units, predicted)
    against, lean = None, beliefs.lean or 0.0
    if given is not None and lean and policy == "fuse":
        against = task.codes(units, given)
    total = np.zeros(len(rows))
    for number, confusion in enumerate(beliefs.confusions):
        matrix = _matrix(confusion, judge)
        here = np.flatnonzero((units.kind == number) & (places[units.row] >= 0))
        probs = beliefs.probs[here, : len(matrix)]
        absent = probs.argmax(1) if policy == "fuse" else -1
        was = np.where(now[here] == SILENT, absent, now[here]).astype(np.int64)
        losses = 1 - np.eye(len(matrix)) if severity is None else severity
        opposed = None if against is None else against[here].astype(np.int64)
        gains = _gains(
            probs, was, small[here].astype(np.int64), matrix, policy, losses, opposed, lean
        )
        total += np.bincount(places[units.row[here]], weights=gains, minlength=len(rows))
    return total


def severities(names: Sequence[str], parents: Mapping[str, str | None]) -> Floats:
    """(classes, classes): how bad a label is, by the definitions' `parent`.

    The share of the two labels' ancestors, themselves included, that they do not have in common
    (1 less the Jaccard index): 1 for labels of different trees, less for near ones, 0 for equal.
    """
    lines = {name: _ancestors(name, parents) for name in names}
    return np.array(
        [[1 - len(lines[a] & lines[b]) / len(lines[a] | lines[b]) for b in names] for a in names]
    )


def _ancestors(name: str, parents: Mapping[str, str | None]) -> set[str]:
    found: set[str] = set()
    here: str | None = name
    while here is not None and here not in found:
        found.add(here)
        here = parents.get(here)
    return found


def _matrix(confusion: Mapping[str, tuple[Floats, float]], judge: str) -> Floats:
    """P(says y | c): the mean over the judge's parts by what they said, or the prior's coin."""
    parts = [each for name, each in confusion.items() if name.startswith(f"{judge}, ")]
    if parts:
        return np.asarray(np.average([m for m, _ in parts], axis=0, weights=[n for _, n in parts]))
    classes = len(next(iter(confusion.values()))[0])
    right = COIN[0] / sum(COIN)
    coin = np.full((classes, classes), (1 - right) / max(classes - 1, 1))
    np.fill_diagonal(coin, right)
    return coin


def _gains(
    probs: NDArray[Any], now: NDArray[Any], predicted: NDArray[Any], matrix: Floats, policy: str,
    losses: Floats, opposed: NDArray[np.int64] | None, lean: float,
) -> Floats:  # fmt: skip
    # A label that is not there yet (-1, the last row) is as wrong as a label can be.
    by_label = np.concatenate([losses.T, np.ones((1, len(losses)))])
    found, block = np.zeros(len(probs)), max(1, BLOCK // losses.size)
    for start in range(0, len(probs), block):
        part = slice(start, start + block)
        q = probs[part].astype(np.float64)
        joint = q[:, None, :] * matrix.T[None]  # (rows, said, true)
        if opposed is not None:
            joint = _leaning(joint, opposed[part], lean)
            q = joint.sum(axis=1)
        labels = _decided(joint, now[part], predicted[part], policy)
        before = (q * by_label[now[part]]).sum(axis=1)
        found[part] = before - (joint * by_label[labels]).sum(axis=(1, 2))
    return found


def _leaning(joint: Floats, given: NDArray[np.int64], lean: float) -> Floats:
    """`joint` as `views.leaned` would have it after each answer, each as likely as before."""
    rows, said = np.arange(len(joint)), np.arange(joint.shape[1])
    weight = np.ones_like(joint)
    weight[:, said, said] *= np.exp(lean)
    spoke = given >= 0
    weight[rows[spoke], :, given[spoke]] *= np.exp(-lean)
    weight[rows[spoke], given[spoke], :] = 1.0  # the judge agrees: nothing is torn
    weight[~spoke] = 1.0
    found = joint * weight
    return np.asarray(found * (joint.sum(axis=2, keepdims=True) / found.sum(axis=2, keepdims=True)))


def _decided(
    joint: Floats, now: NDArray[Any], predicted: NDArray[Any], policy: str
) -> NDArray[np.int64]:
    """(rows, said): the label that the policy gives after each answer."""
    said = np.broadcast_to(np.arange(joint.shape[1]), joint.shape[:2])
    if policy == "replace":
        return said
    if policy == "agree":
        return np.where(said == predicted[:, None], said, now[:, None])
    return np.asarray(joint.argmax(axis=2))
