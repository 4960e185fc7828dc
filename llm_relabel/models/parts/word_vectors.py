"""A vector for each word of a sentence, from all layers of a frozen encoder.

A word's vector is the mean over its subwords of every layer's states, one after the other, each
dimension standardised, and the principal components of that. What a layer knows of syntax the last
one has forgotten, so all are read; a hundred dimensions a layer are enough of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_relabel.files.journal import write_whole
from llm_relabel.models.parts.encoder import BATCH_TOKENS, FULL, MAX_TOKENS, Encoder
from llm_relabel.models.parts.encoder import batches_by_length as batches

DIMENSIONS = 256
SAMPLE = 10_000  # words that the components are found on
OVERLAP = 64  # subwords that two windows of a long sentence share

Floats = NDArray[np.float32]
Report = Callable[[int, int], None]
Sentences = Sequence[Sequence[str]]


@dataclass(frozen=True)
class WordVectors:
    """(words, d) float16 of all sentences, one after the other; `starts` (sentences + 1,).

    `mean`, `deviation` (raw,) and `axes` (raw, d) make those of other sentences.
    """

    vectors: NDArray[np.float16]
    starts: NDArray[np.int64]
    mean: Floats
    deviation: Floats
    axes: Floats

    def of(self, row: int) -> NDArray[np.float16]:
        """(words, d) of one sentence."""
        return self.vectors[self.starts[row] : self.starts[row + 1]]

    def of_others(self, encoder: Encoder, sentences: Sentences) -> WordVectors:
        """The same of sentences that the components were not found on."""
        starts = _starts(sentences)
        found = np.zeros((int(starts[-1]), self.axes.shape[1]), dtype=np.float16)
        for row, raw in _raw(encoder, sentences, None):
            found[starts[row] : starts[row + 1]] = self._reduced(raw)
        return WordVectors(found, starts, self.mean, self.deviation, self.axes)

    def _reduced(self, raw: Floats) -> NDArray[np.float16]:
        found = ((raw - self.mean) / self.deviation) @ self.axes
        found[~raw.any(axis=1)] = 0  # the mean of nothing
        return np.asarray(found, dtype=np.float16)


def word_vectors(
    encoder: Encoder, sentences: Sentences, cache: Path | None, report: Report | None, seed: int
) -> WordVectors:
    """The vectors of these sentences, out of the cache where the same were read before."""
    path = None
    if cache is not None:
        path = cache / "word_vectors" / f"{_key(encoder, sentences, seed)}.npz"
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as saved:
                    return WordVectors(**{name: saved[name] for name in saved.files})
            except (OSError, ValueError, EOFError, KeyError):
                path.unlink(missing_ok=True)  # damaged: made anew
    found = _made(encoder, sentences, report, seed)
    if path is not None:
        import io

        sink = io.BytesIO()
        np.savez(sink, vectors=found.vectors, starts=found.starts, mean=found.mean,
                 deviation=found.deviation, axes=found.axes)  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, sink.getvalue())
    return found


def _made(encoder: Encoder, sentences: Sentences, report: Report | None, seed: int) -> WordVectors:
    starts = _starts(sentences)
    # Of large data some sentences are read twice: first for the components, which is a part only.
    order = np.random.default_rng(seed).permutation(len(sentences))
    words = np.cumsum(np.diff(starts)[order])
    some = order[: int(np.searchsorted(words, SAMPLE)) + 1].tolist()
    sample = np.concatenate(
        [raw for _, raw in _raw(encoder, [sentences[row] for row in some], None)] or
        [np.zeros((1, 1), dtype=np.float32)]
    )  # fmt: skip
    mean, deviation = sample.mean(axis=0), sample.std(axis=0) + 1e-6
    scaled = torch.from_numpy((sample - mean) / deviation)
    width = min(DIMENSIONS, *scaled.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, values, axes = torch.pca_lowrank(scaled, q=width, center=False, niter=2)
    # The first component has a deviation of 1, so that a head starts alike whatever the encoder.
    size = float(values[0]) / np.sqrt(len(sample)) + 1e-9
    empty = WordVectors(
        np.zeros((0, width), dtype=np.float16), starts, mean, deviation,
        np.asarray(axes.numpy() / size, dtype=np.float32),
    )  # fmt: skip
    found = np.zeros((int(starts[-1]), width), dtype=np.float16)
    for row, raw in _raw(encoder, sentences, report):
        found[starts[row] : starts[row + 1]] = empty._reduced(raw)
    return WordVectors(found, starts, empty.mean, empty.deviation, empty.axes)


def _raw(
    encoder: Encoder, sentences: Sentences, report: Report | None
) -> Iterator[tuple[int, Floats]]:
    """(sentence, (words, layers * d)) of each sentence that has words, in any order.

    A word without subwords has zeros. A sentence over the encoder's length is read in windows; a
    word that two have is taken from the one where it stands further from the border.
    """
    tokenizer, model, device = encoder.loaded(FULL)
    windows, done = windows_of(tokenizer, sentences), 0
    left = {row: len(parts) for row, parts in windows.items()}
    found: dict[int, Floats] = {}
    flat = [(row, part) for row, parts in windows.items() for part in parts]
    for places in batches([len(part.ids) for _, part in flat], BATCH_TOKENS):
        width = max(len(flat[place][1].ids) for place in places)
        tokens = torch.full((len(places), width), tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(places), width), dtype=torch.long)
        for line, place in enumerate(places):
            ids = flat[place][1].ids
            tokens[line, : len(ids)] = torch.tensor(ids)
            mask[line, : len(ids)] = 1
        with torch.inference_mode():
            layers = model(
                input_ids=tokens.to(device), attention_mask=mask.to(device),
                output_hidden_states=True,
            ).hidden_states  # fmt: skip
            states = torch.cat(layers, dim=2).float().cpu().numpy()
        for line, place in enumerate(places):
            row, part = flat[place]
            if row not in found:
                found[row] = np.zeros((len(sentences[row]), states.shape[2]), dtype=np.float32)
            sums = np.zeros_like(found[row])
            np.add.at(sums, part.word, states[line, part.at])
            counts = np.bincount(part.word, minlength=len(sums))
            own = np.unique(part.word[part.kept])
            found[row][own] = sums[own] / counts[own, None]
            left[row] -= 1
            if not left[row]:
                done += 1
                if report is not None:
                    report(done, len(windows))
                yield row, found.pop(row)


@dataclass(frozen=True)
class Window:
    """Token ids that are read together; `word` (n,) is the word of each subword, `at` (n,) its
    place in the window, `kept` (n,) whether the word is taken from here."""

    ids: list[int]
    word: NDArray[np.int64]
    at: NDArray[np.int64]
    kept: NDArray[np.bool_]


def windows_of(tokenizer: Any, sentences: Sentences) -> dict[int, list[Window]]:
    """What is read together of each sentence that has words."""
    rows = [row for row, sentence in enumerate(sentences) if len(sentence)]
    if not rows:
        return {}
    read = tokenizer(
        [list(sentences[row]) for row in rows], is_split_into_words=True, truncation=True,
        max_length=MAX_TOKENS, stride=OVERLAP, return_overflowing_tokens=True,
    )  # fmt: skip
    parts: dict[int, list[Window]] = {row: [] for row in rows}
    for number, owner in enumerate(read["overflow_to_sample_mapping"]):
        words = read.word_ids(number)
        at = np.array([place for place, word in enumerate(words) if word is not None], dtype=int)
        word = np.array([words[place] for place in at.tolist()], dtype=np.int64)
        parts[rows[owner]].append(
            Window(list(read["input_ids"][number]), word, at, np.ones(len(at), dtype=np.bool_))
        )
    for row, each in parts.items():
        if len(each) > 1:
            parts[row] = _shared(each)
    return parts


def _shared(parts: Sequence[Window]) -> list[Window]:
    """Windows of one sentence, each word kept in one: where it is furthest from a border."""
    best: dict[int, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for word in np.unique(part.word).tolist():
            here = np.flatnonzero(part.word == word)
            margin = int(min(here[0], len(part.word) - 1 - here[-1]))
            if word not in best or margin > best[word][0]:
                best[word] = margin, number
    return [
        Window(part.ids, part.word, part.at,
                np.array([best[word][1] == number for word in part.word.tolist()], dtype=np.bool_))
        for number, part in enumerate(parts)
    ]  # fmt: skip


def _starts(sentences: Sentences) -> NDArray[np.int64]:
    return np.cumsum([0, *(len(sentence) for sentence in sentences)], dtype=np.int64)


def _key(encoder: Encoder, sentences: Sentences, seed: int) -> str:
    digest = hashlib.sha256(f"{encoder.fingerprint()}:{DIMENSIONS}:{SAMPLE}:{seed}".encode())
    for sentence in sentences:
        digest.update("\0".join(sentence).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:32]
