"""Journals survive any cut; the change log replays to the dataset, undone or not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_relabel as lr
from llm_relabel.changes import DEV, in_force, reconcile, replay, roll_back
from llm_relabel.definitions import load_definitions
from llm_relabel.journal import Journal, read_lines, write_whole
from llm_relabel.records import Change
from llm_relabel.tasks.classification import Classification

RECORDS = st.lists(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())),
    min_size=1,
)


@settings(max_examples=60)
@given(RECORDS, st.data())
def test_a_journal_cut_anywhere_keeps_every_whole_line(records: list[dict], data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        with Journal(path) as journal:
            for record in records:
                journal.append(record)
        raw = path.read_bytes()
        cut = data.draw(st.integers(0, len(raw)))
        path.write_bytes(raw[:cut])
        whole = raw[:cut].count(b"\n")
        survived = list(read_lines(path))
        assert survived[:whole] == records[:whole]
        assert len(survived) <= whole + 1  # a line that only lacks its newline is whole too
        with Journal(path) as journal:
            journal.append({"next": 1})
        assert list(read_lines(path)) == [*survived, {"next": 1}]


def test_a_file_is_replaced_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "a" / "summary.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]


NAMES = ("a", "b", "c")
TASK = Classification(load_definitions(dict.fromkeys(NAMES, "x")), pa.string())
IDS = ("i", "j", "k")
GIVEN = {"i": "a", "j": "b", "k": None}


def changes_of(round_number: int, labels: dict[str, str], before: dict) -> list[Change]:
    return [
        Change(
            item,
            "label",
            round_number,
            before[item],
            new,
            "judge",
            "w",
            ("q",),
            "m",
            None,
            "d",
            "agree",
        )
        for item, new in labels.items()
        if before[item] != new
    ]


LABELS = st.dictionaries(st.sampled_from(IDS), st.sampled_from(NAMES))


@given(st.lists(LABELS, min_size=1, max_size=4))
def test_reconciling_twice_adds_nothing_and_replay_gives_the_labels(rounds) -> None:
    log: list[dict] = []
    for _ in range(2):  # the second pass is a resumed run that decides the same
        size, labels = len(log), dict(GIVEN)
        for number, wanted in enumerate(rounds, 1):
            log += reconcile(log, number, changes_of(number, wanted, labels), "now")
            labels |= wanted
        if _:
            assert len(log) == size
    expected = {k: v for k, v in labels.items() if v != GIVEN[k]}
    assert replay(log, TASK, GIVEN.__getitem__) == expected


@given(LABELS, LABELS, LABELS)
def test_deciding_a_round_again_replaces_what_it_had_decided(first, later, other) -> None:
    log: list[dict] = []
    log += reconcile(log, 1, changes_of(1, first, GIVEN), "now")
    log += reconcile(log, 2, changes_of(2, later, {**GIVEN, **first}), "now")
    wanted = changes_of(1, other, GIVEN)
    log += reconcile(log, 1, wanted, "now")
    if {c.id: c.new for c in wanted} == {c.id: c.new for c in changes_of(1, first, GIVEN)}:
        return  # the same decision: round 2 still stands
    log += reconcile(log, 2, [], "now")
    assert replay(log, TASK, GIVEN.__getitem__) == {c.id: c.new for c in wanted}


@given(LABELS, LABELS, st.sampled_from(IDS))
def test_a_rollback_restores_and_stays(first, later, chosen) -> None:
    log: list[dict] = []
    one, two = changes_of(1, first, GIVEN), changes_of(2, later, {**GIVEN, **first})
    log += reconcile(log, 1, one, "now")
    log += reconcile(log, 2, two, "now")
    undone = roll_back(log, lambda line: line["id"] == chosen, why="w", at="now")
    log += undone
    assert chosen not in replay(log, TASK, GIVEN.__getitem__)
    assert chosen not in {line["id"] for line in in_force(log)}
    # Running again leaves the rollback in force.
    log += reconcile(log, 1, one, "now")
    log += reconcile(log, 2, two, "now")
    assert chosen not in replay(log, TASK, GIVEN.__getitem__)


@given(LABELS, LABELS)
def test_a_veto_stays_for_the_same_changes_and_is_lifted_for_others(first, other) -> None:
    one, two = changes_of(1, first, GIVEN), changes_of(1, other, GIVEN)
    log: list[dict] = []
    log += reconcile(log, 1, one, "t1")
    log += roll_back(log, lambda _line: True, why="w", at="t2", source=DEV)
    size = len(log)
    log += reconcile(log, 1, one, "t3")
    assert len(log) == size
    log += reconcile(log, 1, two, "t4")
    made = {c.id: c.new for c in two}
    same = made == {c.id: c.new for c in one}
    assert replay(log, TASK, GIVEN.__getitem__) == ({} if same else made)


def test_rollback_by_id_label_round_and_all(work: toy.Work) -> None:
    run = lr.relabel(work.job)
    given = [json.loads(line)["label"] for line in work.data.read_text().splitlines()]
    changed = {change["id"]: change for change in run.changes()}
    first = next(iter(changed))
    assert run.rollback(ids=[first]) == 1
    assert work.labels()[int(first[1:])] == changed[first]["old"]
    assert run.summary["rolled_back"] == 1
    assert run.summary["gold"]["fixed"] == len(changed) - 1
    lr.relabel(work.job)  # a rollback stays in force when the run goes on
    assert work.labels()[int(first[1:])] == changed[first]["old"]
    tools = sum("tool" in (c["old"], c["new"]) for c in run.changes())
    assert run.rollback(labels=["tool"]) == tools
    with pytest.raises(lr.RunError, match="no change in force matches"):
        run.rollback(rounds=[9])
    with pytest.raises(lr.RunError, match="nothing chosen"):
        run.rollback()
    run.rollback(everything=True)
    assert work.labels() == given
    assert (work.run_folder / "dataset.jsonl").read_bytes() == work.data.read_bytes()
