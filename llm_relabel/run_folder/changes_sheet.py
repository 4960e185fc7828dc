"""The sheet of all changes in force, for people: what they mark in it is undone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_relabel.errors import DataError
from llm_relabel.files.sheets import read_sheet, write_sheet
from llm_relabel.run_folder.changes import in_force
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks import Task

CHANGES_SHEET = "changes.csv"
UNREAD_SHEET = "changes.unread.csv"
CHANGES_HEADER = ("id", "unit", "round", "old", "new", "source", "judge", "why", "text", "undo")
YES = frozenset(("x", "✓", "✔", "1", "undo", "yes", "y", "true", "ja", "j", "wahr", "oui", "vrai"))
NO = frozenset(("", "-", "0", "keep", "no", "n", "false", "nein", "falsch", "non", "faux"))
LONGEST = 1000  # characters of a text that only people read; a spreadsheet's cell ends at 32,767


def changes_sheet(run: RunFolder, task: Task, delimiter: str = ",") -> Path:
    """Write `changes.csv` into the run folder: one row for each change in force, none undone.

    What a person wrote into `undo` of the sheet that is there stays in the new one; a sheet that
    cannot be read is put aside as `changes.unread.csv`.
    """
    standing = in_force(run.changes())
    texts = run.excerpts({line["id"] for line in standing})
    path = run.path / CHANGES_SHEET
    marks = _marks(path)
    rows = (_cells(line, task, texts.get(line["id"], ""), marks) for line in standing)
    write_sheet(path, CHANGES_HEADER, rows, delimiter)
    return path


def choices_to_undo(path: Path) -> list[tuple[str, str, int]]:
    """(id, unit, round) of each row whose `undo` cell says yes, in the sheet's order.

    Raises DataError where a column is missing, or where a cell is neither of YES nor of NO.
    """
    rows = read_sheet(path)
    if rows and (missing := {"id", "unit", "round", "undo"} - rows[0].keys()):
        raise DataError(f"the sheet {str(path)!r} has no column {', '.join(sorted(missing))}")
    chosen = []
    for number, row in enumerate(rows, start=1):
        word = row["undo"].strip().casefold()
        if word in NO:
            continue
        if word not in YES or not row["round"].strip().isdecimal():
            wrong = "undo" if word not in YES else "round"
            raise DataError(
                f"row {number} of the sheet {str(path)!r} (id {row['id']!r}): {wrong} is "
                f"{row[wrong]!r}; write x into `undo` to undo a change, leave it empty to keep it, "
                "and leave the other columns as they are"
            )
        chosen.append((row["id"], row["unit"], int(row["round"])))
    return chosen


def _marks(path: Path) -> dict[tuple[str, ...], str]:
    """The `undo` cells of the sheet at `path`, by id, unit and round."""
    if not path.exists():
        return {}
    try:
        rows = read_sheet(path)
        return {tuple(row[name] for name in CHANGES_HEADER[:3]): row["undo"] for row in rows}
    except (DataError, KeyError):
        path.replace(path.with_name(UNREAD_SHEET))  # a person's work may be in it
        return {}


def _cells(
    line: Mapping[str, Any], task: Task, text: str, marks: Mapping[tuple[str, ...], str]
) -> list[str]:
    where = [line["id"], line["unit"], str(line["round"])]
    old, new = (task.show_unit(line["unit"], line[name]) for name in ("old", "new"))
    return [
        *where,
        old,
        new,
        line["source"],
        line["judge"] or "",
        _cut(line["why"]),
        _cut(text),
        marks.get(tuple(where), ""),
    ]


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else flat[:LONGEST] + " ..."
