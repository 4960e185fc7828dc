"""The small model of tagged words: a CRF over what an encoder and the spelling say of each word.

All folds are trained in one pass, as heads that each learn from the sentences of the other folds.
A second pass does not learn from words whose given tag the first one, which did not see them,
hardly believes: it sums over all their tags. The mean of both passes' scores predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from llm_relabel.config.job import ModelSection
from llm_relabel.data.tags import Span as WordSpan
from llm_relabel.models.parts.crf import Chain, loss
from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.models.parts.tagger_heads import Heads, Inputs, chains, shuffled
from llm_relabel.models.parts.word_features import WordFeatures
from llm_relabel.models.parts.word_vectors import WordVectors, word_vectors

# A given tag that the first pass believes this little is not learned from in the second. Copied
# from the text classifier's DOUBTED; it was not chosen again.
DOUBTED = 0.1
# Chosen on finer_ord, seed 0, by the out-of-fold likelihood of its given labels and a look at its
# gold; hausa_ner and all other seeds had no part in it (evals/tagging.py).
EPOCHS, EPOCHS_OF_MANY, MANY = 15, 10, 3000
LEARNING_RATE = 3e-3
AVERAGED = 0.5  # share of the epochs whose weights are averaged (Izmailov et al. 2018)
# A span that is believed less is no candidate, nor is one of more words that nobody named.
CANDIDATE = 0.005
LONGEST = 12

Floats = NDArray[np.float32]
Spans = Sequence[tuple[WordSpan, ...] | None]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Tagged:
    """What the model says of each sentence.

    `spans` are the likeliest tags', `quality` (rows,) is the probability of the given spans in
    0..1, LOWER is worse, NaN where none are given. The candidates are every span that is
    believed to CANDIDATE, is given, or is predicted: `row`, `first`, `end` (words), `type` (place
    in the types) and `prob`, each (candidates,), ordered by row.
    """

    spans: list[tuple[WordSpan, ...]]
    quality: Floats
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    end: NDArray[np.int64]
    type: NDArray[np.int64]
    prob: Floats


class WordTagger:
    """Tags sentences (lists of words); those that share a number in `groups` (rows,) never vouch
    for each other."""

    def __init__(
        self,
        section: ModelSection,
        sentences: Sequence[Sequence[str]],
        groups: NDArray[np.int64],
        types: Sequence[str],
        *,
        seed: int,
        cache: Path | None,
        folder: Path = Path(),
        progress: Report | None = None,
    ) -> None:
        self._section, self._sentences, self._groups = section, sentences, groups
        self._types = {name: code for code, name in enumerate(types)}
        self._names = tuple(types)
        self._seed, self._cache, self._folder, self._progress = seed, cache, folder, progress

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, not loaded before it must read."""
        return Encoder(self._section.encoder, cache=self._cache, folder=self._folder)

    @cached_property
    def _vectors(self) -> WordVectors:
        return word_vectors(self.encoder, self._sentences, self._cache, self._progress, self._seed)

    @cached_property
    def _features(self) -> WordFeatures:
        return WordFeatures(self._sentences)

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self._features, self._vectors, self._sentences)

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """(rows,) the fold of each sentence; a group is in one fold."""
        numbers, group = np.unique(self._groups, return_inverse=True)
        sizes = np.bincount(group)
        order = np.random.default_rng(self._seed).permutation(len(numbers))
        order = order[np.argsort(-sizes[order], kind="stable")]
        total = np.zeros(min(self._section.folds, max(2, len(numbers))))
        fold = np.zeros(len(numbers), dtype=np.int64)
        for place in order.tolist():  # the largest groups first, each to the smallest fold
            fold[place] = int(total.argmin())
            total[fold[place]] += sizes[place]
        return np.asarray(fold[group])

    def out_of_fold(self, spans: Spans, *, robust: bool = True) -> Tagged:
        """Every sentence's tags from a head that saw neither it nor its group.

        `robust` False: the first pass alone.
        """
        heads = int(self.folds.max()) + 1
        held_out = self.folds[None] != np.arange(heads)[:, None]
        models = self._passes(spans, held_out, self.folds, robust=robust)
        tuned = None
        if self.finetunes:
            from llm_relabel.models.parts.finetune_words import finetuned_tags

            tuned = finetuned_tags(
                self.encoder, self._sentences, self._all_tags(spans), 1 + 2 * len(self._types),
                self.folds, epochs=self._section.epochs, seed=self._seed, report=self._progress,
            )  # fmt: skip
        return self._tagged(models, self._inputs, self.folds, spans, tuned)

    def predict(self, spans: Spans, sentences: Sequence[Sequence[str]]) -> Tagged:
        """Tags of sentences outside the data, from all sentences that have spans."""
        everything = np.ones((1, len(spans)), dtype=np.bool_)
        doubted = self._doubted(spans)
        models = [self._train(spans, everything, None)]
        if doubted is not None:
            models.append(self._train(spans, everything, doubted))
        inputs = Inputs(self._features, self._vectors.of_others(self.encoder, sentences), sentences)
        head = np.zeros(len(sentences), dtype=np.int64)
        tuned = None
        if self.finetunes:
            from llm_relabel.models.parts.finetune_words import train_and_tag

            rows = [row for row, own in enumerate(spans) if own is not None]
            tags = self._all_tags(spans)
            tuned = train_and_tag(
                self.encoder, [self._sentences[row] for row in rows], [tags[row] for row in rows],
                sentences, 1 + 2 * len(self._types), epochs=self._section.epochs, seed=self._seed,
                count=lambda _rows: None,
            )  # fmt: skip
        return self._tagged(models, inputs, head, [None] * len(sentences), tuned)

    @cached_property
    def finetunes(self) -> bool:
        """Whether the encoder is fine-tuned, too; `auto` does where there is a GPU."""
        wanted = self._section.finetune
        return torch.cuda.is_available() if wanted == "auto" else wanted

    def _all_tags(self, spans: Spans) -> list[NDArray[np.int64] | None]:
        return [self._tags(row, spans) for row in range(len(self._sentences))]

    def _doubted(self, spans: Spans) -> list[NDArray[np.bool_]] | None:
        heads = int(self.folds.max()) + 1
        held_out = self.folds[None] != np.arange(heads)[:, None]
        plain = self._train(spans, held_out, None)
        return self._doubts(plain, self.folds, spans)

    def _passes(
        self, spans: Spans, learns: NDArray[np.bool_], head: NDArray[np.int64], *, robust: bool
    ) -> list[Heads]:
        plain = self._train(spans, learns, None)
        doubted = self._doubts(plain, head, spans) if robust else None
        return [plain] if doubted is None else [plain, self._train(spans, learns, doubted)]

    def _doubts(
        self, model: Heads, head: NDArray[np.int64], spans: Spans
    ) -> list[NDArray[np.bool_]] | None:
        """(words,) for each sentence, which given tags are hardly believed; None: none is."""
        found, some = list[NDArray[np.bool_]](), False
        for row, chain in chains([model], self._inputs, head):
            tags = self._tags(row, spans)
            if tags is None:
                found.append(np.zeros(0, dtype=np.bool_))
                continue
            found.append(chain.marginals[np.arange(len(tags)), tags] < DOUBTED)
            some |= bool(found[-1].any())
        return found if some else None

    def _tags(self, row: int, spans: Spans) -> NDArray[np.int64] | None:
        own = spans[row]
        if own is None or not len(self._sentences[row]):
            return None
        tags = np.zeros(len(self._sentences[row]), dtype=np.int64)
        for first, end, kind in own:
            tags[first] = 1 + 2 * self._types[kind]
            tags[first + 1 : end] = 2 + 2 * self._types[kind]
        return tags

    def _train(
        self, spans: Spans, learns: NDArray[np.bool_], doubted: list[NDArray[np.bool_]] | None
    ) -> Heads:
        """Heads, one for each row of `learns` (heads, rows), which says what it learns from."""
        tags = self._all_tags(spans)
        rows = [row for row, own in enumerate(tags) if own is not None and learns[:, row].any()]
        rng = np.random.default_rng(self._seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            model = Heads(len(learns), len(self._features), self._inputs.width, len(self._types))
            epochs = EPOCHS if len(rows) < MANY else EPOCHS_OF_MANY
            fine = torch.optim.Adam(model.dense, lr=LEARNING_RATE)
            sparse = torch.optim.SparseAdam(list(model.strings.parameters()), lr=LEARNING_RATE)
            states = 1 + 2 * len(self._types)
            model.train()
            average = torch.optim.swa_utils.AveragedModel(model)
            for epoch in range(epochs):
                for batch in shuffled(rows, [len(each) for each in self._sentences], rng):
                    allowed = np.ones((len(batch), self._inputs.longest(batch), states), np.bool_)
                    for line, row in enumerate(batch):
                        own = tags[row]
                        assert own is not None
                        allowed[line, : len(own)] = np.arange(states) == own[:, None]
                        if doubted is not None:
                            allowed[line, : len(own)][doubted[row]] = True
                    emissions, lengths = model(self._inputs, batch)
                    after, first = model.transitions()
                    minus = loss(emissions, torch.from_numpy(allowed), lengths, after, first)
                    weights = torch.from_numpy(learns[:, batch]).float()
                    fine.zero_grad()
                    sparse.zero_grad()
                    ((minus * weights).sum() / len(batch)).backward()  # type: ignore[no-untyped-call]
                    fine.step()
                    sparse.step()  # type: ignore[no-untyped-call]
                if epoch >= (1 - AVERAGED) * epochs:
                    average.update_parameters(model)
            return cast(Heads, average.module).eval()

    def _tagged(
        self, models: Sequence[Heads], inputs: Inputs, head: NDArray[np.int64], spans: Spans,
        tuned: Sequence[Floats] | None = None,
    ) -> Tagged:  # fmt: skip
        decoded, quality = list[tuple[WordSpan, ...]](), list[float]()
        found = list[tuple[int, int, int, int, float]]()
        for row, chain in chains(models, inputs, head, tuned):
            if chain is None:
                decoded.append(())
                quality.append(1.0 if spans[row] is not None else float("nan"))
                continue
            decoded.append(self._read(chain.best()))
            tags = self._tags(row, spans) if spans[row] is not None else None
            told = float("nan") if tags is None else float(np.exp(chain.log_probability(tags)))
            quality.append(told)
            both = (*decoded[-1], *(spans[row] or ()))
            named = {(first, end, self._types[kind]) for first, end, kind in both}
            found += [(row, *place, prob) for place, prob in _candidates(chain, named).items()]
        columns = np.array(found, dtype=np.float64).reshape(-1, 5).T
        row_, first, end, kind = columns[:4].astype(np.int64)
        return Tagged(
            decoded, np.clip(np.array(quality, dtype=np.float32), 0, 1), row_, first, end, kind,
            np.clip(columns[4], 0, 1).astype(np.float32),
        )  # fmt: skip

    def _read(self, tags: Sequence[int]) -> tuple[WordSpan, ...]:
        found, start = list[WordSpan](), -1
        for place, tag in enumerate([*tags, 0]):
            if start >= 0 and (tag == 0 or tag % 2):
                found.append((start, place, self._names[(tags[start] - 1) // 2]))
                start = -1
            if tag % 2:
                start = place
        return tuple(found)


def _candidates(
    chain: Chain, named: set[tuple[int, int, int]]
) -> dict[tuple[int, int, int], float]:
    """(first, end, type) and probability of every span that may be one, and of the named ones."""
    marginals, found = chain.marginals, dict[tuple[int, int, int], float]()
    longest = max([LONGEST, *(end - first for first, end, _ in named)])
    begins = {(first, kind) for first, _, kind in named}
    likely = np.argwhere(marginals[:, 1::2] >= CANDIDATE)
    for first, kind in sorted(begins | {(int(a), int(b)) for a, b in likely}):
        for length, prob in enumerate(chain.spans(first, kind, longest).tolist(), start=1):
            place = (first, first + length, kind)
            if place in named or (prob >= CANDIDATE and length <= LONGEST):
                found[place] = prob
    return found
