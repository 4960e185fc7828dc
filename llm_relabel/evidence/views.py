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
so those that it does not doubt are represented by the ones that were drawn at random.
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
from llm_relabel.units import SILENT, Labels, Units, differs, has_label, labels_sha256

GIVEN_SIDE, VERDICT_SIDE, BOTH_SIDES, CURRENT_SIDE = "given labels", "verdicts", "both", "current"
# The mean log-likelihoods of the two views, per unit, count like so many items. Chosen on the
# recorded judges of evals/sets.py and simulated ones on TREC-6 and SemEval: 10 to 30 do the same.
LEANING = 15.0
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
    against each other by models of the same rows, those with a verdict; otherwise the given
    labels have the advantage of all their rows, which is the careful way to decide.
    """

    def under(view: Floats) -> FusedUnits:
        return fuse_units(units, codes, view, known)

    plain = Weighed(under(beliefs), CURRENT_SIDE, None)
    if reading is None:
        return plain
    weights = _weights(reading, verdicts)
    if weights is None:
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
    by_unit = weights[units.row]

    def likelihood(fused: FusedUnits) -> float:
        return float(np.average(fused.likelihood, weights=by_unit))

    fits = {name: likelihood(fused) for name, fused in found.items()}
    best = max(fits, key=lambda name: fits[name])
    side = fits[GIVEN_SIDE]
    if alike:
        same = reading.given.copy()
        same[~has_label(verdicts)] = None
        side = likelihood(under(task.beliefs(units, reading.view(same))))
    lean = LEANING * (fits[VERDICT_SIDE] - side)
    return Weighed(found[best], best, lean, learned.labels)


def leaned(posterior: Floats, given: Codes, verdicts: Codes, lean: float) -> Floats:
    """(units, K) the posterior, leaning to the verdict where it and the given label differ."""
    torn = np.flatnonzero((given != SILENT) & (verdicts != SILENT) & (given != verdicts))
    found = posterior.copy()
    found[torn, verdicts[torn]] *= np.exp(lean)
    found[torn, given[torn]] *= np.exp(-lean)
    found[torn] /= found[torn].sum(axis=1, keepdims=True)
    return found


def _weights(reading: Reading, verdicts: Labels) -> NDArray[np.float64] | None:
    """(rows,) how many rows each row with both labels stands for, 0 of others; None: too few."""
    both = has_label(verdicts) & has_label(reading.given)
    labeled = has_label(reading.given)
    doubted = differs(reading.given, reading.view(reading.given).labels)
    undoubted = labeled & ~doubted
    stand = undoubted & both
    if stand.sum() < NEARLY_ALL * undoubted.sum():
        drawn = np.zeros_like(stand)
        drawn[list(reading.drawn)] = True
        stand &= drawn
    if stand.sum() < FEWEST_UNDOUBTED:
        return None
    found = np.zeros(len(both))
    for some, of in ((stand, undoubted), (both & doubted, labeled & doubted)):
        if some.any():
            found[some] = of.sum() / some.sum()
    return found
