"""One round's out-of-fold predictions, and their file in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llm_relabel.agreement import measured_figure
from llm_relabel.journal import write_whole
from llm_relabel.measure import described
from llm_relabel.models import Predictions, SmallModel
from llm_relabel.preparation import Prepared
from llm_relabel.tasks import Task
from llm_relabel.units import Labels, Units, belief_in, has_label

COLUMNS = ("id", "given_label", "current_label", "predicted_label", "label_quality")


@dataclass(frozen=True)
class Predicted:
    """One round's predictions by unit, worked out once for all that reads them.

    `units` are those that given, current and predicted labels speak of; `current` (rows,) are the
    labels that were learned from.
    """

    task: Task
    given: Labels
    current: Labels
    predictions: Predictions

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
            {"given": self.given, "current": self.current, "predicted": self.labels}
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
        return belief_in(self.units, self.beliefs, self.task.codes(self.units, labels))

    def runner_up(self, row: int) -> Any:
        """The next best label of one row: its least certain unit decided the second way."""
        if not self.predictions.scores:  # there is no model
            return None
        units, place = self.units, self.units.of_row(row)
        beliefs = self.beliefs[place]
        if not len(beliefs):
            return None
        worst = int(beliefs.max(axis=1).argmin())
        kind = units.kinds[units.kind[place][worst]]
        second = int(np.argsort(-beliefs[worst, : len(kind.values)], kind="stable")[1])
        label, key = self.labels[row], units.key[place][worst]
        return self.task.assemble(label, {key: kind.values[second]})


def save_predictions(path: Path, prepared: Prepared, predicted: Predicted) -> None:
    """Write `predictions.parquet`, whole or not at all."""
    task = prepared.task
    table = pa.table(
        {
            "id": prepared.dataset.ids,
            "given_label": task.to_arrow(prepared.given),
            "current_label": task.to_arrow(predicted.current),
            "predicted_label": task.to_arrow(predicted.labels),
            "label_quality": pa.array(predicted.quality),
            **predicted.predictions.scores,
        }
    )
    facts = {
        "labels_sha256": prepared.labels_sha256(predicted.current),
        "class_names": list(task.names),
        "facts": predicted.facts,
    }
    table = table.replace_schema_metadata({"llm_relabel": json.dumps(facts)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue())


def load_saved(path: Path, prepared: Prepared, current: Labels) -> Predicted | None:
    """Saved predictions if they were made from these current labels, else None."""
    if not path.exists():
        return None
    try:
        metadata = pq.read_schema(path).metadata or {}
        saved = json.loads(metadata[b"llm_relabel"])
        if saved["labels_sha256"] != prepared.labels_sha256(current):
            return None
        names = [name for name in pq.read_schema(path).names if name not in COLUMNS]
        table = pq.read_table(path, columns=["predicted_label", *names])
        scores = {name: table[name].combine_chunks() for name in names}
        labels = prepared.task.read(table["predicted_label"])
        found = Predictions(labels, scores, tuple(saved["class_names"]), saved["facts"])
    except (OSError, KeyError, ValueError, pa.ArrowInvalid):
        return None
    return Predicted(prepared.task, prepared.given, current, found)


def train(prepared: Prepared, model: SmallModel, current: Labels) -> Predicted:
    """Out-of-fold predictions for the current labels, or the user's own."""
    task, given = prepared.task, prepared.given
    if prepared.own_predictions is not None:
        path = prepared.job.model.predictions
        facts: Mapping[str, Any] = {"model": f"your predictions from {path}"}
        return Predicted(task, given, current, replace(prepared.own_predictions, facts=facts))
    found = model.out_of_fold(current)
    facts = {"model": model.description, **found.facts}
    if prepared.dev is not None:
        items, truth = prepared.dev
        figure = measured_figure(task, model.predict(current, items).labels, truth)
        facts["dev"] = {"rows": int(has_label(truth).sum()), "accuracy": figure.value}
        if not task.measure.proportion:  # whose interval does not follow from the two
            facts["dev"] |= {**described(task.measure), "figure": figure.as_json()}
    return Predicted(task, given, current, replace(found, facts=facts))
