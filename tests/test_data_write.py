"""Every format out: only the changed cells differ, and nothing is half written."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_data_read import ROWS, jsonl, read, write

from llm_relabel.errors import DataError

CELL = st.text(
    alphabet=st.sampled_from("ab\"',;|\t\n\r\\{}[]é日\u2028 :")
    | st.characters(exclude_categories=["Cs"])
)
TEXT = CELL.map(lambda text: "t" + text)
LABEL = st.none() | CELL.filter(lambda text: text != "")
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | CELL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELL, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def json_rows(draw: Any) -> list[dict[str, Any]]:
    rows = draw(st.lists(st.fixed_dictionaries({"text": TEXT, "label": LABEL, "x": VALUE}),
                         min_size=1, max_size=6))  # fmt: skip
    orders = st.permutations(["text", "label", "x"])
    return [{key: row[key] for key in draw(orders)} for row in rows]


def changed_rows(data: Any, rows: int) -> dict[int, str | None]:
    return data.draw(st.dictionaries(st.integers(0, rows - 1), LABEL))


def check(path: Path, changes: dict[int, str | None], parse: Any) -> None:
    dataset = read(path)
    same = dataset.write(path.parent, "same", {})
    assert same.read_bytes() == path.read_bytes()
    out = dataset.write(path.parent, "out", changes)
    old, new = parse(path.read_bytes()), parse(out.read_bytes())
    for row, (before, after) in enumerate(zip(old, new, strict=True)):
        if row in changes:
            assert (after["label"] or None) == changes[row]
        else:
            assert after == before
        assert {**after, "label": 0} == {**before, "label": 0}
        assert [k for k in after if k != "label"] == [k for k in before if k != "label"]


def parse_lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.decode().split("\n") if line.strip()]


@settings(max_examples=80)
@given(json_rows(), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.data())
def test_json_lines(rows, ascii_only, ending, data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.jsonl"
        text = ending.join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
        path.write_bytes(text.encode())
        check(path, changed_rows(data, len(rows)), parse_lines)


@settings(max_examples=60)
@given(json_rows(), st.booleans(), st.sampled_from([None, 0, 2]), st.data())
def test_json_arrays(rows, ascii_only, indent, data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.json"
        path.write_text(json.dumps(rows, ensure_ascii=ascii_only, indent=indent), encoding="utf-8")
        check(path, changed_rows(data, len(rows)), json.loads)


@pytest.mark.parametrize(("name", "delimiter"), [("d.csv", ","), ("d.csv", ";"), ("d.tsv", "\t")])
@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(TEXT, LABEL, CELL), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ending=st.sampled_from(["\n", "\r\n"]),
    data=st.data(),
)
def test_delimited(name, delimiter, rows, quoting, ending, data) -> None:
    def parse(raw: bytes) -> list[dict[str, Any]]:
        text = io.StringIO(raw.decode(), newline="")
        return list(csv.DictReader(text, delimiter=delimiter))

    # Python's writer leaves a lone carriage return unquoted when its own line ends lack one.
    assume(quoting == csv.QUOTE_ALL or not any("\r" in (cell or "") for r in rows for cell in r))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=ending)
            writer.writerows([("text", "label", "x"), *rows])
        check(path, changed_rows(data, len(rows)), parse)


# Half of these are refused; the rest have quotes where no writer puts them.
RAW = st.lists(
    st.tuples(
        st.sampled_from(["a", '"a"', 'a"', '"a"b', '"a""', '"a,b"', '"a\n"', " a"]),
        st.lists(st.text(alphabet='b,"\n ', max_size=5), max_size=2).map(",".join),
        st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n\r\n"]),
    ).map(lambda parts: parts[0] + "," + parts[1] + parts[2]),
    max_size=5,
).map("".join)


@settings(max_examples=300)
@given(RAW, st.data())
def test_csv_that_no_writer_made(raw, data) -> None:
    """Stray quotes, ragged rows, any line ends: the neighbours survive, or nothing is written."""

    def parse(text: str) -> list[list[str]]:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        path.write_bytes(b"text,label,x\n" + raw.encode())
        try:
            dataset = read(path)
        except DataError:
            return
        changes = changed_rows(data, len(dataset))
        out = dataset.write(path.parent, "out", changes)
        old, new = (parse(p.read_bytes().decode()) for p in (path, out))
        assert len(old) == len(new) == len(dataset) + 1
        for row, (before, after) in enumerate(zip(old[1:], new[1:], strict=True)):
            wanted = list(before)
            if row in changes:
                wanted += [""] * (2 - len(wanted))
                wanted[1] = changes[row] or ""
            assert after == wanted
        unchanged = [b for a, b in zip(old[1:], new[1:], strict=True) if a == b]
        assert len(unchanged) >= len(dataset) - len(changes)


SPACE = st.text(alphabet=" \t", max_size=2)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(CELL | st.just("label"), VALUE, SPACE, SPACE), max_size=4),
    st.booleans(),
    LABEL,
)
def test_json_that_no_writer_made(members, ascii_only, new) -> None:
    """Any spacing, any keys, the label twice or not at all: all but one value stays."""
    members = [m for m in members if m[0] != "text" and (m[0] != "label" or type(m[1]) is str)]
    members.append(("text", "t", "", " "))

    def line_of(last_label: str | None) -> str:
        parts = [(key, json.dumps(value, ensure_ascii=ascii_only)) for key, value, _, _ in members]
        labels = [n for n, (key, _) in enumerate(parts) if key == "label"]
        if last_label is not None and labels:
            parts[labels[-1]] = ("label", last_label)
        return "{" + ",".join(
            f"{left}{json.dumps(key, ensure_ascii=ascii_only)}{right}:{left}{value}{right}"
            for (key, value), (_, _, left, right) in zip(parts, members, strict=True)
        ) + "}"  # fmt: skip

    line = line_of(None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.jsonl"
        path.write_bytes(f'{{"text": "s", "label": "x"}}\r\n{line}'.encode())
        out = read(path).write(path.parent, "out", {1: new}).read_bytes().decode()
        first, second = out.split("\r\n")
        assert first == '{"text": "s", "label": "x"}'
        assert json.loads(second) == json.loads(line) | {"label": new}
        if "label" in json.loads(line):
            assert second == line_of(json.dumps(new, ensure_ascii=line.isascii()))
        else:
            assert second.startswith(line[:-1].rstrip())


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "utf-8-sig", "utf-16", "utf-16-be",
                                      "utf-32", "gb18030"])  # fmt: skip
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_go_out_as_they_came(tmp_path: Path, encoding: str, ending: str) -> None:
    text = "é" if encoding != "shift_jis" else "日"
    keys = {} if encoding.startswith("utf") and encoding != "utf-16-be" else {"encoding": encoding}
    lines = ["text,label", f'"{text}, a",x', f"{text}{text},y", ""]
    path = tmp_path / "d.csv"
    path.write_bytes(ending.join(lines).encode(encoding))
    out = read(path, **keys).write(tmp_path, "out", {1: text})
    lines[2] = f"{text}{text},{text}"
    assert out.read_bytes() == ending.join(lines).encode(encoding)
    line = f'{{"text": "{text}", "label": "x"}}{ending}'
    path = tmp_path / "d.jsonl"
    path.write_bytes((line * 2).encode(encoding))
    out = read(path, **keys).write(tmp_path, "out", {0: "yy"})
    assert out.read_bytes() == (line.replace('"x"', '"yy"') + line).encode(encoding)


def test_labels_that_the_encoding_lacks(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes("text,label\né,x\n".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        read(path, encoding="cp1252").write(tmp_path, "out", {0: "日"})
    assert str(caught.value) == (
        "the label '日' cannot be written to 'd.csv': its encoding cp1252 lacks a character of it"
    )
    path = tmp_path / "d.jsonl"
    path.write_bytes('{"text": "é", "label": "x"}'.encode("cp1252"))
    out = read(path, encoding="cp1252").write(tmp_path, "out", {0: "日"})
    assert out.read_bytes() == '{"text": "é", "label": "\\u65e5"}'.encode("cp1252")


def test_a_failed_write_leaves_the_older_output(tmp_path: Path) -> None:
    labels = pa.array([1, 2], pa.int8())
    pq.write_table(pa.table({"text": ["a", "b"], "label": labels}), tmp_path / "d.parquet")
    data = read(tmp_path / "d.parquet")
    first = data.write(tmp_path, "out", {0: "2"}).read_bytes()
    with pytest.raises(DataError, match="the label 300 cannot be written to 'label', whose type"):
        data.write(tmp_path, "out", {1: "300"})
    for name in ("007", "--1", "²", "1.0"):
        with pytest.raises(DataError, match="holds number values"):
            data.write(tmp_path, "out", {1: name})
    assert (tmp_path / "out.parquet").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.parquet", "out.parquet"]


def test_a_class_that_the_column_lacks(tmp_path: Path) -> None:
    info = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b"], "label": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "d.parquet").write(tmp_path, "out", {0: "neutral"})
    assert str(caught.value) == (
        "the label 'neutral' cannot be written: 'label' holds class numbers, and its classes are "
        "neg, pos"
    )


def test_true_and_false(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": [True, None, False]})
    pq.write_table(table, tmp_path / "d.parquet")
    data = read(tmp_path / "d.parquet")
    assert data.labels.to_pylist() == ["true", None, "false"]
    out = pq.read_table(data.write(tmp_path, "out", {0: "false", 1: "true"}))
    assert out["label"].to_pylist() == [False, True, False]
    assert out.schema == table.schema


def test_each_parquet_column_keeps_its_compression(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": [["x"], ["y"]], "n": [1, 2]})
    pq.write_table(table, tmp_path / "d.parquet", compression={"text": "gzip", "n": "none",
                   "label.list.element": "snappy"})  # fmt: skip
    out = read(tmp_path / "d.parquet").write(tmp_path, "out", {0: ("y",)})
    old, new = (pq.ParquetFile(p).metadata.row_group(0) for p in (tmp_path / "d.parquet", out))
    codecs = [[g.column(n).compression for n in range(3)] for g in (old, new)]
    assert codecs[0] == codecs[1] == ["GZIP", "SNAPPY", "UNCOMPRESSED"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"label":"x","text":"t"}\n', b'{"label":"new","text":"t"}\n'),
        (b'{ "text" : "t" , "label" :null }', b'{ "text" : "t" , "label" :"new" }'),
        (b'{"text": "t"}\n', b'{"text": "t", "label": "new"}\n'),
        (b'{"a": {"label": "x"}, "text": "t", "label": "x"}\r\n',
         b'{"a": {"label": "x"}, "text": "t", "label": "new"}\r\n'),
        (b'\xef\xbb\xbf{"text": "t", "label": "x"}', b'\xef\xbb\xbf{"text": "t", "label": "new"}'),
    ],
)  # fmt: skip
def test_only_the_value_changes(tmp_path: Path, line: bytes, expected: bytes) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"text": "s", "label": "x"}\n' if not line.startswith(b"\xef") else b"")
    path.write_bytes(path.read_bytes() + line)
    row = 0 if line.startswith(b"\xef") else 1
    out = read(path).write(tmp_path, "out", {row: "new"})
    assert out.read_bytes().endswith(expected)


def test_types_are_kept(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    out = read(jsonl(tmp_path / "d.jsonl", rows)).write(tmp_path, "out", {0: "1"})
    assert json.loads(out.read_text().splitlines()[0])["label"] == 1
    with pytest.raises(DataError, match="holds number values"):
        read(tmp_path / "d.jsonl").write(tmp_path, "out", {0: "cat"})
    many = [{"text": "a", "label": ["x"]}, {"text": "b", "label": []}]
    out = read(jsonl(tmp_path / "m.jsonl", many)).write(tmp_path, "out", {1: ("x", "y"), 0: ()})
    assert [json.loads(line)["label"] for line in out.read_text().splitlines()] == [[], ["x", "y"]]


def test_parquet_keeps_everything_else(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b", "c", "d"], pa.large_string()),
            "label": pa.array(["x", "y", None, "x"]).dictionary_encode(),
            "n": pa.array([1, 2, 3, 4], pa.int16()),
        }
    ).replace_schema_metadata({"made": "by a test"})
    path = tmp_path / "d.parquet"
    pq.write_table(table, path, row_group_size=3, compression="zstd")
    out = read(path).write(tmp_path, "out", {2: "y", 3: "z"})
    back = pq.read_table(out)
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back["label"].to_pylist() == ["x", "y", "y", "z"]
    assert back.drop(["label"]).equals(table.drop(["label"]))
    described = pq.ParquetFile(out).metadata
    assert described.num_row_groups == 2
    assert described.row_group(0).column(0).compression == "ZSTD"


def test_class_labels_go_out_as_numbers(tmp_path: Path) -> None:
    import datasets

    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    rows = {"text": ["a", "b", "c"], "label": [0, 1, -1]}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    made.to_parquet(tmp_path / "d.parquet")
    for path in (tmp_path / "saved", tmp_path / "d.parquet"):
        data = read(path)
        assert data.class_names == ("neg", "pos")
        assert data.labels.to_pylist() == ["neg", "pos", None]
        out = data.write(tmp_path / "out", "dataset", {0: "pos", 2: "neg"})
        again = read(out)
        assert again.labels.to_pylist() == ["pos", "pos", "neg"]
        assert again.class_names == ("neg", "pos")
    loaded = datasets.load_from_disk(str(tmp_path / "out" / "dataset"))
    assert loaded.features == made.features
    assert loaded["label"][:] == [1, 1, 0]


def test_input_that_changed_meanwhile_is_not_written(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl")
    data = read(path)
    path.write_text(path.read_text().replace("one", "ONE"))
    with pytest.raises(DataError, match="changed meanwhile"):
        data.write(tmp_path, "out", {0: "y"})
    assert not (tmp_path / "out.jsonl").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.jsonl"]


def test_rows_stay_in_order(tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "parquet"):
        data = read(write(tmp_path, kind))
        again = read(data.write(tmp_path, "out", {1: "y"}))
        assert again.labels.to_pylist() == ["x", "y", "y"]
        assert again.text.to_pylist() == [row["text"] for row in ROWS]
