"""The seam of a small model: what a family of models writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.units import Labels

# The score that is the belief in the whole of each label that was learned from, (rows,) in 0..1;
# null where there was none. For models that know it better than unit by unit.
WHOLE = "whole_label_prob"


@dataclass(frozen=True)
class Predictions:
    """What a small model says of every row.

    `labels` (rows,) are the predicted labels, `scores` the Arrow columns (rows,) that a task's
    beliefs are read from, as `predictions.parquet` keeps them; what they list by label is in the
    order of `names`. `facts` go to the summary.
    """

    labels: Labels
    scores: Mapping[str, pa.Array]
    names: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


class SmallModel(Protocol):
    """Trained on the current labels, and never asked about a row it has seen."""

    @property
    def description(self) -> str:
        """One line for provenance."""
        ...

    def open(self) -> None:
        """Load what cannot be done without, so that a bad name shows early. Raises JobError."""
        ...

    def out_of_fold(self, labels: Labels) -> Predictions:
        """Every row's prediction from models that saw neither it nor its group."""
        ...


class TextModel(SmallModel, Protocol):
    """A small model of texts, which also reads texts from elsewhere."""

    def predict(self, labels: Labels, items: Sequence[Any]) -> Predictions:
        """Predictions for items outside the data, trained on all rows that have a label."""
        ...

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(rows, d) unit vectors of the rows, for judges that compare them."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, d) unit vectors of any texts, comparable with `embeddings`."""
        ...
