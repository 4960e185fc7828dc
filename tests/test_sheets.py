"""Sheets for people: no cell runs, and every cell comes back, also after a spreadsheet saved it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_relabel as lr
from llm_relabel.config.definitions import load_definitions
from llm_relabel.errors import DataError, RunError
from llm_relabel.files.sheets import plain, protected, read_sheet, write_sheet
from llm_relabel.run_folder.changes_sheet import CHANGES_HEADER, changes_sheet, choices_to_undo
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks.classification import Classification

TASK = Classification(load_definitions({"a": "x", "b": "x"}), pa.string())

SIGNS = "=+-@＝＋－＠"
# Also lone surrogates, NUL and everything else that `st.text()` leaves out or seldom makes.
PARTS = st.sampled_from(
    (*SIGNS, *"\t\r\n ;,'\"\\|0127.:/%ex", "\x00", "\ufeff", "\ud800", "\udc00", "\u200b", "\xa0",
     "\\u003d", "'\\", "cmd", "Mar", "true", "😀", "\u202e", "\x1b[2J", "\u2028", "\x85")
)  # fmt: skip
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=())), st.lists(PARTS, max_size=12).map("".join)
)
ROWS = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(TEXT.filter(bool), min_size=width, max_size=width, unique=True),
        st.lists(st.lists(TEXT, min_size=width, max_size=width), max_size=4),
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sheets")


def cells_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    """The cells as a spreadsheet reads them."""
    text = path.read_bytes().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def runs_as_a_formula(cell: str) -> bool:
    """Whether a spreadsheet might, with whatever it takes off in front first."""
    if cell[:1] in ("\t", "\r", "\n"):
        return True
    invisible = r"[\s\"\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\x00-\x1f]*"
    return re.match(rf"{invisible}[{re.escape(SIGNS)}]", cell) is not None


@settings(max_examples=400)
@given(ROWS)
def test_any_text_comes_back(folder: Path, sheet: tuple[list[str], list[list[str]]]) -> None:
    header, rows = sheet
    path = folder / "any.csv"
    write_sheet(path, header, rows)
    assert read_sheet(path) == [dict(zip(header, row, strict=True)) for row in rows]


@settings(max_examples=400)
@given(ROWS, st.sampled_from(",;\t"))
def test_no_cell_is_a_formula_whatever_separates_them(
    folder: Path, sheet: tuple[list[str], list[list[str]]], delimiter: str
) -> None:
    header, rows = sheet
    path = folder / "formula.csv"
    write_sheet(path, header, rows)
    for line in cells_of(path, delimiter):
        for cell in line:
            # Read with another separator, the pieces of a cell may begin with white space alone.
            assert not runs_as_a_formula(cell if delimiter == "," else cell.lstrip("\t\r\n")), cell
            assert not re.search("[\x00-\x08\x0e-\x1f\ud800-\udfff]", cell)


@settings(max_examples=300)
@given(
    ROWS.filter(lambda sheet: len(sheet[0]) > 1),
    st.sampled_from([(",", "utf-8"), (";", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")]),
)
def test_what_a_spreadsheet_saves_again_comes_back(
    folder: Path, sheet: tuple[list[str], list[list[str]]], form: tuple[str, str]
) -> None:
    header, rows = sheet
    delimiter, encoding = form
    path, again = folder / "first.csv", folder / "again.csv"
    # A column name with separators of its own is quoted by spreadsheets, too.
    header = [f"c{number}" for number in range(len(header))]
    write_sheet(path, header, rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    for line in cells_of(path):
        while len(line) > 1 and not line[-1]:
            line.pop()  # some leave out empty cells at the end
        writer.writerow(line)
    again.write_bytes(text.getvalue().encode(encoding))
    assert read_sheet(again) == [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "text",
    ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", '"=1', "'=1",
     "＝1", "＋1", "－1", "＠x", "\xa0=1", "\u200b=1", "\ufeff=1", "'quoted'", "'"],
)  # fmt: skip
def test_a_dangerous_start_is_disarmed_by_an_apostrophe(text: str) -> None:
    assert protected(text).startswith("'")
    assert plain(protected(text)) == text


@pytest.mark.parametrize("text", ["a;=1+1", "a,\t@x", "line\n-1", 'x", "=1', "a\r\n+1"])
def test_a_formula_behind_a_separator_is_written_out(text: str) -> None:
    assert protected(text).startswith("'\\")
    assert not re.search(rf"[;,\t\n]\W*[{re.escape(SIGNS)}]", protected(text))
    assert plain(protected(text)) == text


@pytest.mark.parametrize(
    "text",
    ["007", "1.10", "1e5", "1E5", "3-4", "1/2", "12:30", "MARCH1", "SEPT2", "2-dec", "Mar 7", "50%",
     "TRUE", "false", "12345678901234567890", "1,000", "00", "12 pm"],
)  # fmt: skip
def test_what_a_spreadsheet_would_rewrite_stays_text(text: str) -> None:
    assert protected(text) == "'" + text


@pytest.mark.parametrize(
    "text", ["", "0", "1", "123456789012345", "a-b", "it's", "i12", "x=1", "ä"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert protected(text) == text


def test_hostile_text_costs_no_time(folder: Path) -> None:
    limit = csv.field_size_limit()
    rows = [["\n" * 300_000], ["1" * 300_000 + "!"], ["'" * 300_000], [";\t" * 150_000 + "="]]
    write_sheet(folder / "long.csv", ["a"], rows)
    assert read_sheet(folder / "long.csv") == [{"a": row[0]} for row in rows]
    assert csv.field_size_limit() == limit, "the limit of this process must stay as it was"


def test_a_cell_that_lost_its_apostrophe_is_still_read(folder: Path) -> None:
    (folder / "bare.csv").write_bytes(b"id;undo\r\n=1+1;x\r\n-5;\r\n")
    assert read_sheet(folder / "bare.csv") == [
        {"id": "=1+1", "undo": "x"},
        {"id": "-5", "undo": ""},
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"a,a\r\n1,2\r\n", "must differ"),
        (b"a,b\r\n1,2,3\r\n", "row 1 .* has 3 cells"),
        (b"\xff\xfei\x00d", "save it as `CSV UTF-8`"),
    ],
)
def test_a_damaged_sheet_says_what_is_wrong(folder: Path, data: bytes, says: str) -> None:
    (folder / "bad.csv").write_bytes(data)
    with pytest.raises(DataError, match=says):
        read_sheet(folder / "bad.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_sheet(folder / "none.csv")


@pytest.mark.parametrize("header", [[], ["a", "a"], ["a", ""]])
def test_columns_need_names(folder: Path, header: list[str]) -> None:
    with pytest.raises(ValueError, match="need names"):
        write_sheet(folder / "unnamed.csv", header, [])
    with pytest.raises(ValueError, match="2 cells"):
        write_sheet(folder / "short.csv", ["a", "b"], [["1"]])
    assert not (folder / "short.csv").exists()


# The changes of a run


@pytest.fixture
def done(work: toy.Work) -> toy.Work:
    """A finished run whose ids, texts and rationales are formulas."""
    rows = [json.loads(line) for line in work.data.read_text(encoding="utf-8").splitlines()]
    lists = {name: [] for name in ("predictions.jsonl", "recorded.jsonl")}
    for name in lists:
        lines = (work.folder / name).read_text(encoding="utf-8").splitlines()
        lists[name] = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        row["id"] = f"=cmd|'{number}'!A0"
        row["text"] = f'@evil\n=HYPERLINK("http://x";"{row["text"]}")'
        for name, lines in lists.items():
            lines[number]["id"] = row["id"]
            if name == "recorded.jsonl":
                lines[number]["rationale"] = "+1; =1"
    work.write_rows(rows)
    for name, lines in lists.items():
        work.write_lines(name, lines)
    lr.relabel(work.job)
    return work


def test_changes_sheet_and_what_is_marked_in_it(done: toy.Work) -> None:
    folder = RunFolder(done.run_folder)
    path = changes_sheet(folder, TASK)
    assert path == done.run_folder / "changes.csv"
    changes = lr.Run(done.run_folder).changes()
    rows = read_sheet(path)
    assert [(row["id"], row["unit"], int(row["round"])) for row in rows] == [
        (change["id"], change["unit"], change["round"]) for change in changes
    ]
    assert [(row["old"], row["new"]) for row in rows] == [(c["old"], c["new"]) for c in changes]
    assert all(row["why"].startswith("+1; =1") for row in rows)
    assert all(row["text"].startswith("@evil =HYPERLINK") for row in rows)
    for delimiter in ",;\t":
        cells = (cell for line in cells_of(path, delimiter) for cell in line)
        assert not any(runs_as_a_formula(cell) for cell in cells)
    assert choices_to_undo(path) == []

    # A person marks two rows and saves as their spreadsheet does.
    marked = cells_of(path)
    marked[1][-1], marked[3][-1], marked[4][-1] = "X", " ja ", "nein"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(marked)
    assert choices_to_undo(path) == [
        (changes[at]["id"], changes[at]["unit"], changes[at]["round"]) for at in (0, 2)
    ]
    # The dataset keeps its cells as they came.
    assert done.lines("dataset.jsonl")[0]["id"] == "=cmd|'0'!A0"


def test_a_sheet_lists_only_what_is_in_force(done: toy.Work) -> None:
    run = lr.Run(done.run_folder)
    first = run.changes()[0]["id"]
    run.rollback(ids=[first])
    assert first not in {row["id"] for row in read_sheet(changes_sheet(RunFolder(run.path), TASK))}


def mark(path: Path, *rows: int, cell: str = "x") -> None:
    """A person opens the sheet, marks rows (from 0) and saves, as Excel does in Germany."""
    lines = cells_of(path)
    for row in rows:
        lines[row + 1][-1] = cell
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(lines)


def test_the_marked_rows_of_a_run_s_sheet_are_undone(done: toy.Work) -> None:
    sheet = done.run_folder / "changes.csv"
    run = lr.Run(done.run_folder)
    before = run.changes()
    mark(sheet, 0, 3)
    undone = done.run("rollback", "run", "--sheet", str(sheet))
    assert undone.returncode == 0, undone.stderr
    assert "2 changes undone" in undone.stdout
    left = [change for number, change in enumerate(before) if number not in (0, 3)]
    assert run.changes() == left
    assert [row["id"] for row in read_sheet(sheet)] == [change["id"] for change in left]
    assert all(row["undo"] == "" for row in read_sheet(sheet))
    labels = {row["id"]: row["label"] for row in done.lines("dataset.jsonl")}
    for number in (0, 3):
        assert labels[before[number]["id"]] == before[number]["old"]
    lr.relabel(done.job)  # it stays undone when the run goes on
    assert run.changes() == left


def test_marks_that_wait_survive_a_run_that_goes_on(done: toy.Work) -> None:
    sheet = done.run_folder / "changes.csv"
    run = lr.Run(done.run_folder)
    changes = run.changes()
    mark(sheet, 1, 2, cell="ja")
    lr.relabel(done.job)
    assert [row["undo"] for row in read_sheet(sheet)][:4] == ["", "ja", "ja", ""]
    # Other choices narrow a sheet, and what they leave stays marked.
    assert run.rollback(sheet=sheet, ids=[changes[1]["id"]]) == 1
    assert [row["undo"] for row in read_sheet(sheet)][:3] == ["", "ja", ""]
    sheet.write_bytes(b"id,text\r\n1,gr\xfcn,\r\n")
    lr.relabel(done.job)
    assert len(read_sheet(sheet)) == len(changes) - 1
    assert b"gr\xfcn" in (done.run_folder / "changes.unread.csv").read_bytes()


def test_a_sheet_that_does_not_fit_undoes_nothing(done: toy.Work) -> None:
    sheet, log = done.run_folder / "changes.csv", done.run_folder / "changes.jsonl"
    before = log.read_bytes()
    run = lr.Run(done.run_folder)
    with pytest.raises(RunError, match="no row is marked"):
        run.rollback(sheet=sheet)
    mark(sheet, 0)
    # As when a spreadsheet rewrote an id, or the sheet is another run's.
    sheet.write_bytes(sheet.read_bytes().replace(b"'=cmd|'0'!A0", b"#NAME?"))
    refused = done.run("rollback", "run", "--sheet", str(sheet))
    assert refused.returncode == 2
    assert "1 of the 1 marked rows" in refused.stderr
    assert "'#NAME?'" in refused.stderr
    missing = done.run("rollback", "run", "--sheet", "nowhere.csv")
    assert (missing.returncode, "cannot be read" in missing.stderr) == (2, True)
    assert log.read_bytes() == before


def test_values_of_any_kind_are_shown(tmp_path: Path) -> None:
    line = {"kind": "change", "round": 1, "source": "judge", "judge": None, "why": "w " * 900}
    values = [
        ("u0", None, "NUM"), ("class:u1", True, False), ("u2", ["a", "b"], []), ("u3", "-1", "007"),
    ]  # fmt: skip
    lines = [
        {**line, "id": f"{n}", "unit": unit, "old": old, "new": new}
        for n, (unit, old, new) in enumerate(values)
    ]
    folder = RunFolder(tmp_path)
    folder.append_changes(lines)
    rows = read_sheet(changes_sheet(folder, TASK))
    shown = [(row["unit"], row["old"], row["new"]) for row in rows]
    assert shown == [
        ("u0", "(no label)", "NUM"),
        ("class:u1", "with u1", "without u1"),
        ("u2", "a, b", "(none applies)"),
        ("u3", "-1", "007"),
    ]
    assert len(rows[0]["why"]) < 1010
    assert tuple(rows[0]) == CHANGES_HEADER


@pytest.mark.parametrize(
    ("cell", "says"),
    [("perhaps", "undo is 'perhaps'; write x into `undo`"), ("x", "round is 'one'")],
)
def test_a_mark_that_nobody_defined_is_an_error(tmp_path: Path, cell: str, says: str) -> None:
    path = tmp_path / "s.csv"
    write_sheet(path, ["id", "unit", "round", "undo"], [["i1", "label", "one", cell]])
    with pytest.raises(DataError, match=says):
        choices_to_undo(path)
    write_sheet(path, ["id", "unit"], [["i1", "label"]])
    with pytest.raises(DataError, match="has no column round, undo"):
        choices_to_undo(path)
