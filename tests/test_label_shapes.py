"""Labels as people keep them: lists as text, a column for each class, values for "no label"."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
import yaml
from made_csv import INIT, column, csv_file, read

from llm_relabel.data import Dataset
from llm_relabel.errors import DataError


def after(data: Dataset, tmp_path: Path, changes: dict[int, Any]) -> list[list[str]]:
    path = data.write(tmp_path, "out", changes)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize(
    ("separator", "cell", "written"),
    [
        ("list", "['a', 'b']", "['c', 'a']"),
        ("list", '["a", "b"]', '["c", "a"]'),
        ("list", '["a","b"]', '["c","a"]'),
        ("list", "['a' 'b']", "['c' 'a']"),
        ("list", "[a, b]", "[c, a]"),
        ("|", "a|b", "c|a"),
        (",", "a, b", "c, a"),
        (",", "a,b", "c,a"),
        (";", "a ; b;", "c ; a"),
        (" ", "a b", "c a"),
        ("\n", "a\nb", "c\na"),
    ],
)
def test_written_lists(tmp_path: Path, separator: str, cell: str, written: str) -> None:
    one = "['b']" if separator == "list" else "b"
    data = column(tmp_path, cell, one, "", label_separator=separator)
    assert data.labels.to_pylist() == [["a", "b"], ["b"], None]
    assert data.write(tmp_path, "same", {}).read_bytes() == (tmp_path / "d.csv").read_bytes()
    rows = after(data, tmp_path, {2: ("c", "a")})
    assert rows == [["t0", cell], ["t1", one], ["t2", written]]


def test_written_lists_of_numbers_come_back_as_numbers(tmp_path: Path) -> None:
    data = column(tmp_path, "[1, 2]", "[]", label_separator="list")
    assert data.labels.to_pylist() == [["1", "2"], []]
    assert after(data, tmp_path, {0: ("2", "3"), 1: ()}) == [["t0", "[2, 3]"], ["t1", "[]"]]


def test_written_lists_in_json_and_parquet(tmp_path: Path) -> None:
    rows = [{"text": "t", "label": "a|b"}, {"text": "u", "label": "b"}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(path, label_separator="|")
    assert json.loads(data.write(tmp_path, "o", {1: ("a", "b")}).read_text().splitlines()[1]) == {
        "text": "u", "label": "a|b"
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    data = read(tmp_path / "d.parquet", label_separator="|")
    assert pq.read_table(data.write(tmp_path, "o", {1: ("a", "b")}))["label"].to_pylist() == [
        "a|b", "a|b"
    ]  # fmt: skip


@pytest.mark.parametrize("cell", ["a", "['a'", "['a', ['b']]", "[{'a': 1}]", "[0.5]", "[,]"])
def test_what_is_no_written_list(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"holds no list as data.label_separator says .*\(row 2 "):
        column(tmp_path, "['a']", cell, label_separator="list")


def test_a_label_that_holds_the_separator_cannot_be_written(tmp_path: Path) -> None:
    data = column(tmp_path, "a|b", label_separator="|")
    with pytest.raises(DataError, match=r"'x\|y' cannot be written between separators"):
        data.write(tmp_path, "out", {0: ("x|y",)})


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (("['a', 'b']", "['b']", "['a']"), "list"),
        (('["a"]', '["b", "a"]', "[]"), "list"),
        (("a|b", "b|c", "a", "c"), "|"),
        (("a, b", "b, c", "a", "c"), ","),
        (("a;b", "b;a", "a;c", "c"), ";"),
    ],
)
def test_init_asks_about_lists(work: toy.Work, cells: tuple[str, ...], separator: str) -> None:
    rows = [("text", "label"), *((f"t {row}", cells[row % len(cells)]) for row in range(24))]
    csv_file(work.folder / "data.csv", rows)
    done = work.run(*INIT, "--label", "label")
    assert done.returncode == 2
    assert f"(`init --label-separator {separator!r}`) to read them as lists" in done.stderr
    assert not (work.folder / "new" / "job.yaml").exists()
    done = work.run(*INIT, "--label", "label", "--label-separator", separator)
    assert done.returncode == 0, done.stderr
    labels = yaml.safe_load((work.folder / "new" / "labels.yaml").read_text())["labels"]
    assert set(labels) <= {"a", "b", "c"}
    done = work.run(*INIT[:-1], "one", "--label", "label", "--label-separator", "none")
    assert f"{len(set(cells))} labels" in done.stdout
    job = yaml.safe_load((work.folder / "one" / "job.yaml").read_text())
    assert job["data"]["label_separator"] == "none"
    # A job from elsewhere, without the key, is told as much.
    job["data"].pop("label_separator")
    (work.folder / "one" / "job.yaml").write_text(yaml.safe_dump(job))
    told = work.run("plan", "one/job.yaml", "--set", "labels={a: x, b: y, c: z}")
    assert told.returncode == 2
    assert "have no definition" in told.stderr
    assert "--label-separator" in told.stderr


@pytest.mark.parametrize(
    "names",
    [
        ("Books, music", "Books, film", "Games"),
        ("sport/football", "sport/tennis", "arts/film", "arts/music"),
        ("R&D", "sales"),
        ("yes", "no"),
    ],
)
def test_names_with_marks_in_them_are_no_lists(work: toy.Work, names: tuple[str, ...]) -> None:
    rows = [("text", "label"), *((f"t {row}", names[row % len(names)]) for row in range(24))]
    csv_file(work.folder / "data.csv", rows)
    assert work.run(*INIT, "--label", "label").returncode == 0


def test_a_multi_label_csv_is_relabeled(work: toy.Work) -> None:
    rows = [
        (f"i{row}", toy.text(row), toy.given(row) + ("|red" if row % 2 else ""))
        for row in range(toy.ROWS)
    ]
    csv_file(work.folder / "data.csv", [("id", "text", "label"), *rows])
    names = [*toy.NAMES, "red"]
    work.write_lines("predictions.jsonl", [
        {"id": f"i{row}", "pred_probs": [0.9 * (n == toy.truth(row)) for n in names[:3]]
         + [0.9 * (row % 2)]} for row in range(toy.ROWS)
    ])  # fmt: skip
    work.write_lines("recorded.jsonl", [
        {"id": f"i{row}", "label": [toy.truth(row)] + ["red"] * (row % 2)}
        for row in range(toy.ROWS)
    ])  # fmt: skip
    data = {"path": "data.csv", "text": "text", "label": "label", "id": "id"}
    labels = {name: f"About {name}." for name in names}
    work.write_job(data={**data, "label_separator": "|"}, decide={"policy": "replace"},
                   labels=labels)  # fmt: skip
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    with (work.run_folder / "dataset.csv").open(newline="") as file:
        found = [set(row["label"].split("|")) for row in csv.DictReader(file)]
    assert found == [{toy.truth(row), *(["red"] * (row % 2))} for row in range(toy.ROWS)]
    assert work.run("rollback", "run", "--all").returncode == 0
    assert (work.run_folder / "dataset.csv").read_bytes() == (work.folder / "data.csv").read_bytes()


@pytest.mark.parametrize(
    ("one", "zero"), [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("yes", "no"), ("x", "")]
)
def test_one_hot_columns(tmp_path: Path, one: str, zero: str) -> None:
    rows = [
        ("text", "a", "b", "c"),
        ("t", one, one, zero),
        ("u", zero, one, zero),
        ("v", "", "", ""),
    ]
    path = csv_file(tmp_path / "d.csv", rows)
    data = read(path, label=["a", "b", "c"])
    assert data.labels.to_pylist() == [["a", "b"], ["b"], None]
    assert data.class_names == ("a", "b", "c")
    assert data.write(tmp_path, "same", {}).read_bytes() == path.read_bytes()
    changed = after(data, tmp_path, {0: ("c",), 1: ()})
    assert changed == [["t", zero, zero, one], ["u", zero, zero, zero], ["v", "", "", ""]]


def test_one_hot_with_one_class_a_row_is_one_choice(tmp_path: Path) -> None:
    rows = [{"text": "t", "a": 1, "b": 0}, {"text": "u", "a": 0, "b": 1}, {"text": "v"}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(path, label=["a", "b"])
    assert data.labels.to_pylist() == ["a", "b", None]
    written = data.write(tmp_path, "o", {0: "b"}).read_text().splitlines()
    assert written == ['{"text": "t", "a": 0, "b": 1}', *path.read_text().splitlines()[1:]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    data = read(tmp_path / "d.parquet", label=["a", "b"])
    assert pq.read_table(data.write(tmp_path, "o", {1: "a"})).to_pylist()[1] == {
        "text": "u", "a": 1, "b": 0
    }  # fmt: skip


def test_label_columns_of_several_annotators_are_told_the_way_out(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "d.csv", [("text", "ann1", "ann2"), ("t", "spam", "ham")])
    with pytest.raises(DataError, match="annotators, name one of them"):
        read(path, label=["ann1", "ann2"])
    with pytest.raises(DataError, match="no column 'c'"):
        read(path, label=["ann1", "c"])


def test_init_takes_a_column_for_each_class(work: toy.Work) -> None:
    rows = [[f"t {row}", str(row % 2), str(row % 3 % 2), ""] for row in range(24)]
    csv_file(work.folder / "data.csv", [("text", "a", "b", "c"), *rows])
    done = work.run(*INIT, "--label", "a", "--label", "b", "--label", "c")
    assert done.returncode == 0, done.stderr
    assert "24 rows, 3 labels" in done.stdout
    job = yaml.safe_load((work.folder / "new" / "job.yaml").read_text())
    assert job["data"]["label"] == ["a", "b", "c"]
    assert work.run("plan", "new/job.yaml").returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("init", "d.csv", "--text", "a", "--label", "b", "--id", "c", "--id", "d"), "--id"),
        (("run", "job.yaml", "--limit", "3", "--limit=4"), "--limit"),
        (("review", "export", "run", "-o", "a.csv", "--output", "b.csv"), "--output"),
        (("plan", "job.yaml", "--set", "seed=1", "--set", "seed=2"), "--set 'seed'"),
    ],
)
def test_a_repeated_option_is_refused(work: toy.Work, words: tuple[str, ...], told: str) -> None:
    done = work.run(*words)
    assert done.returncode == 2
    assert f"{told} is given 2 times" in done.stderr


@pytest.mark.parametrize(
    ("label", "told"),
    [(5, "must be a column name, or a list"), ([], "must be a column"), (["a", "a"], "twice")],
)
def test_wrong_label_columns(work: toy.Work, label: Any, told: str) -> None:
    work.write_job(data={"path": "data.jsonl", "text": "text", "label": label})
    done = work.run("plan", "job.yaml")
    assert done.returncode == 2
    assert told in done.stderr
