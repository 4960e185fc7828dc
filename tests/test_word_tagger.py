"""The CRF against every path counted one by one, and what the small model of words keeps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_relabel.config.job import ModelSection
from llm_relabel.data.tags import Span, spans_of, tags_of
from llm_relabel.models.parts.crf import Chain, legal, loss
from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.models.parts.word_vectors import word_vectors
from llm_relabel.models.word_tagger import Tagged, WordTagger

Scored = dict[tuple[int, ...], float]


def paths(emissions: np.ndarray, after: np.ndarray, first: np.ndarray) -> Scored:
    """The probability of every tag sequence."""
    scores = {}
    for path in product(range(emissions.shape[1]), repeat=len(emissions)):
        score = first[path[0]] + sum(emissions[at, tag] for at, tag in enumerate(path))
        scores[path] = score + sum(after[a, b] for a, b in pairwise(path))
    top = max(scores.values())
    weights = {path: float(np.exp(score - top)) for path, score in scores.items()}
    return {path: weight / sum(weights.values()) for path, weight in weights.items()}


def spans_in(path: Sequence[int]) -> set[tuple[int, int, int]]:
    tags = ["O" if tag == 0 else f"{'BI'[(tag + 1) % 2]}-{(tag - 1) // 2}" for tag in path]
    return {(start, end, int(kind)) for start, end, kind in spans_of(tags)}


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_chains_say_what_counting_every_path_says(words: int, types: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = 1 + 2 * types
    emissions = rng.normal(size=(words, states)) * 2
    after, first = (part.numpy() + rng.normal(size=part.shape) for part in legal(types))
    scored = paths(emissions, after, first)
    chain = Chain.of(emissions, after, first)
    best = max(scored, key=lambda path: scored[path])
    assert tuple(chain.best()) == best
    assert np.exp(chain.log_probability(np.array(best))) == pytest.approx(scored[best], rel=1e-6)
    marginals = np.zeros_like(emissions)
    spans: dict[tuple[int, int, int], float] = {}
    for path, prob in scored.items():
        marginals[np.arange(words), path] += prob
        if prob > 1e-9:
            for span in spans_in(path):
                spans[span] = spans.get(span, 0) + prob
    assert np.allclose(chain.marginals, marginals, atol=1e-8)
    for start, kind in product(range(words), range(types)):
        for length, prob in enumerate(chain.spans(start, kind, 9), start=1):
            assert prob == pytest.approx(spans.get((start, start + length, kind), 0), abs=1e-7)
    # What is not known of a word's tag is summed over.
    allowed = rng.random((words, states)) < 0.5
    allowed[:, 0] = True
    told = sum(p for path, p in scored.items() if allowed[np.arange(words), path].all())
    as_torch = [torch.from_numpy(each[None]) for each in (after, first)]
    found = loss(torch.from_numpy(emissions[None, None]), torch.from_numpy(allowed[None]),
                 torch.tensor([words]), *as_torch)  # fmt: skip
    assert float(found) == pytest.approx(-np.log(told), abs=1e-5)


NAMES, PLACES = ("Ann", "Bob", "Cid", "Dora"), ("Rome", "Oslo", "Bonn", "Lima")
KINDS = ("PER", "LOC")


def corpus(rows: int) -> tuple[list[list[str]], list[tuple[Span, ...]]]:
    sentences, spans = [], []
    for row in range(rows):
        name, place = NAMES[row % 4], PLACES[row // 4 % 4]
        words = ["today", name, "Smith", "went", "to", place] if row % 2 else [name, "likes", place]
        own = ((1, 3, "PER"), (5, 6, "LOC")) if row % 2 else ((0, 1, "PER"), (2, 3, "LOC"))
        sentences.append([*words, str(row)])
        spans.append(own)
    return sentences, spans


def tagger(
    sentences: Sequence[Sequence[str]],
    groups: Sequence[int] | None = None,
    kinds: Sequence[str] = KINDS,
) -> WordTagger:
    numbers = np.arange(len(sentences)) if groups is None else np.array(groups)
    return WordTagger(ModelSection(folds=3), sentences, numbers, kinds, seed=0, cache=None)


@pytest.fixture(scope="module")
def learned() -> tuple[list[tuple[Span, ...]], set[int], Tagged]:
    """A corpus with planted errors, and what the model makes of it."""
    sentences, right = corpus(96)
    planted = set(range(5, 96, 16))
    wrong = {row: ((1, 3, "LOC"), right[row][1]) for row in planted}
    given = [wrong.get(row, spans) for row, spans in enumerate(right)]
    return right, planted, tagger(sentences).out_of_fold(given)


def test_it_learns_and_finds_what_was_planted(
    learned: tuple[list[tuple[Span, ...]], set[int], Tagged],
) -> None:
    right, planted, found = learned
    assert np.mean([a == b for a, b in zip(found.spans, right, strict=True)]) > 0.95
    assert set(np.argsort(found.quality)[: len(planted)].tolist()) == planted
    assert ((found.prob >= 0) & (found.prob <= 1)).all()
    assert (np.diff(found.row) >= 0).all()
    # The given span that is wrong is a candidate, and so is the right one.
    row = min(planted)
    here = {
        (int(a), int(b), KINDS[k]): float(p)
        for r, a, b, k, p in zip(found.row, found.first, found.end, found.type, found.prob,
                                 strict=True)
        if r == row
    }  # fmt: skip
    assert here[1, 3, "LOC"] < 0.2
    assert here[1, 3, "PER"] > 0.5


def test_a_sentence_and_its_group_have_no_part_in_their_own_prediction() -> None:
    sentences, spans = corpus(48)
    groups = [row // 4 for row in range(48)]
    changed = [() if row < 4 else own for row, own in enumerate(spans)]
    plain, other = (
        tagger(sentences, groups).out_of_fold(given, robust=False) for given in (spans, changed)
    )
    first, second = (
        {(int(r), int(a), int(b), int(k)): float(p)
         for r, a, b, k, p in zip(e.row, e.first, e.end, e.type, e.prob, strict=True) if r < 4}
        for e in (plain, other)
    )  # fmt: skip
    for place in first.keys() & second.keys():
        assert first[place] == pytest.approx(second[place], abs=1e-6)
    assert plain.spans[:4] == other.spans[:4]


def test_the_same_seed_gives_the_same_and_rows_without_labels_are_predicted() -> None:
    sentences, spans = corpus(48)
    given = [None if row % 5 == 0 else own for row, own in enumerate(spans)]
    one, other = (tagger(sentences).out_of_fold(given) for _ in range(2))
    assert one.spans == other.spans
    assert np.array_equal(one.prob, other.prob)
    assert np.isnan(one.quality).tolist() == [row % 5 == 0 for row in range(48)]
    unlabeled = [one.spans[row] == spans[row] for row in range(0, 48, 5)]
    assert np.mean(unlabeled) > 0.8


def test_sentences_outside_the_data_are_tagged() -> None:
    sentences, spans = corpus(48)
    found = tagger(sentences).predict(spans, [["Ann", "likes", "Oslo", "too"], []])
    assert found.spans == [((0, 1, "PER"), (2, 3, "LOC")), ()]
    assert np.isnan(found.quality).all()


@pytest.mark.parametrize(
    "sentences",
    [
        [["東", "京"], ["กรุง", "เทพ"], ["Ṛ", "\u200b"], ["", "a"], [], ["😀", "x"]] * 3,
        [["a"]] * 6,
    ],
)
def test_any_words_are_read(sentences: list[list[str]]) -> None:
    spans = [((0, 1, "X"),) if words else () for words in sentences]
    found = tagger(sentences, kinds=("X",)).out_of_fold(spans)
    assert len(found.spans) == len(sentences)
    assert np.isfinite(found.quality).all()


def test_words_of_a_long_sentence_are_read_in_windows(tmp_path: Path) -> None:
    words = [f"word{number % 7}" for number in range(400)]
    encoder = Encoder("embedded", cache=None)
    sentences = [words, ["Ann", "", "slept"], []]
    found = word_vectors(encoder, sentences, tmp_path, None, seed=0)
    assert found.vectors.shape[0] == 403
    assert not found.of(1)[1].any()  # a word without subwords
    assert (np.abs(found.of(0)).sum(axis=1) > 0).all()
    again = word_vectors(encoder, sentences, tmp_path, None, seed=0)
    assert np.array_equal(found.vectors, again.vectors)
    assert list((tmp_path / "word_vectors").glob("*.npz"))
    others = found.of_others(encoder, [["Ann", "", "slept"]])
    assert np.allclose(others.of(0), found.of(1), atol=2e-2)


def test_tags_of_decoded_spans_are_legal(
    learned: tuple[list[tuple[Span, ...]], set[int], Tagged],
) -> None:
    for spans in learned[2].spans:
        assert spans == tuple(sorted(spans))
        assert spans_of(tags_of(spans, 9, "bio")) == spans


def test_a_fine_tuned_encoder_joins() -> None:
    sentences, spans = corpus(24)
    section = ModelSection(folds=2, finetune=True, epochs=1)
    both = WordTagger(section, sentences, np.arange(24), KINDS, seed=0, cache=None)
    found, plain = both.out_of_fold(spans), tagger(sentences).out_of_fold(spans)
    assert both.finetunes
    assert not tagger(sentences).finetunes
    assert found.prob.tolist() != plain.prob.tolist()
    assert np.isfinite(found.quality).all()
    assert len(both.predict(spans, [["Ann", "likes", "Oslo"]]).spans) == 1
