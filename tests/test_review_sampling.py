"""Spot-checks are drawn as said: minimums, sums, chances, nothing twice, nothing locked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_relabel as lr
from llm_relabel.review import Review, draw_sample, stratum_sizes
from llm_relabel.review.sampling import LEAST, allocate

ROWS = 400


def write_beliefs(
    run: Path, judged: Any, belief: Any, conflict: Any = None, *, number: int = 1
) -> None:
    """`round-N/beliefs.parquet` of a run, in the form that a round writes."""
    rows = len(judged)
    table = {
        "id": pa.array([f"i{row}" for row in range(rows)]),
        "judged": pa.array(np.asarray(judged, dtype=np.bool_)),
        "belief": pa.array(np.asarray(belief, dtype=np.float32)),
        "conflict": pa.array(np.zeros(rows, bool) if conflict is None else np.asarray(conflict)),
    }
    path = run / f"round-{number}" / "beliefs.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), path)


def some_beliefs(seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    judged = rng.random(ROWS) < 0.3
    belief = np.where(judged, rng.uniform(0.2, 1, ROWS), rng.uniform(0.7, 1, ROWS))
    return judged, belief, rng.random(ROWS) < 0.1


def large(folder: Path) -> toy.Work:
    """The toy job with more rows, every tenth locked, run to its end."""
    work = toy.Work(folder)
    rows = range(ROWS)
    work.write_rows(
        [
            {"id": f"i{row}", "text": toy.text(row), "label": toy.given(row),
             "gold": toy.truth(row), "closed": row % 10 == 3}
            for row in rows
        ]
    )  # fmt: skip
    probs = [[0.8 if n == toy.predicted(row) else 0.1 for n in toy.NAMES] for row in rows]
    work.write_lines(
        "predictions.jsonl", [{"id": f"i{row}", "pred_probs": probs[row]} for row in rows]
    )
    work.write_lines("recorded.jsonl", [{"id": f"i{r}", "label": toy.truth(r)} for r in rows])
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id", "gold": "gold",
            "locked": "closed"}  # fmt: skip
    lr.relabel(work.write_job(rounds=2, data=data))
    return work


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    return Review(large(tmp_path_factory.mktemp("sampling")).run_folder)


def fresh(review: Review, seed: int = 0) -> None:
    """Forget what was drawn; `seed` is the job's."""
    shutil.rmtree(review.folder.path, ignore_errors=True)
    review.job = review.job.model_copy(update={"seed": seed})


strata = st.lists(
    st.tuples(st.integers(0, 300), st.floats(0, 1), st.integers(0, 300)), min_size=4, max_size=4
)


@given(strata, st.integers(1, 400))
def test_allocation_sums_up_and_keeps_its_bounds(
    found: list[tuple[int, float, int]], more: int
) -> None:
    sizes = [size for size, _, _ in found]
    drawn = [min(before, size) for size, _, before in found]
    least = sum(max(0, min(LEAST, size) - n) for size, n in zip(sizes, drawn, strict=True))
    beliefs = [belief for _, belief, _ in found]
    if min(more, sum(sizes) - sum(drawn)) < least:
        with pytest.raises(ValueError, match=str(least)):
            allocate(sizes, beliefs, drawn, more)
        return
    new = allocate(sizes, beliefs, drawn, more)
    assert new.sum() == min(more, sum(sizes) - sum(drawn))
    for size, before, added in zip(sizes, drawn, new.tolist(), strict=True):
        assert added >= 0
        assert min(LEAST, size) <= before + added <= size


@given(strata, st.integers(20, 400))
def test_no_exchange_of_two_makes_the_estimate_sharper(
    found: list[tuple[int, float, int]], more: int
) -> None:
    """Neyman's is the smallest variance of the accuracy; rounding may cost less than a row."""
    sizes = np.array([size for size, _, _ in found])
    p = np.clip([belief for _, belief, _ in found], 0.05, 0.95)
    new = allocate(sizes, p, [0] * 4, more)

    def variance(n: Any) -> float:
        full = sizes > 0
        return float((sizes[full] ** 2 * (p * (1 - p))[full] / n[full]).sum())

    best = variance(new)
    for one in range(4):
        for other in range(4):
            moved = new.copy()
            moved[one] -= 2
            moved[other] += 2
            fits = moved[one] >= min(LEAST, sizes[one]) and moved[other] <= sizes[other]
            if one != other and fits:
                assert variance(moved) >= best * (1 - 1e-9)


def test_doubtful_strata_get_more_than_their_share() -> None:
    new = allocate([400, 400, 400, 400], [1.0, 0.5, 1.0, 0.5], [0, 0, 0, 0], 140)
    # sqrt(.05 x .95) to sqrt(.5 x .5), about 0.436: 140 falls into 21, 49, 21, 49
    assert new.tolist() == [21, 49, 21, 49]


