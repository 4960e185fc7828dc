"""Labels that are spread over columns, one a class, each cell 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.config.job import DataSection
from llm_relabel.data.cells import Aliases, Cells
from llm_relabel.data.label_cells import LabelCells, class_counts, label_array
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import Cell, Source, is_missing
from llm_relabel.units import LabelValue

_TRUE, _FALSE = ("1", "1.0", "true", "yes", "y", "x"), ("0", "0.0", "false", "no", "n")
_OTHER = {"1": "0", "1.0": "0.0", "true": "false", "yes": "no", "y": "n", "x": ""}
_NOT_ONE_HOT = (
    "a cell of the label columns is neither 0 nor 1; where they hold labels of several "
    "annotators, name one of them as data.label"
)


class OneHotCells:
    """Reads the label columns of a dataset, and keeps to the spelling of 0 and 1 when writing.

    A row without any value has no label. Rows that all have exactly one class are `exclusive`.
    `missing` are the values, as text, that mean "not known".
    """

    takes_words = False

    def __init__(self, columns: Sequence[str], missing: frozenset[str]) -> None:
        self.column = ", ".join(columns)
        self.class_names: tuple[str, ...] | None = tuple(columns)
        self._columns = columns
        self._missing = missing
        self._spelled: dict[tuple[str, bool], Cell] = {}
        self.exclusive = True

    @property
    def multi_label(self) -> bool:
        """Whether a row can have any number of the labels."""
        return not self.exclusive

    @property
    def kind(self) -> str:
        """What the cells hold."""
        return "lists" if self.multi_label else "single labels"

    def read(
        self,
        cells: Sequence[Sequence[Cell]],
        places: Sequence[int],
        problems: Problems,
        texts: Sequence[str] = (),  # noqa: ARG002 - a class does not depend on the text
    ) -> list[list[str] | None]:
        """The classes of each row; `cells` are (rows, columns)."""
        return [
            self._read_one(row, place, problems) for row, place in zip(cells, places, strict=True)
        ]

    def _read_one(self, row: Sequence[Cell], place: int, problems: Problems) -> list[str] | None:
        if all(map(is_missing, row)) or any(str(cell) in self._missing for cell in row):
            return None
        found = []
        for name, cell in zip(self._columns, row, strict=True):
            word = "" if is_missing(cell) else str(cell).strip().lower()
            if word not in (*_TRUE, *_FALSE, ""):
                detail = f"{name!r} is {str(cell)[:40]!r}"
                problems.row(_NOT_ONE_HOT, place, about=name, detail=detail)
                return None
            if word in _TRUE:
                found.append(name)
            if word or (name, False) not in self._spelled:
                key = (name, word in _TRUE)
                if is_missing(self._spelled.get(key)):
                    self._spelled[key] = cell
        self.exclusive &= len(found) == 1
        return found

    def check(self, problems: Problems) -> None:
        """Nothing shows only after the last row."""

    def array(self, labels: list[Any]) -> pa.Array:
        """Lists of text as Arrow."""
        return label_array(labels)

    def joined(self, parts: Sequence[pa.Array]) -> pa.ChunkedArray:
        """All parts as one column, of single labels where every row has exactly one."""
        lists = pa.list_(pa.string())
        whole = [p if p.type == lists else pa.nulls(len(p), lists) for p in parts]
        if not self.exclusive:
            return pa.chunked_array(whole, lists)
        none = pa.string()
        one = [
            pc.list_element(part, 0) if len(part) > part.null_count else pa.nulls(len(part), none)
            for part in whole
        ]
        return pa.chunked_array(one, pa.string())

    def counts(self, labels: pa.ChunkedArray) -> dict[str, int]:
        """How many rows have each class."""
        return class_counts(labels)

    def columns(
        self,
        changes: Mapping[int, LabelValue],
        texts: Mapping[int, str],  # noqa: ARG002
    ) -> dict[int, dict[str, Cell]]:
        """The new cells of the rows in `changes`, by column."""
        written: dict[int, dict[str, Cell]] = {}
        for row, value in changes.items():
            members = (value,) if isinstance(value, str) else value
            written[row] = {
                name: None if members is None else self._cell(name, name in members)
                for name in self._columns
            }
        return written

    def _cell(self, name: str, present: bool) -> Cell:
        if (name, present) in self._spelled:
            return self._spelled[name, present]
        for (_, value), cell in self._spelled.items():  # as another column has it
            if value == present and type(cell) is type(self._spelled.get((name, not present))):
                return cell
        return _counterpart(self._spelled.get((name, not present), 0), present)


def _counterpart(cell: Cell, present: bool) -> Any:
    """1 in the spelling of a column that holds only 0, and the other way round."""
    if not isinstance(cell, str):
        return type(cell)(present) if cell is not None else int(present)
    word = cell.strip().lower()
    pairs = {false: true for true, false in _OTHER.items()} if present else _OTHER
    other = pairs.get(word, "1" if present else "0")
    return other.capitalize() if cell[:1].isupper() else other


def class_cells(
    section: DataSection, source: Source, columns: tuple[str, ...], aliases: Aliases
) -> Cells:
    """Cells that hold classes: one or several in a column, or a column for each class."""
    missing = frozenset(section.missing or ())
    if len(columns) > 1:
        return OneHotCells(columns, missing)
    names = source.class_names(columns[0])
    return LabelCells(columns[0], names, aliases, missing, section.label_separator)
