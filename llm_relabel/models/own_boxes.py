"""`model.predictions` of detection: boxes with scores that the user brings, joined by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel.data import Dataset, rows_of_file
from llm_relabel.errors import DataError
from llm_relabel.models.box_scores import Detected, predictions_of
from llm_relabel.models.model import Predictions
from llm_relabel.units import Labels

SHOWN = 5


def load_boxes(path: Path, dataset: Dataset, given: Labels, names: Sequence[str]) -> Predictions:
    """The boxes of each row, in the data's order.

    A row of the file has `id` and `boxes`, a list of mappings with `label`, `box` (left, top,
    right, bottom in pixels) and `score`, HIGHER is surer, of out-of-sample predictions. Raises
    DataError with all problems.
    """
    codes = {name: code for code, name in enumerate(names)}
    ids, problems = dataset.ids.to_pylist(), list[str]()
    wanted = set(ids)
    by_id: dict[str, Detected] = {}
    for number, row in enumerate(rows_of_file(path, "predictions"), start=1):
        key = str(row.get("id")) if isinstance(row, Mapping) else "None"
        if key in by_id:
            problems.append(f"row {number} repeats the id {key!r}")
        if key not in wanted:
            continue
        try:
            by_id[key] = _detected(row["boxes"], codes)
        except (KeyError, TypeError, ValueError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"row {number}: {why}")
            by_id[key] = _detected([], codes)
    missing = [each for each in ids if each not in by_id]
    if missing:
        told = ", ".join(map(repr, missing[:SHOWN]))
        problems.append(f"{len(missing):,} rows of the dataset have no prediction, such as {told}")
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"predictions {str(path)!r}: {'; '.join(problems[:SHOWN])}{more}")
    return predictions_of([by_id[each] for each in ids], given, names, {})


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
