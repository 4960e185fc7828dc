"""Does a judge know when it is right? Calibration, ranking, and accuracy against coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

from llm_relabel.agreement.intervals import DRAWS, LEVEL, Figure, bootstrapped, share

BINS = 10
REJECTED = 0.01  # the p-value below which perfect calibration is ruled out
FOLDINGS = 25  # steps to the centre of a folded normal; it is found to six digits in fewer
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

    Guo et al., 2017. 0 is perfect. Chance alone makes it positive, so its bootstrap would miss
    the truth from above; the interval is that of the bins' errors with their chance taken out
    (the mean of a folded normal, solved for its centre), and it reaches down to 0 unless the
    bins together reject perfect calibration (chi-squared, 1%).
    """
    counts = stated.counts[None].astype(np.float64)
    items = int(counts.sum())
    gaps, chance = _bin_errors(stated, counts)
    value = float(np.abs(gaps[0]).sum())
    used = chance[0] > 0
    if items < 2:
        return Figure(value, None, None, items)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(items, (counts / items).ravel(), size=DRAWS)
    errors = _without_chance(*_bin_errors(stated, drawn.reshape(DRAWS, -1, 2))).sum(axis=1)
    low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if chdtrc(used.sum(), (gaps[0, used] ** 2 / chance[0, used]).sum()) > REJECTED:
        low = 0.0
    return Figure(value, min(float(low), value), max(float(high), value), items)


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


def _bin_errors(
    stated: Stated, counts: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(draws, bins) accuracy less confidence by weight, and its variance by chance, of counts
    (draws, levels, 2)."""
    member = np.eye(BINS)[_bins(stated)]
    of_level = counts.sum(axis=-1)
    items = of_level.sum(axis=-1)[:, None]
    right, of_bin = counts[..., 1] @ member, of_level @ member
    gaps = (right - (of_level * stated.levels) @ member) / items
    # One more of each kind, so that a bin of five right answers is not taken for certain.
    share_right = (right + 1) / (of_bin + 2)
    return gaps, of_bin * share_right * (1 - share_right) / items**2


def _without_chance(gaps: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """|gap| less what chance adds to it: the centre whose folded normal has this mean."""
    seen, spread = np.abs(gaps), np.sqrt(np.maximum(chance, 1e-24))
    centre = seen.copy()
    for _ in range(FOLDINGS):
        away = centre / spread
        mean = spread * np.sqrt(2 / np.pi) * np.exp(-(away**2) / 2)
        mean += centre * (1 - 2 * ndtr(-away))
        centre = np.maximum(0, centre - (mean - seen))
    return centre


def _bins(stated: Stated) -> NDArray[np.int64]:
    return np.minimum((stated.levels * BINS + 1e-9).astype(np.int64), BINS - 1)
