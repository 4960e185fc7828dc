"""Every format in: what is read, and what is refused with all its problems in one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_relabel.data import Dataset, read_dataset
from llm_relabel.errors import DataError
from llm_relabel.job import DataSection

ROWS = [
    {"id": "a", "text": "one", "label": "x", "doc": "d1", "sure": True},
    {"id": "b", "text": 'two, "quoted"\nlines', "label": None, "doc": "d1", "sure": None},
    {"id": "c", "text": "ünï", "label": "y", "doc": "d2", "sure": False},
]


def read(path: Path, **keys: Any) -> Dataset:
    section = DataSection(**{"path": str(path), "text": "text", "label": "label", **keys})
    return read_dataset(section, lambda p: Path(p).resolve())


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(folder: Path, kind: str) -> Path:
    path = folder / f"d.{kind}"
    table = pa.Table.from_pylist(ROWS)
    if kind == "jsonl":
        return jsonl(path, ROWS)
    if kind == "json":
        path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    elif kind in ("csv", "tsv"):
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        import datasets

        path = folder / "saved"
        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    return path


KINDS = ("jsonl", "json", "csv", "tsv", "parquet", "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_reads_the_same(tmp_path: Path, kind: str) -> None:
    data = read(write(tmp_path, kind), id="id", group="doc", locked="sure", context=["doc"])
    assert data.ids.to_pylist() == ["a", "b", "c"]
    assert data.text.to_pylist() == [row["text"] for row in ROWS]
    assert data.labels.to_pylist() == ["x", None, "y"]
    assert data.locked.tolist() == [True, False, False]
    assert data.groups[0] == data.groups[1] != data.groups[2]
    assert data.item(2).fields == {"text": "ünï", "doc": "d2"}
    assert data.label_at(1) is None
    assert not data.multi_label


def test_several_text_columns(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"t": "head", "b": "body", "label": "x"},
                                        {"t": None, "b": 7, "label": "y"}])  # fmt: skip
    data = read(path, text=["t", "b"])
    assert data.text.to_pylist() == ["head\nbody", "7"]
    assert data.item(0).fields == {"t": "head", "b": "body"}


def test_equal_texts_and_groups_are_connected(tmp_path: Path) -> None:
    rows = [("same  Text", "g1"), ("same text", "g2"), ("other", "g2"), ("lone", None), ("x", None)]
    path = jsonl(tmp_path / "d.jsonl", [{"text": t, "label": "a", "g": g} for t, g in rows])
    groups = read(path, group="g").groups
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups.tolist())) == 3
    assert len(set(read(path).groups.tolist())) == 4


def test_ids_from_content_are_unique_and_stable(tmp_path: Path) -> None:
    rows = [{"text": t, "label": "a"} for t in ("p", "q", "p", "p")]
    first = read(jsonl(tmp_path / "d.jsonl", rows)).ids.to_pylist()
    assert len(set(first)) == 4
    assert first[2:] == [f"{first[0]}-2", f"{first[0]}-3"]
    changed = [{**row, "label": "b"} for row in rows]
    assert read(jsonl(tmp_path / "e.jsonl", changed)).ids.to_pylist() == first


def test_labels_of_other_types_become_text(tmp_path: Path) -> None:
    for values, expected in (
        ([0, 1, None], ["0", "1", None]),
        ([True, False, None], ["true", "false", None]),
        ([["x", "y", "x"], [], None], [["x", "y"], [], None]),
    ):
        rows = [{"text": f"t{n}", "label": v} for n, v in enumerate(values)]
        assert read(jsonl(tmp_path / "d.jsonl", rows)).labels.to_pylist() == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings(tmp_path: Path, encoding: str, kind: str) -> None:
    path = tmp_path / f"d.{kind}"
    text = "text,label\nhellö,x\n" if kind == "csv" else '{"text": "hellö", "label": "x"}\n'
    path.write_bytes(text.encode(encoding))
    named = {"encoding": encoding} if encoding == "utf-16-be" else {}
    assert read(path, **named).text.to_pylist() == ["hellö"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"text{delimiter}label\na b{delimiter}x\n")
    assert read(path).labels.to_pylist() == ["x"]


def test_lone_surrogates_and_blank_lines_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('\n{"text": "a\\ud800b", "label": "x"}\n\n  \n{"text": "c", "label": "y"}')
    assert read(path).text.to_pylist() == ["a\ufffdb", "c"]


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    lines = ['{"id": 1, "text": "a", "label": "x"}', '{"id": 1, "text": " ", "label": "x"}',
             '{"id": 2, "text"', "[1]", '{"id": 3, "text": ["q"], "label": {"a": 1}}',
             *['{"id": null, "text": "z", "label": "x"}'] * 7]  # fmt: skip
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        read(path, id="id", gold="glod")
    told = str(caught.value)
    for part in (
        "no column 'glod'",
        "1 line: broken JSON (line 3 (column",
        "1 line: not a JSON object (line 4 (found",
        "1 line: no text (line 2)",
        "1 line: 'text' is not text (line 5",
        "'label' holds no label",
        "7 lines: 'id' is no id (lines 6",
        "10, ...)",
        "'id' repeats an id that an earlier row has",
    ):
        assert part in told, part


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("d.jsonl", b"", "it has no rows"),
        ("d.csv", b"text,label\n", "it has no rows"),
        ("d.csv", b"text,label,label\na,x,y\n", "names a column twice: 'label'"),
        ("d.csv", b"text,label\na,x,y,z\n", "too many cells"),
        ("d.csv", b"text,lable\na,x\n", "no column 'label' (did you mean 'lable'?)"),
        ("d.csv", b"text,label\ncaf\xe9,x\n", "encoding: cp1252"),
        ("d.jsonl", b'{"text": "a", "label": ["x"]}\n{"text": "b", "label": "x"}\n', "mixes lists"),
        ("d.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n', "mixes types"),
        ("d.json", b'{"text": "a"}', "array"),
        ("d.parquet", b"nonsense", "is no parquet file"),
        ("d.txt", b"a", "of no known format"),
        ("d.jsonl.gz", b"\x1f\x8b", "of no known format"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert told in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"did you mean 'train\.jsonl'\?"):
        read(tmp_path / "trian.jsonl")


def test_a_name_that_is_on_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="neither a file or folder here nor a dataset"):
        read_dataset(
            DataSection(path="nobody/nothing", text="text", label="label"), tmp_path.joinpath
        )


def test_splits_of_a_saved_dataset(tmp_path: Path) -> None:
    import datasets

    both = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS[:1]),
                                 "test": datasets.Dataset.from_list(ROWS[1:])})  # fmt: skip
    both.save_to_disk(str(tmp_path / "saved"))
    assert len(read(tmp_path / "saved")) == 1
    assert len(read(tmp_path / "saved", split="test")) == 2
    with pytest.raises(DataError, match="has no split 'tset'"):
        read(tmp_path / "saved", split="tset")


def test_a_million_rows_would_cost_no_more_objects(tmp_path: Path) -> None:
    import gc

    counts = []
    for rows in (2_000, 40_000):
        path = jsonl(tmp_path / f"{rows}.jsonl",
                     [{"text": f"row {n}", "label": "xy"[n % 2]} for n in range(rows)])  # fmt: skip
        gc.collect()
        before = len(gc.get_objects())
        data = read(path)
        gc.collect()
        counts.append(len(gc.get_objects()) - before)
        assert len(data) == rows
    assert counts[1] < counts[0] + 500
