"""Many people and a judge: how well people agree, and whether the judge could be one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import Figure, bootstrapped, share

FEWEST_ITEMS = 30  # below these the authors of the test advise against it
FEWEST_RATERS = 3
EPSILON = 0.1  # the advantage a judge is given for its price; 0.1 is theirs for crowd workers
LEVEL = 0.05


def people_agreement(answers: NDArray[np.int64], classes: int, *, seed: int = 0) -> dict[str, Any]:
    """Agreement among raters. `answers` (items, raters) holds codes, -1 where there is none.

    Krippendorff's alpha with its interval (items drawn anew), and how often two raters of one
    item agree.
    """
    counts = category_counts(answers, classes)
    pairs = agreeing = 0
    for one, other in combinations(range(answers.shape[1]), 2):
        both = (answers[:, one] >= 0) & (answers[:, other] >= 0)
        pairs += int(both.sum())
        agreeing += int((answers[both, one] == answers[both, other]).sum())
    return {
        "raters": int(answers.shape[1]),
        "items": int((counts.sum(1) >= 2).sum()),
        "alpha": alpha(counts, seed=seed).as_json(),
        # Pairs of one item are not independent: a share, and no interval.
        "pairwise": agreeing / pairs if pairs else None,
    }


def alpha(counts: NDArray[np.int64], *, seed: int = 0) -> Figure:
    """Nominal alpha (Krippendorff, 2011) of (units, categories) counts, with its interval.

    Units with fewer than two answers do not count. 1 is full agreement, 0 that of chance.

    Units with the same counts are one cell of the bootstrap.
    """
    kinds, sizes = np.unique(counts[counts.sum(1) >= 2], axis=0, return_counts=True)
    if not len(kinds):
        return Figure(None, None, None, 0)
    given = kinds.sum(1)
    agreeing = (kinds * (kinds - 1)).sum(1) / (given - 1)

    def statistic(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        by_category = drawn @ kinds
        total = by_category.sum(-1)
        observed = 1 - (drawn @ agreeing) / total
        expected = 1 - (by_category * (by_category - 1)).sum(-1) / (total * (total - 1))
        out = np.full(len(drawn), np.nan)
        np.divide(observed, expected, out=out, where=expected > 1e-15)
        return 1 - out

    return bootstrapped(sizes, statistic, seed=seed)


def category_counts(answers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(items, classes): how many of the raters' codes (items, raters) name each class."""
    return np.stack([(answers == code).sum(1) for code in range(classes)], axis=1)


def alternative_annotator(
    answers: NDArray[np.int64], judge: NDArray[np.int64], names: Sequence[str],
    *, epsilon: float = EPSILON,
) -> dict[str, Any]:  # fmt: skip
    """The alternative annotator test (Calderon, Reichart, Dror, 2025).

    Each rater is left out in turn: on each of their items, does the judge (`judge`, (items,)
    codes) agree with the remaining raters at least as well as the one left out? The judge wins
    over a rater if it does so more often than the rater does, less `epsilon`, by a one-sided
    t-test, with the false discovery rate controlled (Benjamini and Yekutieli, 2001). It passes
    with half the raters or more. `advantage` is how often, on average, it does.
    """
    from scipy.stats import false_discovery_control, ttest_1samp

    tested: list[tuple[str, float, float, int]] = []
    for left_out, name in enumerate(names):
        others = np.delete(answers, left_out, axis=1)
        usable = (answers[:, left_out] >= 0) & (others >= 0).any(1) & (judge >= 0)
        if usable.sum() < FEWEST_ITEMS:
            continue
        by_judge = _agreement(others[usable], judge[usable])
        by_rater = _agreement(others[usable], answers[usable, left_out])
        judge_wins = (by_judge >= by_rater).astype(float)
        rater_wins = (by_rater >= by_judge).astype(float)
        gain = rater_wins - judge_wins
        if gain.std() == 0:
            p = 0.0 if gain.mean() < epsilon else 1.0
        else:
            p = float(ttest_1samp(gain, epsilon, alternative="less").pvalue)
        tested.append((name, p, float(judge_wins.mean()), int(usable.sum())))
    if len(tested) < FEWEST_RATERS:
        return {
            "passed": None,
            "why": f"too few: the test needs {FEWEST_RATERS} raters with {FEWEST_ITEMS} items "
            f"each that the judge answered too; {len(tested)} have",
        }
    corrected = false_discovery_control([p for _, p, _, _ in tested], method="by")
    won = [bool(p < LEVEL) for p in corrected]
    return {
        "passed": sum(won) / len(won) >= 0.5,
        "winning_rate": share(sum(won), len(won)).as_json(),
        "advantage": float(np.mean([advantage for _, _, advantage, _ in tested])),
        "epsilon": epsilon,
        "raters": {
            name: {"items": items, "advantage": advantage, "p": float(p), "judge_wins": wins}
            for (name, _, advantage, items), p, wins in zip(tested, corrected, won, strict=True)
        },
    }


def rater_matrix(
    answers: Sequence[Mapping[str, Any] | None], codes: Mapping[Any, int]
) -> tuple[NDArray[np.int64], list[str]]:
    """(items, raters) codes from each item's mapping rater -> label; -1 where there is none."""
    names = sorted({name for row in answers for name in row or ()})
    place = {name: column for column, name in enumerate(names)}
    matrix = np.full((len(answers), len(names)), -1, dtype=np.int64)
    for row, given in enumerate(answers):
        for name, label in (given or {}).items():
            matrix[row, place[name]] = codes.get(label, -1)
    return matrix, names


def _agreement(others: NDArray[np.int64], answer: NDArray[np.int64]) -> NDArray[np.float64]:
    """(items,) share of the other raters of an item who say the same."""
    present = others >= 0
    same = (others == answer[:, None]) & present
    return np.asarray(same.sum(1) / present.sum(1))
