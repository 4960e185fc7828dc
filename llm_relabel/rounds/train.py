"""Stage 1: out-of-fold predictions, and their file in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from llm_relabel.agreement import measured_figure
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files.journal import write_whole
from llm_relabel.measure import described
from llm_relabel.models import Predictions, SmallModel, TextModel
from llm_relabel.prepared import Prepared
from llm_relabel.rounds.state import RoundState, Work
from llm_relabel.units import Labels, has_label

COLUMNS = ("id", "given_label", "current_label", "predicted_label", "label_quality")


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
        predicted = cast(TextModel, model).predict(current, items)  # a dev file holds texts
        figure = measured_figure(task, predicted.labels, truth)
        facts["dev"] = {"rows": int(has_label(truth).sum()), "accuracy": figure.value}
        if not task.measure.proportion:  # whose interval does not follow from the two
            facts["dev"] |= {**described(task.measure), "figure": figure.as_json()}
    return Predicted(task, given, current, replace(found, facts=facts))


def stage(work: Work, state: RoundState) -> RoundState:
    """Predict every row out of fold, by a model that learned from the current labels."""
    predicted = predictions_of(work, state.number)
    return replace(
        state, predicted=predicted, tally=replace(state.tally, model=dict(predicted.facts))
    )


def predictions_of(work: Work, number: int) -> Predicted:
    """A round's predictions, out of its folder where they were made before."""
    path = work.run.round(number) / "predictions.parquet"
    # A round that is being decided again changes the labels that it had predictions of.
    current = work.deciding.current.copy()
    predicted = load_saved(path, work.prepared, current)
    if predicted is None:
        title = f"Round {number}: small model, out of fold"
        with work.model_steps.to(work.progress.step(title)):
            predicted = train(work.prepared, work.model, current)
            save_predictions(path, work.prepared, predicted)
    if work.reading is not None:
        work.reading.remember(current, predicted.predictions)
    return replace(predicted, reading=work.reading)
