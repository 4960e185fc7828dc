"""Audited rows, drawn by strata, and what they say of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import LEVEL, Figure
from llm_relabel.measure import Measure
from llm_relabel.units import Labels, LabelValue, column, differs

FOLDS = 4
DRAWS = 20_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Audits:
    """A probability sample of rows with people's labels.

    `rows` (n,) are row numbers, `truth` (n,) their labels; `stratum` (n,) codes,
    `sizes` (strata,) how many rows each stratum has in the data, `unsure` (strata,) how many more
    were drawn of it without an answer that counts; None where there are none.
    """

    rows: NDArray[np.int64]
    truth: Labels
    stratum: NDArray[np.int64]
    sizes: Values
    unsure: Values | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def right(self, labels: Labels) -> Values:
        """(n,) 1 where `labels` (of all rows) are the audited label, else 0."""
        return np.asarray(~differs(labels[self.rows], self.truth), dtype=np.float64)

    def score(self, labels: Labels, measure: Measure) -> Values:
        """(n,) how near `labels` (of all rows) are to the audited ones, 1 where they are right;
        HIGHER is better. Where a label is right or wrong and nothing else, this is `right`."""
        return 1 - measure.errors(measure.counts(labels[self.rows], self.truth))

    def people(self, chosen: NDArray[np.bool_]) -> dict[int, LabelValue]:
        """The audited labels of the chosen audits, by row."""
        return dict(zip(self.rows[chosen].tolist(), self.truth[chosen].tolist(), strict=True))

    def mean(self, values: Values) -> float:
        """The mean over all rows of the data, estimated from (n,) audited values by strata."""
        total = weight = 0.0
        for code, size in enumerate(self.sizes):
            here = self.stratum == code
            if here.any():
                total += size * float(values[here].mean())
                weight += size
        return total / weight if weight else float("nan")

    def means_without_each(self, values: Values, which: NDArray[np.int64]) -> Values:
        """(n,): `mean` over all audits but each one, of the row `which` (n,) of (k, n) `values`."""
        member = self.stratum[:, None] == np.arange(len(self.sizes))
        places = np.arange(len(self))
        sums = (values @ member)[which] - values[which, places][:, None] * member
        counts = member.sum(axis=0) - member
        weights = self.sizes * (counts > 0)
        total = weights.sum(axis=1)
        means = sums / np.maximum(counts, 1)
        return np.where(total > 0, (weights * means).sum(axis=1) / np.maximum(total, 1e-9), np.nan)

    @property
    def weights(self) -> Values:
        """(n,) how many rows of the data each audit stands for."""
        counts = np.bincount(self.stratum, minlength=len(self.sizes))
        return np.asarray((self.sizes / np.maximum(counts, 1))[self.stratum])

    def folds(self, seed: int) -> NDArray[np.int64]:
        """(n,) fold numbers, every stratum spread evenly over them."""
        rng = np.random.default_rng(seed)
        found = np.zeros(len(self), dtype=np.int64)
        for code in range(len(self.sizes)):
            here = np.flatnonzero(self.stratum == code)
            found[here] = rng.permutation(np.arange(len(here)) + int(rng.integers(FOLDS))) % FOLDS
        return found

    def interval(self, values: Values, *, seed: int = 0) -> Figure:
        """`mean` of 0/1 `values` with a 95% interval that is never too short.

        Each stratum's share has the two Beta distributions whose quantiles are Clopper's and
        Pearson's bounds; both ends are quantiles of their sum by strata, drawn at random.
        Items that people are unsure of are no random part of the others: the low end takes all of
        them for 0, the high end for 1.
        """
        rng = np.random.default_rng(seed)
        unsure = np.zeros(len(self.sizes)) if self.unsure is None else self.unsure
        low, high, weight = np.zeros(DRAWS), np.zeros(DRAWS), 0.0
        for code, size in enumerate(self.sizes):
            here = self.stratum == code
            hits, open_ = float(values[here].sum()), float(unsure[code])
            misses = float(here.sum()) - hits
            if not hits + misses + open_:
                continue
            weight += size
            low += size * (rng.beta(hits, misses + open_ + 1, DRAWS) if hits else 0.0)
            high += size * (rng.beta(hits + open_ + 1, misses, DRAWS) if misses else 1.0)
        if not weight:
            return Figure(None, None, None, 0)
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        return Figure(
            self.mean(values), float(np.quantile(low / weight, ends[0])),
            float(np.quantile(high / weight, ends[1])), len(self),
        )  # fmt: skip


def make_audits(
    rows: Sequence[int], labels: Sequence[LabelValue],
    cells: Sequence[tuple[Any, float]], unanswered: Sequence[tuple[Any, float]] = (),
) -> Audits:  # fmt: skip
    """Audits from `rows` that were drawn: `cells` are their strata, each with the one probability
    that its rows were drawn with.

    A label of None is an item that people are unsure of. `unanswered` are the cells of what was
    drawn too and has no answer: the answered of a cell stand for those as for all its rows.
    """
    names = list(dict.fromkeys(cells))
    stratum = np.array([names.index(cell) for cell in cells], dtype=np.int64)
    answered = np.array([label is not None for label in labels], dtype=np.bool_)
    every = np.arange(len(names))[:, None] == stratum
    drawn = every.sum(axis=1) + np.array([list(unanswered).count(name) for name in names])
    sizes = drawn / np.array([probability for _, probability in names], dtype=np.float64)
    return Audits(
        np.array(rows, dtype=np.int64)[answered], column(labels)[answered], stratum[answered],
        np.asarray(sizes, dtype=np.float64), (every & ~answered).sum(axis=1).astype(np.float64),
    )  # fmt: skip
