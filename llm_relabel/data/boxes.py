"""Boxes of a picture: what detection's labels are made of, and how two sets of them are matched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Corners = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the upright picture."""
Floats = NDArray[np.float64]

# Boxes are told apart to so many decimals of a pixel.
DECIMALS = 2
# From so much on, intersection over union, two boxes are of the same object.
SAME_OBJECT = 0.5


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """One box of a picture and its class.

    `fixed`: nobody decides about it (a crowd, a difficult object, a box without area). It stays in
    the label, and predictions on it are neither right nor wrong.
    """

    box: Corners
    label: str
    fixed: bool = False

    @property
    def key(self) -> str:
        """What the place is called wherever it is written."""
        return "box " + ",".join(map(_number, self.box))


def box_at(key: str, label: str) -> Box:
    """The box that has this key. Raises ValueError."""
    numbers = key.removeprefix("box ").split(",")
    left, top, right, bottom = (float(number) for number in numbers)
    return Box((left, top, right, bottom), label)


def rounded(corners: Iterable[float]) -> Corners:
    """Corners as they are told apart."""
    left, top, right, bottom = (round(float(each), DECIMALS) + 0.0 for each in corners)
    return left, top, right, bottom


def _number(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")


def corners_of(boxes: Sequence[Box]) -> Floats:
    """(boxes, 4)."""
    return np.array([each.box for each in boxes], dtype=np.float64).reshape(-1, 4)


def overlaps(one: Floats, other: Floats) -> Floats:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4); 0 of boxes without area."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=1) for each in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def pairs(scores: Floats, least: float) -> list[tuple[int, int]]:
    """The pairs (row, column) of one and one that have the largest sum of `scores` (n, m), each of
    at least `least`."""
    if not scores.size:
        return []
    rows, columns = linear_sum_assignment(np.where(scores >= least, scores, 0), maximize=True)
    found = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in found if scores[row, column] >= least]
