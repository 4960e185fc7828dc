"""Every format in: what is read, and what is refused with all its problems in one message."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import ROWS, jsonl, read, refused, write
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_relabel.config.job import DataSection
from llm_relabel.data import read_dataset, read_labeled
from llm_relabel.errors import DataError

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
        "1 line: 'text' is not text (line 5",
        "'label' holds no label",
        "7 lines: 'id' is empty (lines 6, 7, 8, 9, 10, ...)",
        "1 line: 'id' repeats an id that an earlier row has (without data.id, ids are made)",
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
        ("d.txt", b"a", "name it .csv or .tsv"),
        ("d.jsonl.gz", b"\x1f\x8b", "damaged or cut off"),
        ("d.csv.zst", b"text,label\n", "take '.zst' off the name"),
        ("d.csv", b"\x1f\x8b\x08\x00", "name it 'd.csv.gz'"),
        ("d.csv", b"PK\x03\x04", "name it 'd.xlsx'"),
        ("d.xls", b"\xd0\xcf\x11\xe0", "save the sheet as CSV"),
        ("d.xlsx", b"PK\x03\x04", "no Excel workbook that can be read"),
        ("d.tar.gz", b"\x1f\x8b", "name the file inside"),
        ("d.parquet.gz", b"\x1f\x8b", "unpack the .gz around it"),
        ("d.jsonl.bz2", b"BZh", "pack the one file inside with gzip (.gz)"),
        ("d.sqlite", b"SQLite format 3\x00", "df.to_parquet('d.parquet')"),
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
    read(write(tmp_path, "jsonl"))  # what is imported on the first use
    for keys in ({}, {"id": "n"}):
        counts = []
        for rows in (2_000, 40_000):
            path = jsonl(tmp_path / f"{rows}.jsonl",
                         [{"n": n, "text": f"row {n}", "label": "xy"[n % 2]}
                          for n in range(rows)])  # fmt: skip
            gc.collect()
            # Text is not known to gc; the allocator counts everything.
            before = len(gc.get_objects()), sys.getallocatedblocks()
            data = read(path, **keys)
            gc.collect()
            after = len(gc.get_objects()), sys.getallocatedblocks()
            counts.append([after[0] - before[0], after[1] - before[1]])
            assert len(data) == rows
        assert counts[1][0] < counts[0][0] + 100
        assert counts[1][1] < counts[0][1] + 1_000


def test_missing_values_of_pandas(tmp_path: Path) -> None:
    nan = float("nan")
    columns = {
        "text": ["a", "b", None],
        "more": [1.0, nan, 2.5],
        "label": [1.0, nan, 0.0],
        "doc": [nan, nan, 7.0],
        "sure": [1.0, nan, 0.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    data = read(tmp_path / "d.parquet", text=["text", "more"], group="doc", locked="sure")
    assert data.text.to_pylist() == ["a\n1.0", "b", "2.5"]
    assert data.labels.to_pylist() == ["1", None, "0"]
    assert len(set(data.groups.tolist())) == 3
    assert data.locked.tolist() == [True, False, False]
    out = read(data.write(tmp_path, "out", {1: "0"}), text=["text", "more"])
    assert out.labels.to_pylist() == ["1", "0", "0"]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.none() | st.sampled_from("12345")),
        min_size=1,
        max_size=12,
    )
)
def test_groups_are_connected_components(rows: list[tuple[str, str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = jsonl(Path(folder) / "d.jsonl", [{"text": t, "label": "x", "g": g} for t, g in rows])
        found = read(path, group="g").groups.tolist()
    expected = list(range(len(rows)))
    for _ in rows:
        for a, (text, group) in enumerate(rows):
            for b, (other, its) in enumerate(rows):
                if text == other or (group is not None and group == its):
                    expected[a] = expected[b] = min(expected[a], expected[b])
    same = [[a == b for b in found] for a in found]
    assert same == [[a == b for b in expected] for a in expected]


@pytest.mark.parametrize("word", ["TRUE", " yes ", "1"])
def test_words_that_lock(tmp_path: Path, word: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"text,label,ok\na,x,{word}\nb,y,No\nc,x,\n")
    assert read(path, locked="ok").locked.tolist() == [True, False, False]


def test_short_and_blank_lines_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("\ntext,n,label\n\na,1\n\nb\nc,2,x\n")
    data = read(path)
    assert data.labels.to_pylist() == [None, None, "x"]
    out = data.write(tmp_path, "out", {0: "y", 1: "z", 2: "w"})
    assert out.read_text() == "\ntext,n,label\n\na,1,y\n\nb,,z\nc,2,w\n"


def test_another_file_with_the_same_columns(tmp_path: Path) -> None:
    jsonl(tmp_path / "d.jsonl", ROWS)
    dev = jsonl(tmp_path / "dev.jsonl", [{"text": "a", "label": "x"}])
    section = DataSection(
        path="d.jsonl", text="text", label="label", id="id", group="doc", locked="sure"
    )
    assert read_labeled(section, dev.name, tmp_path.joinpath).labels.to_pylist() == ["x"]


def test_class_numbers_of_other_shapes(tmp_path: Path) -> None:
    feature = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    for written in ({"feature": feature, "_type": "List"}, [feature]):
        info = {"info": {"features": {"label": written, "x": {"_type": "NotYetInvented"}}}}
        table = pa.table({"text": ["a", "b", "c"], "label": [[0, 1], [], None]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, tmp_path / "d.parquet")
        table = pq.read_table(tmp_path / "d.parquet")  # parquet has its own names inside lists
        data = read(tmp_path / "d.parquet")
        assert data.labels.to_pylist() == [["neg", "pos"], [], None]
        out = pq.read_table(data.write(tmp_path, "out", {1: ("pos",)}))
        assert out["label"].to_pylist() == [[0, 1], [1], None]
        assert out.schema.equals(table.schema, check_metadata=True)


def test_keys_without_number_do_not_hide_the_label(tmp_path: Path) -> None:
    rows = [{f"k{n}": 1 for n in range(1_200)} | {"text": "a"}, {"text": "b", "label": "x"}]
    assert read(jsonl(tmp_path / "d.jsonl", rows)).labels.to_pylist() == [None, "x"]


def test_a_dataset_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(ROWS).select([2, 0])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    section = DataSection(
        path="some/name", text="text", label="label", split="test", subset="en", group="doc"
    )
    data = read_dataset(section, tmp_path.joinpath)
    assert asked == [(("some/name", "en"), {"split": "test"})]
    assert data.labels.to_pylist() == ["y", "x"]
    assert data.sha256 == read_dataset(section, tmp_path.joinpath).sha256
    out = data.write(tmp_path, "dataset", {0: "new"})
    data.write(tmp_path, "dataset", {1: "newer"})  # in place of the first
    assert datasets.load_from_disk(str(out))["label"][:] == ["y", "newer"]
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]


def test_messages_in_full(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    cannot = "the dataset 'd.csv' cannot be used"
    for content, keys, told in [
        (b"text,label\na,x\nb,\"y\nc,x\n", {}, f"{cannot}: 1 row: a cell opens with a quote "
         '" that never closes and takes the rest of the file; where quotes are plain text, set '
         "`data.quoting: none` (`init --quoting none`) (row 2 (the file ends at line 4))"),
        (b"text,label\na,x,1,2\nb,y\nc,z,3\n", {}, f"{cannot}: 2 rows: too many cells (rows "
         "1 (4 cells under 2 columns); 3 (3 cells under 2 columns))"),
        (b"text,label,ok\na,x,maybe\n", {"locked": "ok"},
         f"{cannot}: 1 row: 'ok' is neither true nor false (row 1 ('maybe'))"),
        (b"text,label\n,x\n \t,y\n", {}, f"{cannot}: no row has a text in 'text'"),
        (b"text,labl\na,x\n", {"id": "nr"}, f"{cannot}, 2 problems:\n"
         "  - no column 'label' (did you mean 'labl'?); it has text, labl\n"
         "  - no column 'nr'; it has text, labl"),
        (b"text,label\na,x\n", {"delimiter": '"'}, "data.delimiter '\"' cannot separate cells; "
         "common ones are ',', ';', '\\t', '|', and without the key the file is looked at"),
        (b"text,label\na,x\n", {"encoding": "utf8x"}, "data.encoding 'utf8x' is not a text "
         "encoding (did you mean 'utf-8'?); common ones are utf-8, utf-16, utf-16-le, utf-16-be, "
         "cp1252, latin-1, shift_jis, gb18030"),
        (b"text,label\na,x\ncaf\xe9,x\n", {}, "the dataset 'd.csv' is not readable as utf-8 "
         "(byte 0xe9 at offset 18, line 3); read as cp1252, that line is 'caf\xe9,x'; if this is "
         "right, set `data.encoding: cp1252`"),
        ("text,label\na,x\n".encode("utf-16-le"), {}, "the dataset 'd.csv' is not text in utf-8: "
         "it is full of zero bytes; if it is UTF-16 without a byte order mark, set "
         "`data.encoding: utf-16-le`"),
        ("text,label\na,x\n".encode("utf-16")[:-1], {}, "the dataset 'd.csv' is not readable as "
         "utf-16-le (the file ends in the middle of a character); if it is in another encoding, "
         "name it, for example `data.encoding: utf-8`"),
        ("\ufeff日本".encode("utf-16-le"), {"encoding": "utf-8"},
         "the dataset 'd.csv' is not readable as utf-8 (byte 0xff at offset "
         "0, line 1); if it is in another encoding, name it, for example "
         "`data.encoding: utf-16-le`"),
    ]:  # fmt: skip
        path.write_bytes(content)
        assert refused(path, **keys) == told


def test_messages_of_json_in_full(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    cannot = "the dataset 'd.json' cannot be used"
    for content, told in [
        ('[{"text": "a", "label": "x"},\n {"text" 1}]', f"{cannot}: broken JSON at line 2, column "
         "10 (after 1 rows): Expecting ':' delimiter"),
        ("[1, null]", f"{cannot}: 2 rows: not a JSON object (rows 1 (found 1); 2 (found None))"),
        ('{"text": "a"}', "the dataset 'd.json' must be an array of objects, [{...}, {...}], and "
         "it begins with an object; if it holds one object a line, name it .jsonl"),
        ("[" * 100_000, f"{cannot}: broken JSON in row 1: nested too deeply"),
        ('[{"text": "a", "label": ["x"]}, {"text": "b", "label": "y"}]', f"{cannot}: 'label' mixes "
         "lists (1, first at row 1) and single labels (1, first at row 2); multi-label data has a "
         "list in every row"),
        ('[{"text": "a", "label": "x"}, {"text": "b", "label": 1}]', f"{cannot}: 'label' mixes "
         "types: number (first at row 2), text (first at row 1); make them one type"),
        ('[{"text": "a", "label": 1.5}]', f"{cannot}: 1 row: 'label' holds no label (text, a whole "
         "number, true or false) (row 1 (1.5))"),
        ("[]", f"{cannot}: it has no rows"),
    ]:  # fmt: skip
        path.write_text(content)
        assert refused(path) == told
    path.write_text('[{"text": "a", "label": "x", "gold": ["x"], "id": [1]}]')
    assert refused(path, gold="gold", id="id") == (
        f"{cannot}, 2 problems:\n  - 'gold' and 'label' must both hold lists or both hold single "
        "labels\n  - 1 row: 'id' is no id (row 1 (found list))"
    )


def test_messages_of_parquet_in_full(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    info = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b"], "label": [0, 2]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path)
    cannot = "the dataset 'd.parquet' cannot be used"
    assert refused(path) == f"{cannot}: 1 row: 'label' is not a class number of 0..1 (row 2 (2))"
    pq.write_table(pa.table([["a"], ["x"], ["y"]], ["text", "label", "label"]), path)
    assert "the schema names a column twice: 'label'" in refused(path)
    pq.write_table(pa.table({"n": [1]}), path)
    assert refused(path) == (
        f"{cannot}, 2 problems:\n  - no column 'text'; it has n\n  - no column 'label'; it has n"
    )
    texts = [f"{number * 7919 % 10_007}" for number in range(20_000)]
    pq.write_table(pa.table({"text": texts, "label": texts}), path,
                   row_group_size=10_000, use_dictionary=False, compression="zstd")  # fmt: skip
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) * 3 // 4] = bytes(len(raw) * 3 // 4 - len(raw) // 2)
    path.write_bytes(raw)
    assert "is damaged: it cannot be read on after row 10,000 (" in refused(path)


@pytest.mark.parametrize("name", ["d.text", "d.dat", "d"])
def test_other_formats_are_told_what_is_supported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a")
    assert refused(tmp_path / name) == (
        f"the dataset {name!r} is of no known format; its name must end in .jsonl, .ndjson, "
        ".json, .csv, .tsv, .conll, .iob, .iob2, .bio (each of these also with .gz or .zst), "
        ".parquet, .spacy, .xlsx, or it may be a "
        "saved dataset folder or a Hugging Face name"
    )
    (tmp_path / name).unlink()
    assert "does not exist" in refused(tmp_path / name)


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    assert "is no saved dataset (`Dataset.save_to_disk`)" in refused(tmp_path)
