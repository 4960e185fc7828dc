"""The small model of tagged texts: spans in characters become spans of words and back again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.config.job import ModelSection
from llm_relabel.data.spans import Span, place_of
from llm_relabel.data.words import Range, ranges, words_in
from llm_relabel.models.model import WHOLE, Predictions
from llm_relabel.models.word_tagger import Tagged, WordTagger
from llm_relabel.units import Labels, Units, column

# What is believed of a type that is no candidate at a place.
UNLIKELY = 1e-3

Floats = NDArray[np.float32]


class TextTagger:
    """Tags texts. `as_words`: they came as words, with one space between; else words are found.

    `texts` are the rows' texts in order; rows sharing a number in `groups` (rows,) never vouch for
    each other.
    """

    def __init__(
        self,
        section: ModelSection,
        texts: Any,
        groups: NDArray[np.int64],
        types: Sequence[str],
        *,
        as_words: bool,
        seed: int,
        cache: Path | None,
        folder: Path = Path(),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._section, self._texts, self._groups, self._types = section, texts, groups, types
        self._as_words = as_words
        self._made = {"seed": seed, "cache": cache, "folder": folder, "progress": progress}

    @cached_property
    def texts(self) -> list[str]:
        """The texts as Python strings; made only when they must be read."""
        return list(self._texts.to_pylist())

    @cached_property
    def _places(self) -> list[tuple[Range, ...]]:
        return [self._words_of(text) for text in self.texts]

    def _words_of(self, text: str) -> tuple[Range, ...]:
        return ranges(text) if self._as_words else words_in(text)

    @cached_property
    def _tagger(self) -> WordTagger:
        sentences = _words(self.texts, self._places)
        return WordTagger(self._section, sentences, self._groups, self._types, **self._made)  # type: ignore[arg-type]

    def open(self) -> None:
        """Open the encoder, so that a bad name shows early. Raises JobError."""
        _ = self._tagger.encoder

    @property
    def description(self) -> str:
        """One line for provenance."""
        crf = (
            f"CRF on [{self._section.encoder} encoder, all layers; spelling], "
            f"{self._section.folds} folds"
        )
        if not self._tagger.finetunes:
            return crf
        return f"{crf}, averaged with the encoder fine-tuned, {self._section.epochs} epochs"

    @property
    def embeddings(self) -> Floats:
        """(rows, d) unit vectors of the texts."""
        return self._tagger.encoder.embed(self.texts)

    def encode(self, texts: Sequence[str]) -> Floats:
        """(texts, d) unit vectors of any texts."""
        return self._tagger.encoder.embed(texts)

    def out_of_fold(self, labels: Labels) -> Predictions:
        """Every text's spans from a model that saw neither it nor its group."""
        given = [
            None if label is None else _in_words(label, places)
            for label, places in zip(labels.tolist(), self._places, strict=True)
        ]
        return self._predictions(
            self._tagger.out_of_fold(given), self.texts, self._places, labels.tolist()
        )

    def predict(self, labels: Labels, items: Sequence[str]) -> Predictions:
        """The spans of texts outside the data, from all rows that have a label."""
        given = [
            None if label is None else _in_words(label, places)
            for label, places in zip(labels.tolist(), self._places, strict=True)
        ]
        places = [self._words_of(text) for text in items]
        found = self._tagger.predict(given, _words(items, places))
        return self._predictions(found, items, places, [None] * len(items))

    def _predictions(
        self, found: Tagged, texts: Sequence[str], places: Sequence[Sequence[Range]],
        labels: Sequence[Any],
    ) -> Predictions:  # fmt: skip
        """Spans of words in characters; where a label's borders are not those of words, the same
        words are the label's own place."""
        own = [_own_places(label, words) for label, words in zip(labels, places, strict=True)]

        def place(row: int, first: int, end: int) -> Range:
            return own[row].get((first, end)) or (places[row][first][0], places[row][end - 1][1])

        predicted = column(
            tuple(
                Span(*place(row, first, end), kind, texts[row][slice(*place(row, first, end))])
                for first, end, kind in spans
            )
            for row, spans in enumerate(found.spans)
        )
        where = [
            place(*each) for each in zip(found.row.tolist(), found.first.tolist(),
                                         found.end.tolist(), strict=True)
        ]  # fmt: skip
        bounds = np.searchsorted(found.row, np.arange(len(texts) + 1))
        words = [
            texts[row][start:end]
            for row, (start, end) in zip(found.row.tolist(), where, strict=True)
        ]  # fmt: skip
        return predictions_of(
            predicted, bounds, where, words, found.type, found.prob, tuple(self._types),
            found.quality,
        )  # fmt: skip


