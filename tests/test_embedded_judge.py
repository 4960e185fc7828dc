"""The embedded judge on synthetic clusters: who may vote, when it abstains, what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from vote_clusters import DIMENSIONS, NAMES, clusters, make, unit

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.judge.without_llm.embedded import EmbeddedJudge, Settings
from llm_relabel.judge.without_llm.neighbours import TrustedPool
from llm_relabel.records import Ask, Item
from llm_relabel.tasks.classification import Classification
from llm_relabel.units import column


def test_wrong_labels_are_put_right() -> None:
    embeddings, truth = clusters()
    labels = truth.copy()
    wrong = np.array([0, 7, 31, 65])
    labels[wrong] = (truth[wrong] + 1) % 3
    trusted = np.ones(len(truth), dtype=np.bool_)
    trusted[wrong] = False
    found = make(embeddings, labels, trusted).answer_many(wrong)
    assert [answer.label for answer in found] == [NAMES[one] for one in truth[wrong]]
    assert all(0.9 < answer.confidence <= 1 for answer in found)
    assert found[0].rationale == (
        "20 of the 20 nearest trusted items are 'cats'; "
        "the definition of 'cats' is the nearest of 3"
    )


def test_one_at_a_time_and_in_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, truth = clusters()
    vote = make(embeddings, truth)
    together = vote.answer_many(range(len(truth)))
    assert [vote.answer(row) for row in range(len(truth))] == together
    monkeypatch.setattr("llm_relabel.judge.without_llm.neighbours._CELLS", 7 * len(truth))
    assert vote.answer_many(range(len(truth))) == together
    assert vote.answer_many([]) == []


def test_abstains_between_clusters() -> None:
    # The same scatter round each axis, so that a point half-way sees both sides alike.
    rng = np.random.default_rng(0)
    scatter = np.zeros((30, DIMENSIONS))
    scatter[:, 3:] = 0.1 * rng.standard_normal((30, DIMENSIONS - 3))
    embeddings = unit(np.vstack([axis + scatter for axis in np.eye(3, DIMENSIONS)]))
    truth = np.repeat(np.arange(3), 30)
    between = unit(np.eye(DIMENSIONS)[0] + np.eye(DIMENSIONS)[1])
    embeddings = np.vstack([embeddings, between])
    trusted = np.ones(len(embeddings), dtype=np.bool_)
    trusted[-1] = False
    vote = make(embeddings, np.append(truth, 2), trusted)
    found = vote.answer(len(truth))
    assert found.label is None
    assert found.confidence < Settings().answer_above
    assert found.rationale.startswith("too unsure to call: ")


def test_abstains_without_trusted_neighbours() -> None:
    embeddings, truth = clusters()
    nobody = np.zeros(len(truth), dtype=np.bool_)
    found = make(embeddings, truth, nobody).answer(3)
    assert (found.label, found.confidence) == (None, 0.0)
    assert found.rationale == "there is no trusted item to compare with"
    far = np.vstack([embeddings, np.eye(DIMENSIONS, dtype=np.float32)[9]])
    trusted = np.append(~nobody, False)
    lonely = make(far, np.append(truth, 0), trusted).answer(len(truth))
    assert lonely.label is None
    assert lonely.rationale == "no trusted item is similar enough to compare with"


def test_own_group_has_no_vote() -> None:
    embeddings, truth = clusters(per_class=25)
    # Row 0 is a cat, and forty copies of it are called dogs; they are its own group.
    embeddings = np.vstack([embeddings, np.repeat(embeddings[:1], 40, axis=0)])
    classes = np.append(truth, np.ones(40, dtype=np.int64))
    groups = np.append(np.arange(75), np.zeros(40)).astype(np.int64)
    trusted = np.arange(len(classes)) != 0
    alike = [np.eye(DIMENSIONS, dtype=np.float32)[9:10]] * 3
    for own, label in ((groups, "cats"), (np.arange(len(classes)), "dogs")):
        vote = make(embeddings, classes, trusted, groups=own, definition_vectors=alike)
        assert vote.answer(0).label == label


def test_a_row_in_the_largest_group_alone_abstains() -> None:
    embeddings, truth = clusters()
    groups = np.zeros(len(truth), dtype=np.int64)
    assert make(embeddings, truth, groups=groups).answer(0).label is None


def test_untrusted_rows_and_their_labels_do_not_matter() -> None:
    embeddings, truth = clusters()
    trusted = np.arange(len(truth)) % 3 != 0
    asked = np.flatnonzero(~trusted)
    shuffled = truth.copy()
    shuffled[~trusted] = np.roll(truth[~trusted], 11)
    before = make(embeddings, truth, trusted).answer_many(asked)
    assert make(embeddings, shuffled, trusted).answer_many(asked) == before


def test_a_trusted_row_without_a_label_does_not_vote() -> None:
    embeddings, truth = clusters()
    labels = np.eye(3, dtype=np.bool_)[truth]
    labels[truth == 0] = False
    found = make(embeddings, truth, labels=labels, settings=Settings(floor=-1)).answer(0)
    # Only dogs and ships are left to vote; the definition alone speaks for cats.
    assert "0 of the 20 nearest trusted items are 'cats'" in found.rationale


def test_ties_go_to_the_lower_row() -> None:
    copies = np.repeat(np.eye(1, DIMENSIONS, dtype=np.float32), 50, axis=0)
    rows = np.arange(50)
    pool = TrustedPool(copies, rows[1:], rows, classes=None, limit=1000)
    cosines, found = pool.nearest(copies[:1], rows[:1], 5)
    assert pool.rows[found].tolist() == [[1, 2, 3, 4, 5]]
    assert (cosines == 1).all()


def test_definitions_decide_where_votes_are_even() -> None:
    point = unit(np.eye(DIMENSIONS)[5])
    embeddings = np.repeat(point[None], 11, axis=0)
    classes = np.array([0] * 5 + [1] * 5 + [2])
    trusted = np.arange(11) < 10
    toward = np.array([0.1, 0.9, 0.0], dtype=np.float32)
    vectors = [np.eye(DIMENSIONS, dtype=np.float32)[[5]] * one for one in toward]
    # What all trusted rows are equally near to tells nothing: such nearness is taken off.
    assert make(embeddings, classes, trusted, definition_vectors=vectors).answer(10).label is None
    others = unit(np.eye(DIMENSIONS)[6:7] + 0.5 * point)
    embeddings = np.vstack([embeddings, np.repeat(others, 40, axis=0)]).astype(np.float32)
    classes = np.append(classes, np.repeat([0, 1], 20))
    trusted = np.append(trusted, np.ones(40, dtype=np.bool_))
    vote = make(embeddings, classes, trusted, definition_vectors=vectors)
    assert vote.answer(10).label == "dogs"


def test_a_large_class_does_not_win_by_size() -> None:
    embeddings, truth = clusters(per_class=60, noise=0.25)
    few = (truth != 1) | (np.arange(len(truth)) % 10 == 0)
    dogs = np.flatnonzero((truth == 1) & ~few)
    corrected = make(embeddings, truth, few).answer_many(dogs)
    plain = Settings(size_correction=0.0)
    uncorrected = make(embeddings, truth, few, settings=plain).answer_many(dogs)
    assert np.mean([one.label == "dogs" for one in corrected]) > 0.8
    assert sum(one.label == "dogs" for one in corrected) >= sum(
        one.label == "dogs" for one in uncorrected
    )


def test_multi_label() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((300, 3)) < 0.5
    points = labels @ np.eye(3, DIMENSIONS) + 0.3 * np.eye(DIMENSIONS)[8]
    embeddings = unit(points + 0.03 * rng.standard_normal(points.shape))
    trusted = np.arange(300) >= 40
    given = labels.copy()
    given[:40] = ~labels[:40]
    vote = make(embeddings, np.zeros(300, dtype=np.int64), trusted, labels=given, exclusive=False)
    found = vote.answer_many(range(40))
    assert [answer.label for answer in found] == [
        tuple(name for name, there in zip(NAMES, row, strict=True) if there) for row in labels[:40]
    ]
    assert () in [answer.label for answer in found], "no label at all is an answer too"


def test_multi_label_abstains_when_one_class_is_open() -> None:
    embeddings = np.repeat(np.eye(1, DIMENSIONS, dtype=np.float32), 41, axis=0)
    labels = np.zeros((41, 3), dtype=np.bool_)
    labels[:, 0] = True
    labels[::2, 1] = True
    vote = make(
        embeddings, np.zeros(41, dtype=np.int64), np.arange(41) < 40, labels=labels, exclusive=False
    )
    found = vote.answer(40)
    assert found.label is None
    assert "10 of the 20 nearest trusted items have 'dogs'" in found.rationale


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_pool_over_the_limit_is_thinned_and_small_classes_stay(exclusive: bool) -> None:
    rng = np.random.default_rng(2)
    classes = rng.permutation(np.repeat([0, 1, 2], [5000, 900, 20]))
    rows = np.arange(len(classes))
    vectors = unit(rng.standard_normal((len(classes), 4)))
    pool = TrustedPool(vectors, rows, rows, classes=classes if exclusive else None, limit=1000)
    kept = np.bincount(classes[pool.rows], minlength=3)
    assert kept.sum() == 1000
    assert (kept.tolist() == [490, 490, 20]) is exclusive
    assert len(set(pool.rows.tolist())) == 1000


def test_shapes_that_do_not_fit_are_refused() -> None:
    embeddings, truth = clusters()
    with pytest.raises(ValueError, match="the same rows"):
        make(embeddings[:-1], truth)
    with pytest.raises(ValueError, match="at least one definition vector"):
        make(embeddings, truth, definition_vectors=[embeddings[:1], embeddings[:0], embeddings[:1]])


def test_the_judge_gives_verdicts_from_a_rounds_evidence() -> None:
    embeddings, truth = clusters()
    definitions = LabelDefinitions.model_validate(
        {"labels": {name: {"definition": f"About {name}."} for name in NAMES}}
    )
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> np.ndarray:
        asked.extend(texts)
        return np.eye(len(texts), DIMENSIONS, dtype=np.float32)

    labels = column(NAMES[code] for code in truth.tolist())
    labels[[0, 1]] = NAMES[1]
    vectors = np.vstack([embeddings[:1], -embeddings[:1], embeddings[2:]])
    trusted = np.arange(len(truth)) > 1
    evidence = RoundEvidence(
        model=mock.Mock(embeddings=vectors, encode=embed),
        labels=labels,
        trusted=trusted,
        groups=np.arange(len(truth)),
    )
    asks = [Ask(f"a{row}", f"i{row}", row, "label", "blind", (), "embedded") for row in (0, 1)]
    judge = EmbeddedJudge(Classification(definitions, pa.string()), definitions)
    for _ in range(2):
        judge.begin_round(evidence, asks)
    assert asked == ["cats: About cats.", "dogs: About dogs.", "ships: About ships."]
    right, none = (
        asyncio.run(judge.verdict(ask, Item(ask.id, ask.row, {"text": "x"}))) for ask in asks
    )
    assert (right.outcome, right.answer, right.ask_id, right.id) == ("answer", "cats", "a0", "i0")
    assert "nearest trusted items are 'cats'" in right.rationale
    assert (none.outcome, none.answer, none.reason) == ("abstain", None, "unsure")
    assert judge.is_llm is False
