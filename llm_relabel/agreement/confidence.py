"""Does a judge know when it is right? Calibration, ranking, and accuracy against coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import Figure, bootstrapped, share

BINS = 10
GRID = 1000  # stated confidences are told apart to the third decimal


@dataclass(frozen=True)
class Stated:
    """Answers with a stated confidence, counted.

    `levels` (cells,) ascending confidences, `counts` (cells, 2) how many answers stated each:
    wrong, right. `items` is how many items there are in all, answered or not.
    """

    levels: NDArray[np.float64]
    counts: NDArray[np.int64]
    items: int


def count_stated(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], items: int
) -> Stated | None:
    """Count answers; None where none states a confidence (NaN)."""
    stated = ~np.isnan(confidence)
    if not stated.any():
        return None
    level = np.rint(confidence[stated] * GRID).astype(np.int64)
    counts = np.bincount(2 * level + right[stated], minlength=2 * (GRID + 1)).reshape(-1, 2)
    used = counts.sum(1) > 0
    return Stated(np.flatnonzero(used) / GRID, counts[used], items)


def calibration_error(stated: Stated, *, seed: int = 0) -> Figure:
    """Expected calibration error: mean |accuracy - confidence| over ten equal bins, by weight.

    Guo et al., 2017. 0 is perfect.
    """
    bins = _bins(stated)
    member = np.eye(BINS)[bins]

    def error(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        cells = drawn.reshape(len(drawn), -1, 2)
        gaps = cells[..., 1] - cells.sum(-1) * stated.levels
        return np.asarray(np.abs(gaps @ member).sum(-1) / cells.sum((-1, -2)))

    return bootstrapped(stated.counts.ravel(), error, seed=seed)


def reliability(stated: Stated) -> list[dict[str, Any]]:
    """For each bin that holds any answer: mean confidence, accuracy with its interval, count."""
    bins, found = _bins(stated), []
    for number in range(BINS):
        here = stated.counts[bins == number]
        total = int(here.sum())
        if total:
            mean = float((here.sum(1) * stated.levels[bins == number]).sum() / total)
            figure = share(int(here[:, 1].sum()), total)
            found.append({"bin": [number / BINS, (number + 1) / BINS], "confidence": mean,
                          "accuracy": figure.as_json()})  # fmt: skip
    return found


def discrimination(stated: Stated, *, seed: int = 0) -> Figure:
    """AUROC of confidence for being right: 1 ranks every right answer above every wrong one."""

    def auroc(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        cells = drawn.reshape(len(drawn), -1, 2)
        wrong, right = cells[..., 0], cells[..., 1]
        below = np.cumsum(wrong, axis=-1) - wrong
        wins = (right * (below + wrong / 2)).sum(-1)
        pairs = wrong.sum(-1) * right.sum(-1)
        out = np.full(len(drawn), np.nan)
        np.divide(wins, pairs, out=out, where=pairs > 0)
        return out

    return bootstrapped(stated.counts.ravel(), auroc, seed=seed)


def coverage_curve(stated: Stated) -> list[dict[str, Any]]:
    """Accuracy of the answers of at least each confidence, and their share of all items."""
    kept = np.cumsum(stated.counts[::-1], axis=0)
    points = []
    for level, (wrong, right) in zip(stated.levels[::-1], kept.tolist(), strict=True):
        points.append({
            "threshold": float(level), "coverage": (wrong + right) / stated.items,
            "accuracy": share(right, wrong + right).as_json(),
        })  # fmt: skip
    return points


def threshold_for(stated: Stated, wanted: float, *, seed: int = 0) -> dict[str, Any]:
    """The lowest confidence from which on answers are right in a share of at least `wanted`.

    `threshold` with its interval, None where no confidence reaches it; `coverage` is the share
    of all items that it keeps. `sure` is the lowest threshold whose accuracy's lower bound
    reaches `wanted`.
    """
    levels = stated.levels

    def lowest(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        kept = np.cumsum(drawn.reshape(len(drawn), -1, 2)[:, ::-1], axis=1)[:, ::-1]
        total = kept.sum(-1)
        enough = (kept[..., 1] >= wanted * total) & (total > 0)
        first = enough.argmax(-1)
        return np.where(enough.any(-1), levels[first], np.nan)

    figure = bootstrapped(stated.counts.ravel(), lowest, seed=seed)
    points = {point["threshold"]: point for point in coverage_curve(stated)}
    at = points.get(figure.value) if figure.value is not None else None
    sure = [level for level, point in points.items() if point["accuracy"]["low"] >= wanted]
    return {
        "wanted": wanted,
        "threshold": figure.as_json(),
        "coverage": at["coverage"] if at else 0.0,
        "accuracy": at["accuracy"] if at else None,
        "sure": min(sure) if sure else None,
    }


def _bins(stated: Stated) -> NDArray[np.int64]:
    return np.minimum((stated.levels * BINS + 1e-9).astype(np.int64), BINS - 1)
