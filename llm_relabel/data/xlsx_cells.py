"""Cells of a workbook's sheet, found in its XML by place and replaced; every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from llm_relabel.data.source import Cell

# Characters that XML cannot hold, as Office writes them: _xHHHH_.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass
class _Place:
    """One cell element: the bytes it takes, and its attributes."""

    start: int
    end: int
    name: str
    attributes: Mapping[str, str]


@dataclass
class _Row:
    """One row element: its cells by column (from 1), and where its closing tag begins."""

    number: int
    name: str
    cells: dict[int, _Place]
    end: int = 0


def replaced(sheet: bytes, cells: Mapping[int, Mapping[int, Cell]]) -> bytes:
    """The XML of a sheet with other cells, by row number and column number, both from 1."""
    pieces, done = list[bytes](), 0
    for row in _rows(sheet, cells):
        for column, cell in sorted(cells[row.number].items()):
            place = row.cells.get(column)
            if place is None:
                # Cells stand in the order of their columns; a new one goes before the next.
                later = [each.start for at, each in row.cells.items() if at > column]
                start = end = min(later, default=row.end)
                prefix = row.name[: -len("row")]
                found = _element(prefix + "c", {"r": f"{letters(column)}{row.number}"}, cell)
            else:
                start, end = place.start, place.end
                found = _element(place.name, place.attributes, cell)
            pieces += [sheet[done:start], found.encode()]
            done = end
    return b"".join([*pieces, sheet[done:]])


def letters(column: int) -> str:
    """The name of a column, from 1: A, B, ..., Z, AA."""
    name = ""
    while column:
        column, left = divmod(column - 1, 26)
        name = chr(ord("A") + left) + name
    return name


def column_of_reference(reference: str) -> int:
    """The number of the column, from 1, in a reference such as `AB12`."""
    number = 0
    for letter in reference:
        if not letter.isalpha():
            break
        number = 26 * number + ord(letter.upper()) - ord("A") + 1
    return number


def _element(name: str, attributes: Mapping[str, str], cell: Cell) -> str:
    """A cell element with a new value; of the old one its place and its style stay."""
    kept = {key: value for key, value in attributes.items() if key in ("r", "s", "cm", "ph")}
    prefix = name[:-1]
    if isinstance(cell, bool):
        kept["t"], inner = "b", f"<{prefix}v>{int(cell)}</{prefix}v>"
    elif isinstance(cell, int | float):
        inner = f"<{prefix}v>{cell!r}</{prefix}v>"
    elif cell is None:
        inner = ""
    else:
        text = escape(_UNWRITABLE.sub(lambda m: f"_x{ord(m[0]):04X}_", str(cell)))
        kept["t"] = "inlineStr"
        inner = f'<{prefix}is><{prefix}t xml:space="preserve">{text}</{prefix}t></{prefix}is>'
    opening = name + "".join(f" {key}={quoteattr(value)}" for key, value in kept.items())
    return f"<{opening}>{inner}</{name}>" if inner else f"<{opening}/>"


def _rows(sheet: bytes, wanted: Mapping[int, Any]) -> Iterator[_Row]:
    """The wanted rows, in order. The whole sheet is parsed: rows and cells may have no numbers."""
    found: list[_Row] = []
    parser = expat.ParserCreate()
    state: dict[str, Any] = {"row": None, "number": 0, "column": 0, "cell": None}

    def begin(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local == "row":
            state["number"] = int(attributes.get("r", state["number"] + 1))
            state["row"] = _Row(state["number"], name, {})
            state["column"] = 0
        elif local == "c" and state["row"] is not None:
            reference = attributes.get("r")
            state["column"] = column_of_reference(reference) if reference else state["column"] + 1
            state["cell"] = (parser.CurrentByteIndex, name, attributes)

    def end(name: str) -> None:
        local, row = name.rpartition(":")[2], state["row"]
        if local == "c" and state["cell"] is not None:
            start, cell_name, attributes = state["cell"]
            closed = sheet.index(b">", parser.CurrentByteIndex) + 1
            row.cells[state["column"]] = _Place(start, closed, cell_name, attributes)
            state["cell"] = None
        elif local == "row" and row is not None:
            row.end = parser.CurrentByteIndex
            if row.number in wanted:
                found.append(row)
            state["row"] = None

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.Parse(sheet, True)
    yield from found
