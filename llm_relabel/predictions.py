"""One round's out-of-fold predictions, and their file in the run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llm_relabel.agreement import label_accuracy
from llm_relabel.journal import write_whole
from llm_relabel.models import SmallModel
from llm_relabel.preparation import Prepared, labels_sha256
from llm_relabel.records import Targets


@dataclass(frozen=True)
class Predictions:
    """`pred_probs` (rows, classes) float32 in class order; `facts` go to the summary."""

    pred_probs: NDArray[np.float32]
    facts: dict[str, Any]


def save_predictions(
    path: Path, prepared: Prepared, current: Targets, predictions: Predictions
) -> None:
    """Write `predictions.parquet`, whole or not at all."""
    task, probs = prepared.task, predictions.pred_probs
    flat = pa.array(np.ascontiguousarray(probs, dtype=np.float32).reshape(-1))
    table = pa.table(
        {
            "id": prepared.dataset.ids,
            "given_label": task.to_arrow(prepared.given),
            "current_label": task.to_arrow(current),
            "predicted_label": task.to_arrow(task.predicted(probs)),
            "label_quality": pa.array(task.label_quality(current, probs)),
            "pred_probs": pa.FixedSizeListArray.from_arrays(flat, probs.shape[1]),
        }
    )
    facts = {
        "labels_sha256": labels_sha256(current),
        "class_names": list(task.class_names),
        "facts": predictions.facts,
    }
    table = table.replace_schema_metadata({"llm_relabel": json.dumps(facts)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue())


def load_saved(path: Path, current: Targets) -> Predictions | None:
    """Saved predictions if they were made from these current labels, else None."""
    if not path.exists():
        return None
    try:
        metadata = pq.read_schema(path).metadata or {}
        saved = json.loads(metadata[b"llm_relabel"])
        if saved["labels_sha256"] != labels_sha256(current):
            return None
        column = pq.read_table(path, columns=["pred_probs"])["pred_probs"].combine_chunks()
    except (OSError, KeyError, ValueError, pa.ArrowInvalid):
        return None
    probs = np.asarray(column.flatten(), dtype=np.float32).reshape(len(column), -1)
    return Predictions(probs, saved["facts"])


def train(prepared: Prepared, model: SmallModel, current: Targets) -> Predictions:
    """Out-of-fold predictions for the current labels, or the user's own."""
    if prepared.own_predictions is not None:
        path = prepared.job.model.predictions
        return Predictions(prepared.own_predictions, {"model": f"your predictions from {path}"})
    facts: dict[str, Any] = {"model": model.description}
    probs = model.predict_out_of_fold(current)
    if prepared.dev is not None:
        texts, truth = prepared.dev
        predicted = prepared.task.predicted(model.predict(current, texts))
        facts["dev"] = {
            "rows": int(truth.known.sum()),
            "accuracy": label_accuracy(prepared.task, predicted, truth),
        }
    return Predictions(probs, facts)