def predictions_of(
    labels: Labels, bounds: NDArray[Any], places: Sequence[Range], words: Sequence[str],
    types: NDArray[Any], probs: NDArray[Any], names: tuple[str, ...],
    quality: Floats | None = None,
) -> Predictions:  # fmt: skip
    """Candidate spans of all rows as predictions; those of row r are `bounds[r]:bounds[r + 1]`."""
    offsets = pa.array(bounds, pa.int32())
    start, end = (np.array([each[part] for each in places], dtype=np.int32) for part in (0, 1))
    columns = {
        "span_start": pa.array(start), "span_end": pa.array(end),
        "span_text": pa.array(words, pa.string()), "span_type": pa.array(types, pa.int32()),
        "span_prob": pa.array(probs, pa.float32()),
    }  # fmt: skip
    scores = {name: pa.ListArray.from_arrays(offsets, each) for name, each in columns.items()}
    if quality is not None:
        scores[WHOLE] = pa.array(quality, from_pandas=True)
    return Predictions(labels, scores, names)


def spans_over(least: float, predictions: Predictions | None) -> dict[int, list[str]]:
    """The units, by row, of the spans that predictions give at least this probability."""
    if predictions is None or not predictions.scores:
        return {}
    scores = predictions.scores
    bounds = np.asarray(scores["span_prob"].offsets)
    probs, starts, ends = (
        np.asarray(scores[name].values) for name in ("span_prob", "span_start", "span_end")
    )
    likely = np.flatnonzero(probs >= least)
    words = scores["span_text"].values.take(pa.array(likely)).to_pylist()
    rows = np.searchsorted(bounds, likely, side="right") - 1
    found: dict[int, list[str]] = {}
    for row, start, end, text in zip(
        rows.tolist(), starts[likely].tolist(), ends[likely].tolist(), words, strict=True
    ):
        found.setdefault(row, []).append(Span(start, end, "", text).key)
    return found


def beliefs_in(units: Units, predictions: Predictions, names: Sequence[str]) -> Floats:
    """(units, 1 + types) the belief in each type at each place, no entity first."""
    scores, code = predictions.scores, {name: 1 + at for at, name in enumerate(names)}
    types = np.array([code[name] for name in predictions.names], dtype=np.int64)
    listed = [scores[name] for name in ("span_start", "span_end", "span_type", "span_prob")]
    bounds = np.asarray(listed[0].offsets).tolist()
    starts, ends, kinds, probs = (np.asarray(each.values).tolist() for each in listed)
    found = np.full((len(units), 1 + len(names)), UNLIKELY, dtype=np.float32)
    is_place = np.array([len(kind.values) > 1 for kind in units.kinds])[units.kind]
    for row in range(units.rows):
        here = units.of_row(row)
        at = {
            place_of(key): place
            for place, key in enumerate(units.key[here].tolist(), start=here.start)
            if is_place[place]
        }
        if at:
            for number in range(bounds[row], bounds[row + 1]):
                place = at.get((starts[number], ends[number]))
                if place is not None:
                    found[place, types[kinds[number]]] = max(UNLIKELY, probs[number])
    some = found[:, 1:].sum(axis=1)
    # The types of one place exclude each other; rounding may bring them over 1.
    found[:, 1:] /= np.maximum(1, some / (1 - UNLIKELY))[:, None]
    found[:, 0] = 1 - found[:, 1:].sum(axis=1)
    found[~is_place] = 0
    found[~is_place, 0] = 1
    return found


def _words(texts: Sequence[str], places: Sequence[Sequence[Range]]) -> list[list[str]]:
    return [
        [text[start:end] for start, end in words]
        for text, words in zip(texts, places, strict=True)
    ]  # fmt: skip


def _covered(span: Span, words: Sequence[Range]) -> tuple[int, int] | None:
    """The first word that a span touches and the one after the last; None: it touches none."""
    inside = [n for n, (start, end) in enumerate(words) if start < span.end and end > span.start]
    return (inside[0], inside[-1] + 1) if inside else None


def _in_words(label: Sequence[Span], places: Sequence[Range]) -> tuple[tuple[int, int, str], ...]:
    found, last = list[tuple[int, int, str]](), 0
    for span in label:
        covered = _covered(span, places)
        if covered is not None and covered[0] >= last:  # two spans may share a word
            found.append((*covered, span.type))
            last = covered[1]
    return tuple(found)


def _own_places(label: Any, places: Sequence[Range]) -> dict[tuple[int, int], Range]:
    own = {_covered(span, places): (span.start, span.end) for span in label or ()}
    return {covered: place for covered, place in own.items() if covered is not None}
