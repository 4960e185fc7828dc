"""Rows of the data that can stand as examples of a label: short, and likely to be labeled right.

Given labels are wrong in places, and those are what a run is for, so a quick model of words
chooses: of each label those rows that it, not having seen them, would label so too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llm_relabel.data import Dataset
from llm_relabel.models.parts.ridge import LeaveOutRidge
from llm_relabel.models.parts.text_features import TextFeatures

EXAMPLES = 2
LONGEST = 160  # characters
ROWS = 5000
# A cosine of the word features; a second example this near to the first shows nothing new.
ALIKE = 0.8


def chosen_examples(
    dataset: Dataset, names: Sequence[str], spelled: Mapping[str, str], *, seed: int = 0
) -> dict[str, list[str]]:
    """At most EXAMPLES texts for each of `names`, the likeliest first; none where all are doubtful.

    `spelled` holds the name behind each other spelling. Of large data a part is looked at.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).astype(np.int64))
    texts: list[str] = dataset.text.take(rows).to_pylist()
    features = TextFeatures(texts, seed=seed, cache=None).matrix()
    if not features.shape[1]:  # no word occurs twice, so nothing can be learned
        return {name: [] for name in names}
    labels = _indicators(dataset, rows, names, spelled)
    design = np.hstack([features, np.ones((len(rows), 1), dtype=np.float32)])
    ridge = LeaveOutRidge(design, dataset.groups[rows])
    scores, _ = ridge.leave_out(labels, np.asarray(labels.any(axis=1)))
    margins = _margins(scores, exclusive=not dataset.multi_label)
    fit = np.array([len(text.strip()) > 0 and len(text) <= LONGEST for text in texts])
    found = {}
    for column, name in enumerate(names):
        likely = (labels[:, column] > 0) & (margins[:, column] > 0) & fit
        ranked = np.flatnonzero(likely)[np.argsort(-margins[likely, column], kind="stable")]
        found[name] = [texts[row] for row in _unlike(ranked, features)]
    return found


def span_examples(
    dataset: Dataset, names: Sequence[str], spelled: Mapping[str, str]
) -> dict[str, list[str]]:
    """At most EXAMPLES texts for each of `names`, with the entity between [[ and ]].

    Of the entities that have this type wherever their words are labeled, in several rows, the most
    frequent; and of their texts the shortest. None where there is no such entity.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).astype(np.int64))
    types: dict[str, set[str]] = {}
    places: dict[str, list[tuple[int, int, int]]] = {}
    for row, spans in zip(rows.tolist(), dataset.labels.take(rows).to_pylist(), strict=True):
        for span in spans or ():
            words = span["text"].casefold()
            types.setdefault(words, set()).add(spelled.get(span["type"], span["type"]))
            places.setdefault(words, []).append((row, span["start"], span["end"]))
    found: dict[str, list[str]] = {name: [] for name in names}
    for words in sorted(places, key=lambda each: (-len(places[each]), each)):
        of = next(iter(types[words]))
        if len(types[words]) > 1 or len(places[words]) < 2 or len(found.get(of, ())) >= EXAMPLES:
            continue
        texts = [(dataset.text[row].as_py(), start, end) for row, start, end in places[words][:50]]
        text, start, end = min(texts, key=lambda each: len(each[0]))
        if len(text) <= LONGEST and of in found:
            found[of].append(f"{text[:start]}[[{text[start:end]}]]{text[end:]}")
    return found


def _indicators(
    dataset: Dataset, rows: NDArray[np.int64], names: Sequence[str], spelled: Mapping[str, str]
) -> NDArray[np.float32]:
    """(rows, names) 1 where a row has the label."""
    column = {name: index for index, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), dtype=np.float32)
    for place, value in enumerate(dataset.labels.take(rows).to_pylist()):
        for name in value if isinstance(value, list) else [value]:
            if name is not None:
                labels[place, column[spelled.get(name, name)]] = 1
    return labels


def _margins(scores: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.float32]:
    """(rows, names) how far each label is ahead of the best other, or of even chances."""
    if not exclusive:
        return scores - 0.5
    first, second = -np.partition(-scores, 1, axis=1)[:, :2].T
    best_other = np.where(scores == first[:, None], second[:, None], first[:, None])
    return np.asarray(scores - best_other)


def _unlike(ranked: NDArray[np.int64], features: NDArray[np.float32]) -> list[int]:
    """The first of `ranked`, and those after it that are not like one already taken."""
    taken: list[int] = []
    for row in ranked.tolist():
        if all(features[row] @ features[other] < ALIKE for other in taken):
            taken.append(row)
        if len(taken) == EXAMPLES:
            break
    return taken
