"""Rows of the data that can teach: label and small model agree on them, and gold knows none.

Labels are wrong in places, and gold is for proof; so what stands as an example in a guideline is a
row on which two independent opinions agree, never a row of gold or a copy of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_relabel.evidence.predicted import Predicted
from llm_relabel.models.parts.medoids import medoids
from llm_relabel.prepared import Prepared
from llm_relabel.tune.guideline import shingles
from llm_relabel.units import SILENT, differs, has_label

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

LONGEST = 160  # characters of an example
MOST_A_LABEL = 300
# Exemplars are looked for among the rows of a label that are nearest to its centre: at its edge
# stand those that are labeled wrong.
INNER = 0.7
CLUSTERS = 3


@dataclass(frozen=True)
class Pool:
    """Texts (rows,) with the name of their label and their unit vectors (rows, d)."""

    texts: tuple[str, ...]
    names: NDArray[np.object_]
    vectors: NDArray[np.float32]

    def of(self, name: str) -> NDArray[np.int64]:
        """The rows of one label."""
        return np.flatnonzero(self.names == name)

    def inner(self, name: str) -> NDArray[np.int64]:
        """Those nearest to the label's centre."""
        rows = self.of(name)
        if len(rows) < 4:
            return rows
        near = self.vectors[rows] @ self.centre(name)
        return np.asarray(rows[near >= np.quantile(near, 1 - INNER)])

    def centre(self, name: str) -> NDArray[np.float32]:
        """The mean direction of a label."""
        mean = self.vectors[self.of(name)].mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9))

    def exemplars(self, name: str, count: int = CLUSTERS, seed: int = 0) -> list[str]:
        """Texts that stand for a label, one for each cluster of it, the largest cluster first."""
        rows = self.inner(name)
        if len(rows) <= count:
            return [self.texts[row] for row in rows.tolist()]
        chosen = rows[medoids(self.vectors[rows], count, seed)]
        return list(dict.fromkeys(self.texts[row] for row in chosen.tolist()))

    def nearest(self, vector: NDArray[np.float32], name: str, count: int) -> list[str]:
        """The texts of a label that are nearest to a vector."""
        rows = self.inner(name)
        if not len(rows):
            return []
        order = np.argsort(-(self.vectors[rows] @ vector), kind="stable")[:count]
        return [self.texts[row] for row in rows[order].tolist()]


def pool_of(
    prepared: Prepared, predicted: Predicted, gold: NDArray[np.int64], embed: Embed, *,
    tested: NDArray[np.int64] | None = None,
) -> Pool:  # fmt: skip
    """The rows of the data that can teach: none of `gold`, of their groups, or with five words in a
    row of those that are `tested` (None: of any of gold)."""
    task, dataset, given = prepared.task, prepared.dataset, prepared.given
    groups = set(dataset.groups[gold].tolist())
    secret = gold if tested is None else tested
    unseen = shingles(text for row in secret.tolist() for text in dataset.item(row).fields.values())
    trusted = has_label(given) & ~differs(given, predicted.labels)
    units = task.units({"given": given})
    codes = task.codes(units, given)
    found: dict[str, list[str]] = {}
    rng = np.random.default_rng(prepared.job.seed)
    for row in rng.permutation(np.flatnonzero(trusted)).tolist():
        if dataset.groups[row] in groups:
            continue
        item = None
        for at in range(units.starts[row], units.starts[row + 1]):
            kind = units.kinds[units.kind[at]]
            if codes[at] in (SILENT, kind.none) or not (name := kind.names[codes[at]]):
                continue
            mine = found.setdefault(name, [])
            if len(mine) >= MOST_A_LABEL:
                continue
            item = item or dataset.item(row)
            text = task.example(item, units.key[at])
            if text and len(text) <= LONGEST and not _seen(text, unseen):
                mine.append(text)
    texts = [(text, name) for name in task.names for text in dict.fromkeys(found.get(name, ()))]
    vectors = embed([text for text, _ in texts]) if texts else np.zeros((0, 1), dtype=np.float32)
    names = np.array([name for _, name in texts], dtype=object)
    return Pool(tuple(text for text, _ in texts), names, np.asarray(vectors, dtype=np.float32))


def _seen(text: str, unseen: Collection[str]) -> bool:
    return not shingles([text]).isdisjoint(unseen)
