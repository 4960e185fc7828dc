"""Columns inside other columns, text pairs and all splits: read, written back, refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from data_files import jsonl, read, refused
from hypothesis import given
from hypothesis import strategies as st

import llm_relabel as lr
from llm_relabel.data.json_cells import replace_value

KINDS = ("jsonl", "json", "parquet", "folder")
ROWS = [
    {"meta": {"id": "a", "n": 1}, "payload": {"body": "one", "tags": ["p"]},
     "note": {"label": "x"}},
    {"meta": {"id": "b", "n": 2}, "payload": {"body": 'two "q"', "tags": []}, "note": None},
    {"meta": {"id": "c", "n": 3}, "payload": {"body": "ünï", "tags": None}, "note": {"label": "y"}},
]  # fmt: skip
KEYS = {"text": "payload.body", "label": "note.label", "id": "meta.id"}


def made(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    if kind == "jsonl":
        return jsonl(folder / "d.jsonl", rows)
    if kind == "json":
        (folder / "d.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
        return folder / "d.json"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "d.parquet")
        return folder / "d.parquet"
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".json":
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return found
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    import datasets

    return list(datasets.load_from_disk(str(path)).to_list())


@pytest.mark.parametrize("kind", KINDS)
def test_inner_columns_are_read_and_only_they_are_written(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind, ROWS)
    data = read(path, **KEYS)
    assert data.ids.to_pylist() == ["a", "b", "c"]
    assert data.text.to_pylist() == ["one", 'two "q"', "ünï"]
    assert data.labels.to_pylist() == ["x", None, "y"]
    assert data.item(0).fields == {"payload.body": "one"}
    out = data.write(tmp_path, "out", {1: "z", 2: "x"})
    assert [(row["note"] or {}).get("label") for row in rows_of(out)] == ["x", "z", "x"]
    for before, after in zip(rows_of(path), rows_of(out), strict=True):
        assert {**before, "note": 0} == {**after, "note": 0}
    if kind == "jsonl":
        old, new = (p.read_bytes().splitlines() for p in (path, out))
        assert new[0] == old[0]
        assert new[2] == old[2].replace(b'"label": "y"', b'"label": "x"')
    if kind == "parquet":
        assert pq.read_schema(out) == pq.read_schema(path)


def test_a_column_whose_name_has_dots_comes_first(tmp_path: Path) -> None:
    rows = [{"a.b": "literal", "a": {"b": "inner"}, "label": "x"}]
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        assert read(made(folder, kind, rows), text="a.b").text.to_pylist() == ["literal"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_leads_nowhere_is_told(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind, ROWS)
    told = refused(path, **{**KEYS, "text": "payload.bdy"})
    assert "no column 'payload.bdy'" in told
    assert "did you mean 'payload.body'" in told
    assert "goes through a list" in refused(path, **{**KEYS, "text": "payload.tags.first"})
    if kind in ("jsonl", "json"):
        assert "such as payload.body" in refused(path, **{**KEYS, "text": "payload"})


INNER = st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.none(), max_size=3)


@given(INNER, INNER, st.text(max_size=5), st.sampled_from([None, 2]))
def test_a_value_at_the_end_of_a_path_is_replaced_and_nothing_else(
    outer: dict[str, Any], inner: dict[str, Any], value: str, indent: int | None
) -> None:
    row = {**outer, "o": {**inner, "keep": [1, {"label": 3}]}, "z": 1}
    text = json.dumps(row, indent=indent)
    found = json.loads(replace_value(text, ["o", "label"], value, lambda _: True))
    assert found == {**row, "o": {**row["o"], "label": value}}
    missing = json.loads(replace_value(text, ["new", "a", "b"], value, lambda _: True))
    assert missing == {**row, "new": {"a": {"b": value}}}


@pytest.mark.parametrize("kind", [*KINDS, "csv", "tsv"])
def test_text_pairs_in_every_format(tmp_path: Path, kind: str) -> None:
    rows = [{"premise": "it rains", "hypothesis": "it is wet", "label": "yes"},
            {"premise": "", "hypothesis": "alone", "label": "no"}]  # fmt: skip
    if kind in ("csv", "tsv"):
        mark = "\t" if kind == "tsv" else ","
        path = tmp_path / f"d.{kind}"
        cells = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("".join(mark.join(row) + "\n" for row in cells))
    else:
        path = made(tmp_path, kind, rows)
    data = read(path, text=["premise", "hypothesis"])
    assert data.text.to_pylist() == ["it rains\nit is wet", "alone"]
    assert data.item(0).fields == {"premise": "it rains", "hypothesis": "it is wet"}


def test_of_a_saved_dict_all_splits_come_back(work: toy.Work) -> None:
    import datasets

    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    splits = {"train": rows, "test": rows[:7], "dev": rows[3:9]}
    saved = datasets.DatasetDict({n: datasets.Dataset.from_list(r) for n, r in splits.items()})
    saved.save_to_disk(str(work.folder / "saved"))
    data = {"path": "saved", "text": "text", "label": "label", "id": "id", "gold": "gold"}
    work.write_job(data=data)
    run = lr.relabel(work.job)
    found = datasets.load_from_disk(str(run.dataset_path()))
    assert list(found) == list(saved)
    for split in ("test", "dev"):
        assert found[split].to_list() == splits[split]
    changed = {line["id"] for line in run.changes()}
    assert changed
    for before, after in zip(rows, found["train"].to_list(), strict=True):
        assert (before["label"] != after["label"]) == (before["id"] in changed)
    assert run.dataset().ids.to_pylist() == [row["id"] for row in rows]
    run.rollback(everything=True)
    assert datasets.load_from_disk(str(run.dataset_path()))["train"].to_list() == rows


def test_a_run_over_inner_columns(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    work.write_rows([
        {"id": r["id"], "payload": {"body": r["text"]}, "note": {"label": r["label"]}}
        for r in rows
    ])  # fmt: skip
    before = work.data.read_bytes()
    data = {"path": "data.jsonl", "text": "payload.body", "label": "note.label", "id": "id"}
    work.write_job(data=data)
    run = lr.relabel(work.job)
    after = [json.loads(line) for line in run.dataset_path().read_text().splitlines()]
    right = [row["note"]["label"] == toy.truth(n) for n, row in enumerate(after)]
    assert sum(right) > sum(row["label"] == toy.truth(n) for n, row in enumerate(rows))
    run.rollback(everything=True)
    assert run.dataset_path().read_bytes() == before
