"""Ordinal ratings, a task type that the package does not have: written from the seam alone.

It shows what a new type must hold, and `test_sixth_task.py` that nothing else is needed. Labels
are whole numbers of a scale from the lowest to the highest defined one. Only some points of the
scale need a definition; a label in words, a value and a name differ; the measure is no share.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import ModelSection
from llm_relabel.data import Dataset
from llm_relabel.data.one_hot import class_cells
from llm_relabel.models.model import Predictions
from llm_relabel.models.own_predictions import load_predictions
from llm_relabel.records import Item
from llm_relabel.tasks.answers import SHOWN, Reply, parsed
from llm_relabel.tasks.exemplars import chosen_examples
from llm_relabel.tasks.task import Answer, Findings, InvalidAnswer, Starter
from llm_relabel.tasks.whole_items import WholeItems
from llm_relabel.units import SILENT, Codes, Kind, Labels, LabelValue, Units, has_label

KEY = "rating"
NOT_SAID = 0  # what the template asks for where the item does not tell


class _Rated(Reply):
    rating: int


class AbsoluteError:
    """The mean distance to the gold rating, below 0 so that HIGHER is better; a missing rating is
    as far off as a rating can be."""

    name = "minus mean absolute error"
    proportion = False
    percent = False

    def __init__(self, widest: int) -> None:
        self._widest = widest

    def counts(self, labels: Labels, gold: Labels) -> NDArray[np.float64]:
        """(items, 2): how far off, and of how many."""
        cells = np.zeros((len(gold), 2))
        for row in np.flatnonzero(has_label(gold)).tolist():
            label = labels[row]
            off = self._widest if label is None else abs(label - gold[row])
            cells[row] = off, 1
        return cells

    def value(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """(...,) of summed counts."""
        off, of = np.asarray(sums[..., 0]), np.asarray(sums[..., 1])
        found = np.full(of.shape, np.nan)
        np.divide(-off, of, out=found, where=of > 0)
        return found

    def errors(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return counts[:, 0]


class Ratings(WholeItems):
    """The task."""

    name = "ratings"
    cells = staticmethod(class_cells)
    starter = Starter(1, "Rate the text.", "what deserves {name!r}.", chosen_examples)
    template = str(Path(__file__).with_name("ratings.jinja"))
    embedded_judge = None
    weighs_sides = True
    proves_changes = True
    careful = 0.0
    label_parts = None
    answer_forms = ()
    answer_tokens = 80
    unit_note = None
    widget: Literal["choices", "spans"] = "choices"

    def __init__(self, definitions: LabelDefinitions, label_type: pa.DataType) -> None:
        self.definitions = definitions
        points = [int(name) for name in definitions.names if name.isdecimal()]
        self.scale = tuple(range(min(points, default=1), max(points, default=1) + 1))
        self.names = tuple(map(str, self.scale))
        self.kinds = (Kind(KEY, self.scale, self.names),)
        self.measure = AbsoluteError(len(self.scale) - 1)

    # Labels

    def read(self, labels: pa.ChunkedArray) -> Labels:
        ratings = np.array([*self.scale, None], dtype=object)
        codes = pc.fill_null(pc.index_in(labels, value_set=pa.array(self.names)), len(self.scale))
        return np.asarray(ratings[np.asarray(codes.combine_chunks())])

    def to_arrow(self, labels: Labels) -> pa.Array:
        texts = [None if label is None else str(label) for label in labels.tolist()]
        return pa.array(texts, pa.string())

    def check(self, value: Any, item: Item | None = None) -> LabelValue:
        if type(value) is not int or value not in self.scale:
            raise InvalidAnswer(
                f"{value!r:.{SHOWN}} is no whole number of {self.scale[0]}..{self.scale[-1]}"
            )
        return value

    def findings(self, dataset: Dataset) -> Findings:
        problems = []
        if strange := [name for name in self.definitions.names if not name.isdecimal()]:
            problems.append(f"the points of a scale are whole numbers, found {strange[0]!r}")
        for role, found in (("label", dataset.labels), ("gold", dataset.gold)):
            texts = [] if found is None else found.drop_null().unique().to_pylist()
            if unknown := [text for text in texts if text not in self.names]:
                problems.append(
                    f"{role} {unknown[0]!r} is not on the scale {', '.join(self.names)}"
                )
        if not dataset.labels.drop_null():
            return Findings(problems, untrainable="no row has a rating")
        return Findings(problems)

    def show(self, label: LabelValue) -> str:
        return "(not rated)" if label is None else f"{label} of {self.scale[-1]}"

    def show_unit(self, key: str, value: Any) -> str:
        return self.show(value)

    def example(self, item: Item, key: str) -> str:
        return next(iter(item.fields.values()))

    # Units

    def units(self, columns: Mapping[str, Labels], predictions: Predictions | None = None) -> Units:
        rows = len(next(iter(columns.values())))
        return Units(
            kinds=self.kinds,
            rows=rows,
            row=np.arange(rows),
            kind=np.zeros(rows, dtype=np.int32),
            key=np.full(rows, KEY, dtype=object),
            unseen=np.zeros(1),
        )

    def codes(self, units: Units, labels: Labels) -> Codes:
        place: dict[Any, int] = {rating: code for code, rating in enumerate(self.scale)}
        return np.array([place.get(label, SILENT) for label in labels.tolist()], dtype=np.int32)

    def labels(
        self, units: Units, codes: Codes, belief: NDArray[np.float32] | None = None
    ) -> Labels:
        return np.array([*self.scale, None], dtype=object)[codes]

    def values(self, label: LabelValue, given: LabelValue) -> dict[str, Any]:
        return {} if label is None else {KEY: label}

    def assemble(self, old: LabelValue, decided: Mapping[str, Any]) -> LabelValue:
        return decided.get(KEY, old)

    def kinds_between(self, old: LabelValue, new: LabelValue) -> Counter[tuple[str, str]]:
        return Counter()

    def decoy(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        others = [rating for rating in self.scale if rating not in avoid]
        start = avoid[0] or self.scale[0]
        nearest = min((abs(rating - start) for rating in others), default=0)
        near = [rating for rating in others if abs(rating - start) == nearest]
        return rng.choice(near) if near else None

    # The small model

    def model(
        self, section: ModelSection, dataset: Dataset, *, seed: int, cache: Path, folder: Path,
        progress: Any,
    ) -> WordVotes:  # fmt: skip
        return WordVotes(self, dataset)

    def own_predictions(self, path: Path, dataset: Dataset) -> Predictions:
        return self.predictions(load_predictions(path, dataset.ids, self.names))

    def predictions(self, probs: NDArray[np.float32]) -> Predictions:
        """The median of each row's distribution, which errs least by the measure."""
        middle = (probs.cumsum(axis=1) >= 0.5 - 1e-6).argmax(axis=1)
        flat = pa.array(np.ascontiguousarray(probs, dtype=np.float32).reshape(-1))
        scores = {"rating_probs": pa.FixedSizeListArray.from_arrays(flat, len(self.scale))}
        return Predictions(np.array(self.scale, dtype=object)[middle], scores, self.names)

    def beliefs(self, units: Units, predictions: Predictions) -> NDArray[np.float32]:
        flat = predictions.scores["rating_probs"].flatten()
        return np.asarray(flat, dtype=np.float32).reshape(len(units), -1)

    # The question and its answer

    def question(self) -> dict[str, Any]:
        return {
            "instruction": self.definitions.instruction or "Rate the text.",
            "low": self.scale[0],
            "high": self.scale[-1],
            "points": [
                {"rating": name, "definition": each.definition}
                for name, each in self.definitions.labels.items()
            ],
            "not_said": NOT_SAID,
        }

    def answer_schema(self, *, full: bool = False) -> dict[str, Any]:
        properties = {
            "rationale": {"type": "string"},
            "rating": {"type": "integer", "enum": [*self.scale, NOT_SAID]},
            "confidence": {"type": "number"},
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def parse(self, text: str, item: Item | None = None) -> Answer:
        said = parsed(_Rated, text)
        if said.rating == NOT_SAID:
            return Answer(None, "unsure", said.confidence, said.rationale)
        return Answer(self.check(said.rating, item), None, said.confidence, said.rationale)


class WordVotes:
    """Rows vote for the ratings of rows that they share words with; none of its own group."""

    description = "votes of rows with the same words"

    def __init__(self, task: Ratings, dataset: Dataset) -> None:
        self._task = task
        self._dataset = dataset

    def open(self) -> None:
        """Nothing to load."""

    def out_of_fold(self, labels: Labels) -> Predictions:
        groups = self._dataset.groups
        weights = (self.embeddings @ self.embeddings.T) * (groups[:, None] != groups[None])
        return self._votes(weights, labels)

    def predict(self, labels: Labels, items: Sequence[str]) -> Predictions:
        return self._votes(self.encode(items) @ self.embeddings.T, labels)

    def _votes(self, weights: NDArray[np.float32], labels: Labels) -> Predictions:
        scale = np.array(self._task.scale)
        said = np.array([[label == point for point in scale.tolist()] for label in labels.tolist()])
        votes = weights**2 @ said.astype(np.float32)
        votes += 0.03 * votes.sum(axis=1, keepdims=True) + 1e-9
        return self._task.predictions(votes / votes.sum(axis=1, keepdims=True))

    @cached_property
    def _words(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(sorted(self._rarity))}

    @cached_property
    def _rarity(self) -> dict[str, float]:
        counts = Counter(word for text in self._dataset.text.to_pylist() for word in text.split())
        return {word: 1 / count for word, count in counts.items()}

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        return self.encode(self._dataset.text.to_pylist())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = np.zeros((len(texts), len(self._words)), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in set(text.split()) & self._words.keys():
                found[row, self._words[word]] = self._rarity[word]
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))