@settings(max_examples=25)
@given(
    beliefs=st.integers(0, 10_000),
    draws=st.lists(st.tuples(st.integers(16, 120), st.integers(0, 20)), min_size=1, max_size=3),
)
def test_draws_ask_nothing_twice_and_know_their_chances(
    review: Review, beliefs: int, draws: list[tuple[int, int]]
) -> None:
    judged, belief, conflict = some_beliefs(beliefs)
    write_beliefs(review.run.path, judged, belief, conflict, number=2)
    fresh(review)
    for size, effort in draws:
        before = review.folder.asked()
        told = draw_sample(review, size, effort)
        asked = review.folder.asked()
        drawn = {item.id: item for item in asked.values() if item.purpose == "sample"}
        earlier = {i for i, item in before.items() if item.purpose == "sample"}
        assert len(drawn) == len(earlier) + told.sample == len(earlier | drawn.keys())
        assert told.attention == len(asked.keys() - before.keys() - drawn.keys())
        assert set(before) <= set(asked)
    rows = {item: int(item[1:]) for item in asked}
    assert not any(row % 10 == 3 for row in rows.values())  # locked
    for name in ("judged-sure", "judged-doubtful", "unjudged-sure", "unjudged-doubtful"):
        members = {
            row for row in range(ROWS)
            if row % 10 != 3 and judged[row] == name.startswith("judged")
            and (np.float32(belief[row]) >= 0.9) == name.endswith("sure")
        }  # fmt: skip
        assert stratum_sizes(review.run)[2][name] == len(members)
        mine = [item for item in drawn.values() if item.stratum == name]
        assert {rows[item.id] for item in mine} <= members
        assert len(mine) >= min(LEAST, len(members))
        for item in mine:
            assert item.inclusion_probability == pytest.approx(len(mine) / len(members))
    others = [item for item in asked.values() if item.purpose == "attention"]
    assert all(conflict[rows[item.id]] and item.inclusion_probability is None for item in others)
    weight = sum(1 / item.inclusion_probability for item in drawn.values())
    assert weight == pytest.approx(ROWS * 0.9)  # each drawn row stands for those like it


def test_attention_is_the_worst_first_and_up_to_the_effort(review: Review) -> None:
    judged, belief, conflict = some_beliefs(1)
    write_beliefs(review.run.path, judged, belief, conflict, number=2)
    fresh(review)
    draw_sample(review, 0, 7)
    open_rows = [row for row in range(ROWS) if conflict[row] and row % 10 != 3]
    worst = sorted(open_rows, key=lambda row: belief[row])
    assert list(review.folder.asked()) == [f"i{row}" for row in worst[:7]]
    draw_sample(review, 0, 5)
    assert list(review.folder.asked()) == [f"i{row}" for row in worst[:12]]
    # The draw is over all rows: one that had attention may be drawn, and counts from then on.
    draw_sample(review, 300)
    lines = review.folder.asked_path.read_text().splitlines()
    purposes: dict[str, list[str]] = {}
    for line in map(json.loads, lines):
        purposes.setdefault(line["id"], []).append(line["purpose"])
    assert ["attention", "sample"] in purposes.values()
    assert set(map(tuple, purposes.values())) <= {
        ("attention",), ("sample",), ("attention", "sample")
    }  # fmt: skip


def test_the_seed_decides_and_only_the_seed(review: Review) -> None:
    write_beliefs(review.run.path, *some_beliefs(2), number=2)
    found = []
    for seed in (5, 5, 6, -1):
        fresh(review, seed)
        draw_sample(review, 40)
        found.append(list(review.folder.asked()))
    assert found[0] == found[1]
    assert len({tuple(each) for each in found}) == 3


def test_answers_do_not_move_items_between_strata(review: Review) -> None:
    """A decision anew changes the beliefs of a round; its strata stay as first drawn from."""
    write_beliefs(review.run.path, *some_beliefs(3), number=2)
    fresh(review)
    draw_sample(review, 40)
    before = {i: item.stratum for i, item in review.folder.asked().items()}
    judged, belief, _ = some_beliefs(3)
    belief[[int(i[1:]) for i in before]] = 1.0
    write_beliefs(review.run.path, judged, belief, number=2)
    draw_sample(review, 40)
    asked = review.folder.asked()
    assert {i: asked[i].stratum for i in before} == before
    assert sum(1 / a.inclusion_probability for a in asked.values()) == pytest.approx(360)


def test_two_rounds_estimate_without_bias(review: Review) -> None:
    """Over 150 seeds: the chances of a sample drawn in two rounds weigh it to the right total."""
    rng = np.random.default_rng(7)
    right = np.array([rng.random() < (0.95 if row % 2 else 0.6) for row in range(ROWS)])
    judged, belief, _ = some_beliefs(4)
    belief = np.where(right, np.clip(belief + 0.1, 0, 1), belief)
    later = np.clip(belief + rng.normal(0, 0.1, ROWS), 0.05, 1)
    frame = np.array([row % 10 != 3 for row in range(ROWS)])
    second = review.run.path / "round-2" / "beliefs.parquet"
    errors = []
    for seed in range(150):
        fresh(review, seed)
        second.unlink(missing_ok=True)
        write_beliefs(review.run.path, judged, belief, number=1)
        draw_sample(review, 40)
        write_beliefs(review.run.path, rng.random(ROWS) < 0.5, later, number=2)
        draw_sample(review, 40)
        asked = review.folder.asked().values()
        assert {item.round for item in asked} == {1, 2}
        total = sum(right[int(item.id[1:])] / item.inclusion_probability for item in asked)
        errors.append(total - right[frame].sum())
    spread = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 4 * spread
    assert spread < 2  # of 360: a wild weight would hide a bias


def test_too_few_too_many_and_too_early(review: Review) -> None:
    write_beliefs(review.run.path, *some_beliefs(5), number=2)
    fresh(review)
    with pytest.raises(lr.JobError, match="a sample of 10 is too few: 16 are needed"):
        draw_sample(review, 10)
    assert review.folder.asked() == {}
    told = draw_sample(review, 1000)
    assert told.sample == 360
    assert told.left == 0
    assert "Every row that can change is drawn" in told.told()
    assert draw_sample(review, 5).sample == 0
    for number in (1, 2):
        (review.run.path / f"round-{number}" / "beliefs.parquet").unlink(missing_ok=True)
    with pytest.raises(lr.RunError, match=r"has no beliefs.parquet yet; run the job"):
        draw_sample(review, 40)
    write_beliefs(review.run.path, [True], [0.5], number=2)
    with pytest.raises(lr.RunError, match="does not hold the ids of the data"):
        draw_sample(review, 40)
