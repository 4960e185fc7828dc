"""Which source the texts vouch for: small models of every side, held against all that was said.

A small model that learned from one side's labels is a view of the items. Under each view the same
fusion explains the same answers, given labels and verdicts together, and the likelihood of these
says which view explains them best: that one decides. This is what "the more learnable source is
the more often right" comes to when nothing is assumed of either side.

Where the two sides contradict each other, the difference of the likelihoods under their own views
leans the decision further: the fusion itself, which lets no single source be the truth, gives in
too easily to the worse one where the text says little. Where the views describe the same truth,
as they do where the small model is good at the task, the difference is near 0 and nothing leans.

The likelihoods are means over the population: rows that the small model doubts are judged first,
so those that it does not doubt are represented by the ones that were drawn at random. What these
leave open counts for the given labels: two standard errors of each difference are taken off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llm_relabel.evidence.fusion import Codes, Floats, FusedUnits, fuse_units
from llm_relabel.models import Predictions
from llm_relabel.tasks import Task
from llm_relabel.units import SILENT, Labels, Units, differs, has_label, labels_sha256, no_labels
from llm_relabel.units import best as best_of

GIVEN_SIDE, VERDICT_SIDE, BOTH_SIDES, CURRENT_SIDE = "given labels", "verdicts", "both", "current"
# The mean log-likelihoods of the two views, per unit, count like so many items. Chosen on the
# recorded judges of evals/sets.py and simulated ones on TREC-6 and SemEval: 10 to 30 do the same
# (evals/leaning.py).
LEANING = 20.0
# Kappa of the texts' own prediction with what was decided, from which on the lean fades: where what
# is decided follows from the texts, the fusion needs no help.
FADING = 0.5
# Standard errors that are taken off the difference of two views.
CAREFUL = 1.0
# Verdicts on rows that the small model does not doubt, below which nothing is said of the sides.
FEWEST_UNDOUBTED = 50
# Views that are kept in memory; each is as large as the predictions.
KEPT = 4
# Of the rows that nobody doubts so many are answered that the rest cannot matter.
NEARLY_ALL = 0.95


@dataclass
class Reading:
    """Small models of any side's labels, each trained once, out of fold.

    `learn` gives the predictions of a column of labels, rows without one left out of the training.
    `drawn` are the rows that were judged because they were drawn at random from those that the
    model of the `given` labels does not doubt.
    """

    task: Task
    given: Labels
    learn: Callable[[Labels], Predictions]
    drawn: Collection[int] = ()
    _kept: OrderedDict[str, Predictions] = field(default_factory=OrderedDict)

    def view(self, labels: Labels) -> Predictions:
        """What a model of these labels predicts of every row."""
        key = self._key(labels)
        if key not in self._kept:
            self.remember(labels, self.learn(labels))
        self._kept.move_to_end(key)
        return self._kept[key]

    def remember(self, labels: Labels, predictions: Predictions) -> None:
        """Keep what a model of these labels predicts, so that it need not be trained again."""
        self._kept[self._key(labels)] = predictions
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _key(self, labels: Labels) -> str:
        units = self.task.units({"labels": labels})
        return labels_sha256(units, self.task.codes(units, labels))


@dataclass(frozen=True)
class Weighed:
    """What the views make of the evidence.

    `fused` is the fusion under the best `view`, before `lean` is applied; `lean` is how much more
    a verdict counts than the given label where they differ, as a log-odds each way: above 0 the
    texts vouch for the verdicts. None where too little is known to say. `verdict_labels` (rows,)
    are what a model of the verdicts predicts, where there is one.
    """

    fused: FusedUnits
    view: str
    lean: float | None
    verdict_labels: Labels | None = None


def weigh(
    reading: Reading | None,
    units: Units,
    codes: Mapping[str, Codes],
    beliefs: Floats,
    known: Codes,
    *,
    current: Labels,
    verdicts: Labels,
    alike: bool = False,
) -> Weighed:
    """The fusion under the view that explains best what all sources said.

    `beliefs` (units, K) are those of the model of the `current` labels. `alike` holds the sides
    against each other by models of the same rows, that represent all; otherwise the given labels
    have the advantage of all their rows, which is the careful way to decide.
    """

    def under(view: Floats) -> FusedUnits:
        return fuse_units(units, codes, view, known)

    plain = Weighed(under(beliefs), CURRENT_SIDE, None)
    if reading is None:
        return plain
    population = _population(reading, verdicts)
    if population is None:
        return plain
    task = reading.task
    given_view = task.beliefs(units, reading.view(reading.given))
    learned = reading.view(verdicts)
    verdict_view = task.beliefs(units, learned)
    found = {
        GIVEN_SIDE: under(given_view),
        VERDICT_SIDE: under(verdict_view),
        BOTH_SIDES: under(np.asarray((given_view + verdict_view) / 2, dtype=np.float32)),
    }
    if differs(current, reading.given).any():
        found[CURRENT_SIDE] = plain.fused

    def ahead(one: FusedUnits, other: FusedUnits) -> float:
        """By how much one explains more than the other, in the careful case."""
        mean, error = population.mean(units, one.likelihood - other.likelihood)
        return mean if alike else mean - CAREFUL * error

    side = found[GIVEN_SIDE]
    gains = {name: ahead(fused, side) for name, fused in found.items() if fused is not side}
    best = max(gains, key=lambda name: gains[name])
    if gains[best] <= 0:
        best = GIVEN_SIDE
    other = found[VERDICT_SIDE]
    if alike:
        rows = population.representative()
        side, other = (
            under(task.beliefs(units, reading.view(_only(labels, rows))))
            for labels in (reading.given, verdicts)
        )
    views = {GIVEN_SIDE: given_view, VERDICT_SIDE: verdict_view, CURRENT_SIDE: beliefs,
             BOTH_SIDES: given_view + verdict_view}  # fmt: skip
    skill = _agreement(units, best_of(views[best]), best_of(found[best].posterior))
    fade = min(1.0, max(0.0, 1 - skill) / (1 - FADING))
    lean = LEANING * fade * ahead(other, side)
    return Weighed(found[best], best, lean, learned.labels)


def leaned(posterior: Floats, given: Codes, verdicts: Codes, lean: float) -> Floats:
    """(units, K) the posterior, leaning to the verdict where it and the given label differ."""
    torn = np.flatnonzero((given != SILENT) & (verdicts != SILENT) & (given != verdicts))
    found = posterior.copy()
    found[torn, verdicts[torn]] *= np.exp(lean)
    found[torn, given[torn]] *= np.exp(-lean)
    found[torn] /= found[torn].sum(axis=1, keepdims=True)
    return found


def _agreement(units: Units, one: Codes, other: Codes) -> float:
    """Cohen's kappa of two codes of every unit, chance counted within each kind."""
    same = chance = 0.0
    for number, kind in enumerate(units.kinds):
        here = units.of_kind(number)
        a, b = one[here], other[here]
        if not len(a):
            continue
        same += float((a == b).sum())
        shares = [np.bincount(codes, minlength=len(kind.values)) / len(a) for codes in (a, b)]
        chance += len(a) * float(shares[0] @ shares[1])
    return (same - chance) / max(len(units) - chance, 1e-9)


