"""The heads of the tagger of words: what they read, their scores, and the chains of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_relabel.models.parts.crf import Chain, legal
from llm_relabel.models.parts.encoder import batches_by_length as batches
from llm_relabel.models.parts.word_features import WordFeatures
from llm_relabel.models.parts.word_vectors import WordVectors

# Chosen on finer_ord, seed 0; see `word_tagger.py`.
HIDDEN = 64
DROPOUT = 0.1
BATCH = 32  # sentences
BATCH_WORDS = 2048  # padded

Floats = NDArray[np.float32]


class Inputs:
    """Sentences as the heads read them."""

    def __init__(
        self, features: WordFeatures, vectors: WordVectors, sentences: Sequence[Sequence[str]]
    ) -> None:
        self._features = [features.of(sentence) for sentence in sentences]
        self._vectors = vectors
        self.sizes = [len(sentence) for sentence in sentences]
        self.width = vectors.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.sizes)

    def longest(self, rows: Sequence[int]) -> int:
        """Words of the longest of some sentences."""
        return max(self.sizes[row] for row in rows)

    def of(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features and where each word's begin, (words,); and vectors (words, d) of all words."""
        features, starts, at = list[Any](), list[Any](), 0
        for row in rows:
            own, begins = self._features[row]
            features.append(own)
            starts.append(begins + at)
            at += len(own)
        vectors = np.concatenate([self._vectors.of(row) for row in rows]).astype(np.float32)
        flat, begin = (torch.from_numpy(np.concatenate(each)) for each in (features, starts))
        return flat, begin, torch.from_numpy(vectors)


class Heads(torch.nn.Module):
    """One tagger for each fold: strings vote for states, vectors go through a hidden layer."""

    def __init__(self, heads: int, features: int, width: int, types: int) -> None:
        super().__init__()
        self._heads, self._states = heads, 1 + 2 * types
        self.strings = torch.nn.EmbeddingBag(
            max(1, features), heads * self._states, mode="sum", sparse=True
        )
        torch.nn.init.zeros_(self.strings.weight)
        scale = width**-0.5
        self._into = torch.nn.Parameter(torch.randn(heads, width, HIDDEN) * scale)
        self._bias = torch.nn.Parameter(torch.zeros(heads, 1, HIDDEN))
        self._out = torch.nn.Parameter(torch.randn(heads, HIDDEN, self._states) * HIDDEN**-0.5)
        self._direct = torch.nn.Parameter(torch.zeros(heads, width, self._states))
        self._level = torch.nn.Parameter(torch.zeros(heads, 1, self._states))
        self._after = torch.nn.Parameter(torch.zeros(heads, self._states, self._states))
        self._first = torch.nn.Parameter(torch.zeros(heads, self._states))
        self._drop = torch.nn.Dropout(DROPOUT)
        self._legal = legal(types)

    @property
    def dense(self) -> list[torch.nn.Parameter]:
        """All parameters but those of the strings."""
        return [each for name, each in self.named_parameters() if not name.startswith("strings")]

    def transitions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(heads, S, S) scores of a state after another, (heads, S) of the first."""
        after, first = self._legal
        return self._after + after, self._first + first

    def forward(self, inputs: Inputs, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(heads, sentences, longest, S) emissions, and (sentences,) lengths."""
        flat, begin, vectors = inputs.of(rows)
        strings = self.strings(flat, begin).reshape(len(begin), self._heads, self._states)
        read = self._drop(vectors)[None]
        hidden = torch.tanh(read @ self._into + self._bias)
        words = self._drop(hidden) @ self._out + read @ self._direct + self._level
        words = words + strings.transpose(0, 1)
        lengths = torch.tensor([inputs.sizes[row] for row in rows])
        padded = words.new_zeros(self._heads, len(rows), int(lengths.max()), self._states)
        inside = torch.arange(padded.shape[2])[None] < lengths[:, None]
        padded[:, inside] = words
        return padded, lengths


def chains(
    models: Sequence[Heads], inputs: Inputs, head: NDArray[np.int64],
    tuned: Sequence[Floats] | None = None,
) -> Any:  # fmt: skip
    """(row, chain) of every sentence in order, the mean of the models' scores; None: no words.

    `tuned` (words, S) of each sentence are another model's log-probabilities, which count as much
    as all others together; it knows of no order of tags but the legal one.
    """
    transitions = [[each.detach().numpy() for each in model.transitions()] for model in models]
    after, first = (np.mean([each[part] for each in transitions], axis=0) for part in (0, 1))
    for start in range(0, len(inputs), BATCH):
        rows = [r for r in range(start, min(start + BATCH, len(inputs))) if inputs.sizes[r]]
        emissions = {}
        if rows:
            with torch.inference_mode():
                scores = sum(model(inputs, rows)[0] for model in models) / len(models)
            emissions = dict(zip(rows, np.moveaxis(scores.numpy(), 1, 0), strict=True))
        for row in range(start, min(start + BATCH, len(inputs))):
            own = int(head[row])
            if row not in emissions:
                yield row, None
                continue
            scored, onward, begin = emissions[row][own, : inputs.sizes[row]], after[own], first[own]
            if tuned is not None:
                ways, start_ = (part.numpy() for part in legal((len(begin) - 1) // 2))
                scored = (scored + tuned[row]) / 2
                onward, begin = (onward + ways) / 2, (begin + start_) / 2
            yield row, Chain.of(scored, onward, begin)


def shuffled(
    rows: Sequence[int], sizes: Sequence[int], rng: np.random.Generator
) -> list[list[int]]:
    """Batches of sentences that are nearly as long, in random order."""
    order = np.array(rows)[rng.permutation(len(rows))]
    found = list[list[int]]()
    for start in range(0, len(order), 20 * BATCH):
        part = order[start : start + 20 * BATCH].tolist()
        for batch in batches([sizes[row] for row in part], BATCH_WORDS):
            found += [
                [part[p] for p in batch[at : at + BATCH]] for at in range(0, len(batch), BATCH)
            ]
    return [found[place] for place in rng.permutation(len(found)).tolist()]
