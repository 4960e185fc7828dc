"""Fusing given labels, small model and judges: against simulated truth, and in whole runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import LoopbackServer, Received
from numpy.typing import NDArray

import llm_relabel as lr
from llm_relabel.fusion import Source, fuse

Codes = NDArray[np.int32]


class World:
    """Items with a known truth, and sources that are right in a known share."""

    def __init__(self, rows: int, classes: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows, self.classes = rows, classes
        self.truth = self.rng.integers(0, classes, rows).astype(np.int32)

    def said(self, right: float, spoken: float = 1.0) -> Codes:
        wrong = (self.truth + self.rng.integers(1, self.classes, self.rows)) % self.classes
        codes = np.where(self.rng.random(self.rows) < right, self.truth, wrong)
        codes[self.rng.random(self.rows) >= spoken] = -1
        return codes.astype(np.int32)

    def model(self, right: float, belief: float) -> NDArray[np.float32]:
        """A model that is right in a share `right`, whatever `belief` it states."""
        probs = np.full((self.rows, self.classes), (1 - belief) / (self.classes - 1), np.float32)
        probs[np.arange(self.rows), self.said(right)] = belief
        return probs


def test_how_right_each_source_is_is_found_without_any_truth() -> None:
    world = World(6000, 4)
    sources = [Source("given", world.said(0.7)), Source("judge", world.said(0.85, 0.5))]
    fused = fuse(sources, world.model(0.8, 0.5))
    assert fused.accuracy["given"] == pytest.approx(0.7, abs=0.02)
    assert fused.accuracy["judge"] == pytest.approx(0.85, abs=0.02)
    right = (fused.posterior.argmax(1) == world.truth).mean()
    best = max((source.codes == world.truth).mean() for source in sources)
    assert right > best + 0.1
    # It said .5 where it is right in .8, and is read so.
    assert fused.model_weight > 1.5


def test_a_bad_judge_is_not_followed() -> None:
    """Replacing would leave 30%; the labels must not get worse than they came."""
    world = World(5000, 5, seed=1)
    sources = [Source("given", world.said(0.8)), Source("judge", world.said(0.3))]
    fused = fuse(sources, world.model(0.85, 0.4))
    assert (fused.posterior.argmax(1) == world.truth).mean() > 0.81
    assert fused.accuracy["judge"] < 0.4


def test_a_class_that_is_often_mistaken_is_learned_as_such() -> None:
    """The judge calls half of class 0 class 1; its "1" then says little, its "0" much."""
    world = World(6000, 3, seed=2)
    judge = world.said(0.95)
    swapped = (world.truth == 0) & (world.rng.random(world.rows) < 0.5)
    judge[swapped] = 1
    fused = fuse([Source("given", world.said(0.75)), Source("judge", judge)], world.model(0.8, 0.8))
    confusion = fused.confusion["judge"]
    assert confusion[0, 1] == pytest.approx(0.5, abs=0.06)
    assert confusion[1, 1] > 0.85


def test_a_persons_label_is_final_and_teaches() -> None:
    world = World(400, 3, seed=3)
    known = np.full(world.rows, -1, dtype=np.int32)
    known[:100] = (world.truth[:100] + 1) % 3
    fused = fuse([Source("given", world.said(0.9))], world.model(0.9, 0.9), known=known)
    assert (fused.posterior[:100].argmax(1) == known[:100]).all()
    assert fused.posterior[:100].max(1) == pytest.approx(1.0)


@given(
    st.integers(2, 6), st.integers(1, 40), st.integers(0, 3), st.integers(0, 2**31),
    st.floats(0.0, 1.0),
)  # fmt: skip
@settings(max_examples=80)
def test_any_input_gives_distributions(
    classes: int, rows: int, judges: int, seed: int, spoken: float
) -> None:
    world = World(rows, classes, seed)
    probs = world.rng.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
    sources = [Source(f"s{n}", world.said(0.5, spoken)) for n in range(judges + 1)]
    posterior = fuse(sources, probs).posterior
    assert posterior.shape == (rows, classes)
    assert np.isfinite(posterior).all()
    assert posterior.sum(1) == pytest.approx(1.0, abs=1e-4)
    again = fuse(sources, probs).posterior
    assert np.array_equal(posterior, again)


# In runs


def test_fuse_mends_what_two_sources_see(work: toy.Work) -> None:
    work.write_job(decide={"policy": "fuse"})
    run = lr.relabel(work.job)
    assert run.summary["gold"]["labels_after"] > run.summary["gold"]["labels_before"]
    assert run.summary["policy"] == "fuse"
    lines = work.lines("round-1/decisions.jsonl")
    assert {line["source"] for line in lines} == {"fused"}
    assert all("all evidence together" in line["why"] for line in lines)
    sources = run.summary["rounds"][0]["sources"]
    assert set(sources["accuracy_believed"]) == {
        "given labels",
        "recorded/recorded.jsonl, referenced",
    }
    table = pq.read_table(work.run_folder / "round-1" / "beliefs.parquet")
    assert table.column_names == ["id", "judged", "belief", "conflict"]
    judged = {line["id"] for line in work.lines("round-1/asks.jsonl")}
    told = dict(zip(table["id"].to_pylist(), table["judged"].to_pylist(), strict=True))
    assert {item_id for item_id, was in told.items() if was} == judged


def test_a_labeled_row_that_no_judge_saw_keeps_its_label(work: toy.Work) -> None:
    work.write_job(decide={"policy": "fuse"}, detect={"budget": 3})
    lr.relabel(work.job)
    asked = {line["id"] for line in work.lines("round-1/asks.jsonl")}
    assert len(asked) == 3
    assert {change["id"] for change in lr.Run(work.run_folder).changes()} <= asked


def test_a_row_without_a_label_gets_one_from_the_evidence(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    rows[4]["label"] = None
    work.write_rows(rows)
    recorded = [{"id": row["id"], "label": row["gold"]} for row in rows if row["id"] != "i4"]
    work.write_lines("recorded.jsonl", recorded)
    work.write_job(decide={"policy": "fuse"})
    lr.relabel(work.job)
    assert work.labels()[4] == toy.predicted(4)


def test_a_judge_that_was_heard_is_not_asked_again(work: toy.Work) -> None:
    def keeps(received: Received) -> dict[str, Any]:
        first = received.user.split("\n- ")[1].split("\n")[0]
        return {"rationale": "r", "label": first, "confidence": 0.7}

    with LoopbackServer(answer=keeps) as server:
        work.llm(server.openai_url)
        summary = lr.relabel(work.job).summary
    asked = [line["id"] for round_ in (1, 2) for line in work.lines(f"round-{round_}/asks.jsonl")]
    assert len(asked) == len(set(asked)) == summary["calls"]


def test_contradicting_sources_are_told(work: toy.Work) -> None:
    """A judge that mostly says a third thing: nobody can tell who is wrong, and that is said."""
    rows = [
        {"id": f"i{row}", "text": toy.text(row), "label": toy.truth(row)} for row in range(toy.ROWS)
    ]
    work.write_rows(rows)
    names = list(toy.NAMES)

    def third(row: int) -> str:
        return next(n for n in names if n not in (toy.truth(row), flipped(row)))

    def flipped(row: int) -> str:
        return names[(names.index(toy.truth(row)) + 1) % 3]

    work.write_lines(
        "predictions.jsonl",
        [{"id": f"i{row}", "pred_probs": [0.8 if n == flipped(row) else 0.1 for n in names]}
         for row in range(toy.ROWS)],
    )  # fmt: skip
    work.write_lines(
        "recorded.jsonl", [{"id": f"i{row}", "label": third(row)} for row in range(toy.ROWS)]
    )
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    work.write_job(data=data, decide={"policy": "fuse"})
    doubts = lr.relabel(work.job).summary["rounds"][0]["sources"]["doubts"]
    assert any("nothing tells which" in doubt for doubt in doubts)
    assert any("hardly knows these labels" in doubt for doubt in doubts)
