"""`model.predictions` of tagging: spans with probabilities that the user brings, joined by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel.data import Dataset
from llm_relabel.data.spans import Span
from llm_relabel.models.model import Predictions
from llm_relabel.models.rows_by_id import rows_by_id
from llm_relabel.models.text_tagger import predictions_of
from llm_relabel.units import column

# A span that its probability makes likelier than not is predicted, unless a likelier one overlaps.
PREDICTED = 0.5


def load_spans(path: Path, dataset: Dataset, names: Sequence[str]) -> Predictions:
    """The spans of each row, in the data's order.

    A row of the file has `id` and `spans`, a list of mappings with `start` and `end` (characters of
    the text; of a text that came as words, with one space between), `type` and `prob` in 0..1, of
    out-of-sample predictions. Raises DataError with all problems.
    """
    types = {name: code for code, name in enumerate(names)}
    ids = dataset.ids.to_pylist()
    texts = dict(zip(ids, dataset.text.to_pylist(), strict=True))
    listed = rows_by_id(
        path, dataset, lambda key, row: [_span(each, types, texts[key]) for each in row["spans"]]
    )
    labels = column(
        _likely(spans, names, texts[each]) for each, spans in zip(ids, listed, strict=True)
    )
    flat = [span for spans in listed for span in spans]
    return predictions_of(
        labels, np.cumsum([0, *map(len, listed)]), [span[:2] for span in flat],
        [texts[each][span[0] : span[1]] for each, spans in zip(ids, listed, strict=True)
         for span in spans],
        np.array([span[2] for span in flat], dtype=np.int64),
        np.array([span[3] for span in flat], dtype=np.float32), tuple(names),
    )  # fmt: skip


def _span(each: Any, types: Mapping[str, int], text: str) -> tuple[int, int, int, float]:
    start, end, kind, prob = each["start"], each["end"], each["type"], float(each["prob"])
    if kind not in types:
        raise ValueError(f"the type {kind!r:.60} is not defined; defined are {', '.join(types)}")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise ValueError(f"{start!r:.20} to {end!r:.20} is no place in its text")
    if not 0 <= prob <= 1:
        raise ValueError(f"prob {prob} is not in 0..1")
    return start, end, types[kind], prob


def _likely(
    spans: Sequence[tuple[int, int, int, float]], names: Sequence[str], text: str
) -> tuple[Span, ...]:
    found: list[Span] = []
    for start, end, kind, prob in sorted(spans, key=lambda span: -span[3]):
        apart = all(end <= other.start or start >= other.end for other in found)
        if prob > PREDICTED and apart:
            found.append(Span(start, end, names[kind], text[start:end]))
    return tuple(sorted(found))
