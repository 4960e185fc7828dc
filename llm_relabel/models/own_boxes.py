"""`model.predictions` of detection: boxes with scores that the user brings, joined by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel.data import Dataset
from llm_relabel.models.box_scores import Detected, predictions_of
from llm_relabel.models.model import Predictions
from llm_relabel.models.rows_by_id import rows_by_id
from llm_relabel.units import Labels


def load_boxes(path: Path, dataset: Dataset, given: Labels, names: Sequence[str]) -> Predictions:
    """The boxes of each row, in the data's order.

    A row of the file has `id` and `boxes`, a list of mappings with `label`, `box` (left, top,
    right, bottom in pixels) and `score`, HIGHER is surer, of out-of-sample predictions. Raises
    DataError with all problems.
    """
    codes = {name: code for code, name in enumerate(names)}
    found = rows_by_id(path, dataset, lambda _, row: _detected(row["boxes"], codes))
    return predictions_of(found, given, names, {})


def _detected(boxes: Sequence[Mapping[str, Any]], codes: Mapping[str, int]) -> Detected:
    places, classes, scores = [], [], []
    for each in boxes:
        name, place, score = each["label"], [float(v) for v in each["box"]], float(each["score"])
        if name not in codes:
            raise ValueError(f"the class {name!r:.60} is not defined; defined are "
                             f"{', '.join(codes)}")  # fmt: skip
        if len(place) != 4 or place[2] <= place[0] or place[3] <= place[1]:
            raise ValueError(f"{place!r:.60} is no box [left, top, right, bottom]")
        if not np.isfinite(score):
            raise ValueError(f"score {score} is no number")
        places.append(place)
        classes.append(codes[name])
        scores.append(score)
    return Detected(
        np.array(places, dtype=np.float64).reshape(-1, 4), np.array(classes, dtype=np.int64),
        np.array(scores, dtype=np.float64),
    )  # fmt: skip
