"""Judges and writers that are simulated, for `tune.py`: what a judge does with a guideline, known.

A reader scores each label by what its entry says: the cosine (MiniLM) of item and definition, of
item and examples (their mean and their nearest), a pull away from what stands under `not`; with a
fixed taste for item and label, and noise that follows from the whole prompt's hash, as a real
judge's answer moves when any word of its prompt does. It reads examples better than prose, as the
encoder does: figures that prefer examples are partly that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinition, LabelDefinitions
from llm_relabel.models.parts.encoder import Encoder


@dataclass
class Vectors:
    """Unit vectors of texts, each encoded once."""

    encoder: Encoder = field(default_factory=lambda: Encoder("embedded", cache=None))
    known: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= dict(zip(new, self.encoder.embed(new), strict=True))
        return np.stack([self.known[text] for text in texts])


@dataclass(frozen=True)
class Reader:
    """`prose` and `examples` are the weights of what it reads; `taste` and `noise` standard
    deviations in units of cosine."""

    vectors: Vectors
    prose: float = 0.4
    examples: float = 0.6
    taste: float = 0.03
    noise: float = 0.02
    seed: int = 0

    def __call__(self, guide: LabelDefinitions, texts: Sequence[str]) -> NDArray[np.object_]:
        """(texts,) the label that it answers for each."""
        items = self.vectors(texts)
        scores = np.stack([self._score(each, items) for each in guide.labels.values()], axis=1)
        prompt = hashlib.sha256(guide.to_yaml().encode()).hexdigest()
        for column, name in enumerate(guide.names):
            for row, text in enumerate(texts):
                scores[row, column] += self.taste * _normal(f"{self.seed} {text} {name}")
                scores[row, column] += self.noise * _normal(f"{prompt} {text} {name}")
        names = np.array(guide.names, dtype=object)
        return np.asarray(names[scores.argmax(axis=1)])

    def _score(self, entry: LabelDefinition, items: NDArray[np.float32]) -> NDArray[np.float64]:
        found = self.prose * (items @ self.vectors([entry.definition])[0])
        found = found.astype(np.float64)
        if entry.examples and self.examples:
            near = items @ self.vectors(entry.examples).T
            found += self.examples * (near.mean(axis=1) + near.max(axis=1)) / 2
        if entry.counterexamples and self.examples:
            near = (items @ self.vectors(entry.counterexamples).T).max(axis=1)
            found -= 0.2 * self.examples * np.maximum(near - 0.5, 0)
        return found


def _normal(key: str) -> float:
    """A standard normal number that follows from a text alone (Box and Muller 1958)."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    one, two = (int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in (0, 8))
    return float(np.sqrt(-2 * np.log(one + 1e-12)) * np.cos(2 * np.pi * two))
