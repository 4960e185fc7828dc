"""Rows without a text, and values that mean "no label": kept, counted, never guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import toy
import yaml
from made_csv import INIT, column, csv_file, read

from llm_relabel.errors import DataError

BLANK = ("", "  \t", "\u00a0", "\u200b\ufeff", None)


def rows_with(blank: Any) -> list[dict[str, Any]]:
    """The toy's rows; in row 2 the text is `blank`, and its label is wrong."""
    rows = [
        {"id": f"i{row}", "text": toy.text(row), "label": toy.given(row), "gold": toy.truth(row)}
        for row in range(toy.ROWS)
    ]
    rows[2] |= {"text": blank, "label": "tool"}
    return rows


@pytest.mark.parametrize("blank", BLANK)
def test_a_row_without_text_stays_as_it_is(work: toy.Work, blank: Any) -> None:
    rows = rows_with(blank)
    work.write_rows(rows)
    work.write_job(decide={"policy": "replace"})
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert (
        "1 line: no text, so it stays as it is: neither learned from nor asked about (line 3)"
    ) in done.stdout + done.stderr
    assert "i2" not in {ask["id"] for ask in work.lines("round-1/asks.jsonl")}
    assert work.lines("dataset.jsonl")[2] == rows[2]
    assert work.summary["rows"] == toy.ROWS
    assert work.summary["changed"] == 12
    assert work.summary["gold"]["labels_after"] == 1  # nothing is claimed of the blank row
    assert work.run("report", "run").returncode == 0
    assert work.run("rollback", "run", "--all").returncode == 0
    assert (work.run_folder / "dataset.jsonl").read_bytes() == work.data.read_bytes()


def test_the_small_model_does_not_learn_from_blank_rows(work: toy.Work) -> None:
    rows = rows_with("")
    rows += [{"id": f"b{n}", "text": " " * n, "label": "tool", "gold": None} for n in range(30)]
    work.write_rows(rows)
    work.write_job(model={}, judge={"model": "embedded"}, rounds=1)
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert work.lines("dataset.jsonl")[toy.ROWS :] == rows[toy.ROWS :]
    assert not {issue["id"] for issue in work.lines("round-1/issues.jsonl")} & {
        row["id"] for row in rows if not (row["text"] or "").strip()
    }


def test_only_blank_texts_are_refused(work: toy.Work) -> None:
    work.write_rows([{"text": " ", "label": name} for name in toy.NAMES])
    done = work.run("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    assert done.returncode == 2
    assert "no row has a text in 'text'" in done.stderr


@pytest.mark.parametrize(
    ("missing", "cells"),
    [(["N/A"], ["N/A", "x", ""]), ([-1], ["-1", "0", ""]), (["?", "none"], ["?", "y", "none"])],
)
def test_missing_values(tmp_path: Any, missing: list[Any], cells: list[str]) -> None:
    data = column(tmp_path, *cells, missing=missing)
    assert data.labels.to_pylist() == [None, cells[1], None]
    assert data.write(tmp_path, "o", {}).read_bytes() == (tmp_path / "d.csv").read_bytes()


@pytest.mark.parametrize("values", [[-1, 0, 1], [-1.0, 0.0, 1.0], [None, 0, 1]])
def test_missing_numbers_and_lists(tmp_path: Any, values: list[Any]) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": "t", "label": v}) + "\n" for v in values))
    assert read(path, missing=[-1]).labels.to_pylist() == [None, "0", "1"]
    path.write_text("".join(json.dumps({"text": "t", "label": [v]}) + "\n" for v in values))
    assert read(path, missing=[-1]).labels.to_pylist() == [[], ["0"], ["1"]]


def test_missing_in_label_columns_and_gold(tmp_path: Any) -> None:
    rows = [("text", "a", "b", "gold"), ("t", "1", "1", "-1"), ("u", "-1", "-1", "a")]
    path = csv_file(tmp_path / "d.csv", rows)
    data = read(path, label=["a", "b"], missing=["-1"], gold="gold", label_separator="|")
    assert data.labels.to_pylist() == [["a", "b"], None]
    assert data.gold is not None
    assert data.gold.to_pylist() == [None, ["a"]]


@pytest.mark.parametrize(
    ("labels", "value"),
    [(("0", "1", "-1"), "-1"), (("x", "y", "N/A"), "N/A"), (("x", "y", "?"), "?"),
     (("x", "y", "None"), "None"), (("x", "y", " "), " ")],
)  # fmt: skip
def test_init_asks_what_means_no_label(work: toy.Work, labels: tuple[str, ...], value: str) -> None:
    rows = [("text", "label"), *((f"t {row}", labels[row % 3]) for row in range(24))]
    csv_file(work.folder / "data.csv", rows)
    done = work.run(*INIT, "--label", "label")
    assert done.returncode == 2
    assert f"{value!r} (8 rows) of 'label' may mean that there is no label" in done.stderr
    assert f"`init --missing {value!r}`" in done.stderr
    assert not (work.folder / "new" / "labels.yaml").exists()
    done = work.run(*INIT, "--label", "label", "--missing", value)
    assert "24 rows, 2 labels" in done.stdout, done.stderr
    job = yaml.safe_load((work.folder / "new" / "job.yaml").read_text())
    assert job["data"]["missing"] == [value]
    done = work.run(*INIT[:-1], "all", "--label", "label", "--missing", "")
    assert "24 rows, 3 labels" in done.stdout, done.stderr


def test_plan_tells_of_a_value_without_definition(work: toy.Work) -> None:
    rows = rows_with("a text")
    rows[2]["label"] = "N/A"
    work.write_rows(rows)
    done = work.run("plan", "job.yaml")
    assert done.returncode == 2
    assert "1 label values have no definition: 'N/A'" in done.stderr
    assert "data.missing: ['N/A']" in done.stderr
    done = work.run("plan", "job.yaml", "--set", "data.missing=N/A")
    assert done.returncode == 0
    assert "1 missing" in done.stdout


@pytest.mark.parametrize("labels", [("-1", "1"), ("none of it", "all"), ("nausea", "pain")])
def test_what_is_a_label(work: toy.Work, labels: tuple[str, ...]) -> None:
    rows = [("text", "label"), *((f"t {row}", labels[row % 2]) for row in range(24))]
    csv_file(work.folder / "data.csv", rows)
    assert work.run(*INIT, "--label", "label").returncode == 0


def test_a_missing_value_is_written_over(work: toy.Work) -> None:
    rows = rows_with("a text about a saw")
    rows[2]["label"] = "N/A"
    work.write_rows(rows)
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id", "missing": ["N/A"]}
    work.write_job(data=data, decide={"policy": "replace"})
    assert work.run("run", "job.yaml").returncode == 0
    assert work.labels()[2] == toy.truth(2)
    # Undone, the cell is as it came.
    assert work.run("rollback", "run", "--all").returncode == 0
    assert work.labels()[2] == "N/A"


def test_a_broken_column_is_still_told_before_blank_rows(tmp_path: Any) -> None:
    path = csv_file(tmp_path / "d.csv", [("body", "label"), ("t", "x")])
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).endswith("no column 'text'; it has body, label")
