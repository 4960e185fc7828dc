"""One round's out-of-fold predictions by unit, worked out once for all that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.evidence.views import Reading
from llm_relabel.models import Predictions
from llm_relabel.models.model import WHOLE
from llm_relabel.tasks import Task
from llm_relabel.units import Labels, Units, belief_in, differs, has_label


@dataclass(frozen=True)
class Predicted:
    """One round's predictions by unit, worked out once for all that reads them.

    `units` are those that given, current and predicted labels speak of; `current` (rows,) are the
    labels that were learned from. `reading` trains models of other sides' labels, where it may.
    """

    task: Task
    given: Labels
    current: Labels
    predictions: Predictions
    reading: Reading | None = None

    @property
    def labels(self) -> Labels:
        """(rows,) the predicted labels."""
        return self.predictions.labels

    @property
    def facts(self) -> dict[str, Any]:
        """What the summary says of the small model."""
        return dict(self.predictions.facts)

    @cached_property
    def units(self) -> Units:
        """The table that `beliefs` is over."""
        return self.task.units(
            {"given": self.given, "current": self.current, "predicted": self.labels},
            self.predictions,
        )

    @cached_property
    def beliefs(self) -> NDArray[np.float32]:
        """(units, K) the small model's belief in each value of each unit."""
        return self.task.beliefs(self.units, self.predictions)

    def beliefs_over(self, units: Units) -> NDArray[np.float32]:
        """(units, K) the same over another table, which more sources speak of."""
        return self.beliefs if units is self.units else self.task.beliefs(units, self.predictions)

    @cached_property
    def quality(self) -> NDArray[np.float32]:
        """(rows,) belief in each current label in 0..1, LOWER is worse; 0 where it is missing."""
        return self.quality_of(self.current)

    def quality_of(self, labels: Labels) -> NDArray[np.float32]:
        """(rows,) the small model's belief in other labels, in 0..1."""
        found = belief_in(self.units, self.beliefs, self.task.codes(self.units, labels))
        if WHOLE in self.predictions.scores:
            whole = np.asarray(self.predictions.scores[WHOLE].to_numpy(zero_copy_only=False))
            same = ~np.isnan(whole) & has_label(labels) & ~differs(labels, self.current)
            found[same] = whole[same]
        return found

    def runner_up(self, row: int) -> Any:
        """The next best label of one row: its least certain unit decided the second way."""
        if not self.predictions.scores:  # there is no model
            return None
        if self.task.asked(()) is not None:  # it would be one more place to ask about
            return None
        units, here = self.units, self.units.of_row(row)
        sizes = np.array([len(kind.values) for kind in units.kinds])
        places = np.flatnonzero(sizes[units.kind[here]] > 1) + here.start
        if not len(places):
            return None
        worst = int(places[self.beliefs[places].max(axis=1).argmin()])
        kind = units.kinds[units.kind[worst]]
        second = int(np.argsort(-self.beliefs[worst, : len(kind.values)], kind="stable")[1])
        label, key = self.labels[row], units.key[worst]
        return self.task.assemble(label, {key: kind.values[second]})