def _only(labels: Labels, rows: NDArray[np.bool_]) -> Labels:
    """The labels of some rows."""
    found = no_labels(len(labels))
    found[rows] = labels[rows]
    return found


@dataclass(frozen=True)
class _Population:
    """Rows that stand for all: those of each stratum, (rows,) bool, and how many they stand for."""

    strata: tuple[tuple[NDArray[np.bool_], int], ...]

    def representative(self) -> NDArray[np.bool_]:
        """(rows,) of each stratum so many, drawn at random, that none is over-represented."""
        share = min(rows.sum() / of for rows, of in self.strata)
        found = np.zeros_like(self.strata[0][0])
        rng = np.random.default_rng(0)
        for rows, of in self.strata:
            found[rng.permutation(np.flatnonzero(rows))[: round(share * of)]] = True
        return found

    def mean(self, units: Units, values: Floats) -> tuple[float, float]:
        """The mean of `values` (units,) a unit, over the population, and its standard error.

        A stratified mean and its error with the finite population correction (Cochran 1977,
        sections 5.3 and 5.4): none where every row of a stratum is there.
        """
        by_row = np.bincount(units.row, weights=values, minlength=units.rows)
        sizes = np.bincount(units.row, minlength=units.rows)
        total = variance = count = 0.0
        for rows, of in self.strata:
            some, n = by_row[rows], int(rows.sum())
            total += of * some.mean()
            count += of * sizes[rows].mean()
            if n > 1:
                variance += of**2 * (1 - n / of) * some.var(ddof=1) / n
        return float(total / count), float(np.sqrt(variance) / count)


def _population(reading: Reading, verdicts: Labels) -> _Population | None:
    """The rows with both labels that stand for all labeled ones; None: too few to say anything.

    Rows that the model of the given labels doubts, and those that it does not: of these the drawn
    ones, unless nearly all were judged.
    """
    labeled = has_label(reading.given)
    both = has_label(verdicts) & labeled
    doubted = labeled & differs(reading.given, reading.view(reading.given).labels)
    undoubted = labeled & ~doubted
    stand = undoubted & both
    if stand.sum() < NEARLY_ALL * undoubted.sum():
        drawn = np.zeros_like(stand)
        drawn[list(reading.drawn)] = True
        stand &= drawn
    if stand.sum() < FEWEST_UNDOUBTED:
        return None
    parts = ((stand, undoubted), (both & doubted, doubted))
    return _Population(tuple((some, int(of.sum())) for some, of in parts if some.any()))
