"""Excel workbooks: read as the sheet shows them, and only label cells differ afterwards."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import toy
from data_files import read, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.chart import BarChart, Reference
from openpyxl.styles import Font

import llm_relabel as lr
from llm_relabel.data.xlsx_cells import column_of_reference, letters, replaced


def workbook(folder: Path, rows: list[list[Any]], *, title: str = "Labels") -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append(row)
    path = folder / "d.xlsx"
    book.save(path)
    return path


def cells(path: Path, sheet: str | None = None) -> list[list[Any]]:
    book = openpyxl.load_workbook(path)
    found = book[sheet] if sheet else book.worksheets[0]
    return [[cell.value for cell in row] for row in found.iter_rows()]


def test_cells_are_read_as_they_are_shown(tmp_path: Path) -> None:
    path = workbook(tmp_path, [
        ["id", "text", "label"], [1.0, "one", 2.0], [2, 3.5, 4],
        [3, datetime.date(2026, 1, 2), None],
    ])  # fmt: skip
    data = read(path, id="id")
    assert data.ids.to_pylist() == ["1", "2", "3"]
    assert data.text.to_pylist() == ["one", "3.5", "2026-01-02T00:00:00"]
    assert data.labels.to_pylist() == ["2", "4", None]


def test_only_the_label_cells_change(tmp_path: Path) -> None:
    path = workbook(tmp_path, [["text", "label", "n"], ["a", "x", 1], [None, None, None],
                               ["b <&> c", "y", 2], ["d", None, 3]])  # fmt: skip
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    sheet["B2"].font = Font(bold=True)
    sheet["D1"] = "sum"
    sheet["D2"] = "=SUM(C2:C5)"
    chart = BarChart()
    chart.add_data(Reference(sheet, min_col=3, min_row=1, max_row=5))
    sheet.add_chart(chart, "F2")
    book.create_sheet("Empty")
    book.save(path)
    data = read(path)
    assert data.labels.to_pylist() == ["x", "y", None]
    out = data.write(tmp_path, "out", {0: "z & \u2028é", 2: "new"})
    after = cells(out)
    assert [row[1] for row in after] == ["label", "z & \u2028é", None, "y", "new"]
    assert after[1][3] == "=SUM(C2:C5)"
    assert openpyxl.load_workbook(out).worksheets[0]["B2"].font.bold
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out) as new:
        assert old.namelist() == new.namelist()
        for name in old.namelist():
            assert (old.read(name) == new.read(name)) == (name != "xl/worksheets/sheet1.xml")
    assert any("chart" in name for name in zipfile.ZipFile(out).namelist())
    assert data.write(tmp_path, "same", {}).read_bytes() == path.read_bytes()


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    path = workbook(tmp_path, [["text", "label"], ["a", 0], ["b", 1], ["c", 1]])
    out = read(path).write(tmp_path, "out", {1: "0"})
    assert [row[1] for row in cells(out)] == ["label", 0, 0, 1]


def test_which_sheet(tmp_path: Path) -> None:
    path = workbook(tmp_path, [["text", "label"], ["a", "x"]])
    book = openpyxl.load_workbook(path)
    other = book.create_sheet("Other")
    for row in (["title"], ["text", "label"], ["b", "y"]):
        other.append(row)
    book.save(path)
    told = refused(path)
    assert "set data.sheet" in told
    assert "'Labels', 'Other'" in told
    assert "no sheet 'Othr' (did you mean 'Other'?)" in refused(path, sheet="Othr")
    assert "numbered from 1" in refused(path, sheet=3)
    for sheet in ("Other", 2):
        data = read(path, sheet=sheet, skip_lines=1)
        assert data.text.to_pylist() == ["b"]
        out = data.write(tmp_path, "out", {0: "z"})
        assert cells(out, "Other") == [["title", None], ["text", "label"], ["b", "z"]]
        assert cells(out, "Labels") == cells(path, "Labels")


def test_what_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path, [["text", "label"], ["a", "x"], ["b", '=IF(1=1,"x","y")']])
    told = refused(path)
    assert "holds a formula" in told
    assert "row 3" in told
    (tmp_path / "e.xlsx").write_bytes(b"\xd0\xcf\x11\xe0 protected")
    assert "if it has a password, save it without one" in refused(tmp_path / "e.xlsx")
    twice = workbook(tmp_path, [["text", "label", "label"], ["a", "x", "y"]])
    assert "names a column twice: 'label'" in refused(twice)
    assert "save the sheet as CSV" in refused(_empty(tmp_path / "d.ods"))


def _empty(path: Path) -> Path:
    path.write_bytes(b"PK\x03\x04")
    return path


def test_a_whole_job_from_init_to_rollback(work: toy.Work) -> None:
    rows = [[f"i{n}", toy.text(n), toy.given(n)] for n in range(toy.ROWS)]
    workbook(work.folder, [["id", "text", "label"], *rows])
    before = (work.folder / "d.xlsx").read_bytes()
    made = work.run("init", "d.xlsx", "--text", "text", "--label", "label", "--sheet", "1",
                    "--id", "id", "-o", "new")  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "sheet: 1" in (work.folder / "new" / "job.yaml").read_text()
    work.write_job(data={"path": "d.xlsx", "text": "text", "label": "label", "id": "id"})
    run = lr.relabel(work.job)
    after = cells(run.dataset_path())
    right = sum(row[2] == toy.truth(n) for n, row in enumerate(after[1:]))
    assert right > sum(toy.given(n) == toy.truth(n) for n in range(toy.ROWS))
    run.rollback(everything=True)
    assert run.dataset_path().read_bytes() == before


def test_gold_may_be_a_workbook(work: toy.Work) -> None:
    path = workbook(work.folder, [["id", "gold"], *([f"i{n}", toy.truth(n)] for n in range(20))])
    found = lr.evaluate(work.job, path, small_model=False, overrides=["judge.evidence=blind"])
    assert found.figures["items"] == 20


BODY = """<?xml version="1.0" encoding="UTF-8"?>
<x:worksheet xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><x:sheetData>
<x:row r="1"><x:c r="A1" t="s"><x:v>0</x:v></x:c><x:c r="C1" s="4"/></x:row><x:row><x:c><x:v>1</x:v>
</x:c></x:row></x:sheetData></x:worksheet>"""


def test_cells_in_another_writers_xml() -> None:
    """A prefix, an empty cell, a gap, rows and cells without numbers."""
    new = replaced(BODY.encode(), {1: {3: "n", 2: 5}, 2: {1: None, 4: True}}).decode()
    assert '<x:c r="B1"><x:v>5</x:v></x:c><x:c r="C1" s="4" t="inlineStr"><x:is>' in new
    assert '<x:c r="A1" t="s"><x:v>0</x:v></x:c>' in new
    assert '<x:row><x:c/><x:c r="D2" t="b"><x:v>1</x:v></x:c></x:row>' in new


@given(st.integers(1, 16384))
def test_the_name_of_a_column_is_its_number(column: int) -> None:
    assert column_of_reference(f"{letters(column)}12") == column


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n"), max_size=8)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.data())
def test_whatever_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], data: Any
) -> None:
    folder = tmp_path_factory.mktemp("x")
    path = workbook(
        folder, [["text", "label"], *(["t" + text, "l" + label] for text, label in rows)]
    )
    changes = data.draw(st.dictionaries(st.integers(0, len(rows) - 1), TEXT.map("n".__add__)))
    dataset = read(path)
    out = dataset.write(folder, "out", changes)
    for row, (before, after) in enumerate(zip(cells(path)[1:], cells(out)[1:], strict=True)):
        assert after[0] == before[0]
        assert after[1] == changes.get(row, before[1])
