"""Rows of the data that can stand as examples of a label: short, and likely to be labeled right.

Given labels are wrong in places, and those are what a run is for, so a quick model of words
chooses: of each label those rows that it, not having seen them, would label so too, a cluster each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llm_relabel.data import Dataset
from llm_relabel.models.parts.medoids import medoids
from llm_relabel.models.parts.ridge import LeaveOutRidge
from llm_relabel.models.parts.text_features import TextFeatures
from llm_relabel.tasks.task import Shown

EXAMPLES = 3  # of a label, each out of a cluster of its own
SPANS = 2  # examples of a type of entity
LONGEST = 160  # characters
ROWS = 5000
# Of the rows that are likely to be labeled right, the surest: at the edge stand the wrong ones.
INNER = 0.7


def chosen_examples(
    dataset: Dataset, names: Sequence[str], spelled: Mapping[str, str], *, seed: int = 0
) -> Shown:
    """At most EXAMPLES texts for each of `names`, that of the largest cluster first, and a near
    miss: a text of another label that is most like this one. None where all are doubtful.

    `spelled` holds the name behind each other spelling. Of large data a part is looked at.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).astype(np.int64))
    texts: list[str] = dataset.text.take(rows).to_pylist()
    features = TextFeatures(texts, seed=seed, cache=None).matrix()
    if not features.shape[1]:  # no word occurs twice, so nothing can be learned
        return Shown({name: [] for name in names}, {})
    labels = _indicators(dataset, rows, names, spelled)
    design = np.hstack([features, np.ones((len(rows), 1), dtype=np.float32)])
    ridge = LeaveOutRidge(design, dataset.groups[rows])
    scores, _ = ridge.leave_out(labels, np.asarray(labels.any(axis=1)))
    exclusive = not dataset.multi_label
    margins = _margins(scores, exclusive=exclusive)
    fit = np.array([len(text.strip()) > 0 and len(text) <= LONGEST for text in texts])
    found, near = dict[str, list[str]](), dict[str, list[str]]()
    likely = (labels > 0) & (margins > 0) & fit[:, None]
    own = np.where(labels > 0, margins, 0).max(axis=1)
    sure = likely.any(axis=1)
    if sure.any():
        sure &= own >= np.quantile(own[sure], 1 - INNER)
    for column, name in enumerate(names):
        mine = np.flatnonzero(likely[:, column])
        found[name] = [texts[row] for row in _by_cluster(mine, margins[:, column], features, seed)]
        others = np.flatnonzero(sure & (labels[:, column] == 0))
        if exclusive and len(others):
            near[name] = [texts[others[int(scores[others, column].argmax())]]]
    return Shown(found, near)


def _by_cluster(
    rows: NDArray[np.int64], margins: NDArray[np.float32], features: NDArray[np.float32], seed: int
) -> list[int]:
    """Of the surest of `rows` one for each of EXAMPLES clusters, the largest cluster first."""
    if len(rows) > EXAMPLES + 1:
        rows = rows[margins[rows] >= np.quantile(margins[rows], 1 - INNER)]
    distinct = len(np.unique(features[rows], axis=0)) if len(rows) else 0
    if distinct <= EXAMPLES:
        _, first = np.unique(features[rows], axis=0, return_index=True)
        return [int(rows[place]) for place in sorted(first.tolist())]
    return [int(rows[at]) for at in medoids(features[rows], EXAMPLES, seed)]


def span_examples(dataset: Dataset, names: Sequence[str], spelled: Mapping[str, str]) -> Shown:
    """At most SPANS texts for each of `names`, with the entity between [[ and ]].

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
        if len(types[words]) > 1 or len(places[words]) < 2 or len(found.get(of, ())) >= SPANS:
            continue
        texts = [(dataset.text[row].as_py(), start, end) for row, start, end in places[words][:50]]
        text, start, end = min(texts, key=lambda each: len(each[0]))
        if len(text) <= LONGEST and of in found:
            found[of].append(f"{text[:start]}[[{text[start:end]}]]{text[end:]}")
    return Shown(found, {})


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
