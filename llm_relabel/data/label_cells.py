"""Label cells of any type become text, and text becomes a cell of the column's type again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.data.problems import Problems
from llm_relabel.data.source import Cell, is_missing
from llm_relabel.data.written_lists import NONE, WrittenLists
from llm_relabel.errors import DataError

# Written any other way, a number would come back as another name.
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_KINDS: dict[type, str] = {str: "text", bool: "true/false", int: "number", float: "number"}


class LabelCells:
    """Learns a label column's type while it is read, and keeps to it when writing.

    `class_names` are the names behind an integer class column, or None; `aliases` the class
    behind each other spelling; `missing` the values, as text, that mean "no label"; `separator`
    is `data.label_separator`.
    """

    takes_words = False

    def __init__(
        self,
        column: str,
        class_names: tuple[str, ...] | None,
        aliases: Mapping[str, str],
        missing: frozenset[str] = frozenset(),
        separator: str | None = None,
    ) -> None:
        self.column = column
        self._missing = missing
        self._written = WrittenLists(separator) if separator not in (None, NONE) else None
        self._aliases = aliases
        self.class_names = class_names
        self._kinds: set[str] = set()
        self._float = False
        self._lists = 0
        self._scalars = 0
        self._first: dict[str, int] = {}

    @property
    def multi_label(self) -> bool:
        """Whether the cells are lists."""
        return self._lists > 0 or self._written is not None

    @property
    def kind(self) -> str:
        """What the cells hold."""
        return "lists" if self.multi_label else "single labels"

    def read(
        self,
        cells: Sequence[Cell],
        places: Sequence[int],
        problems: Problems,
        texts: Sequence[str] = (),  # noqa: ARG002 - a class does not depend on the text
    ) -> list[Any]:
        """Text, list of text, or None for each cell; what cannot be read goes to `problems`."""
        return [
            self._read_one(cell, place, problems) for cell, place in zip(cells, places, strict=True)
        ]

    def _read_one(self, cell: Cell, place: int, problems: Problems) -> Any:
        if self._written is not None and not isinstance(cell, list | tuple):
            if self._is_missing(cell):
                return None
            try:
                cell = self._written.parts(cell if isinstance(cell, str) else str(cell))
            except ValueError as error:
                message = f"{self.column!r} holds no list as data.label_separator says ({error})"
                problems.row(message, place, about=self.column, detail=repr(cell)[:40])
                return None
        if isinstance(cell, list | tuple):
            self._lists += 1
            self._first.setdefault("list", place)
            texts = [self._text(part, place, problems) for part in cell]
            return list(dict.fromkeys(text for text in texts if text is not None))
        text = self._text(cell, place, problems)
        if text is not None:
            self._scalars += 1
            self._first.setdefault("single", place)
        return text

    def _text(self, cell: Cell, place: int, problems: Problems) -> str | None:
        text = self._as_written(cell, place, problems)
        return text if text is None else self._aliases.get(text, text)

    def _as_written(self, cell: Cell, place: int, problems: Problems) -> str | None:
        if self._is_missing(cell):
            return None
        if self.class_names is not None and type(cell) is int:
            if cell == -1:  # how `datasets` marks a label that is not known
                return None
            if not 0 <= cell < len(self.class_names):
                message = f"{self.column!r} is not a class number of 0..{len(self.class_names) - 1}"
                problems.row(message, place, about=self.column, detail=repr(cell))
                return None
            return self.class_names[cell]
        kind = _KINDS.get(type(cell))
        if kind is None or (isinstance(cell, float) and not cell.is_integer()):
            message = f"{self.column!r} holds no label (text, a whole number, true or false)"
            problems.row(message, place, about=self.column, detail=repr(cell)[:40])
            return None
        self._kinds.add(kind)
        self._first.setdefault(kind, place)
        if isinstance(cell, str):
            return cell if cell.isascii() else without_surrogates(cell)
        if isinstance(cell, bool):
            return "true" if cell else "false"
        self._float |= isinstance(cell, float)
        return str(int(cell))

    def _is_missing(self, cell: Cell) -> bool:
        if is_missing(cell):
            return True
        if not self._missing or isinstance(cell, list | tuple | dict):
            return False
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)
        return (str(cell).lower() if isinstance(cell, bool) else str(cell)) in self._missing

    def check(self, problems: Problems) -> None:
        """After the last row: a column must hold one type, and only lists or no lists."""
        first = {kind: f"first at {problems.unit} {place}" for kind, place in self._first.items()}
        if self._lists and self._scalars:
            problems.whole(
                f"{self.column!r} mixes lists ({self._lists:,}, {first['list']}) and single labels "
                f"({self._scalars:,}, {first['single']}); multi-label data has a list in every row"
            )
        if len(self._kinds) > 1:
            told = ", ".join(f"{kind} ({first[kind]})" for kind in sorted(self._kinds))
            problems.whole(f"{self.column!r} mixes types: {told}; make them one type")

    def array(self, labels: list[Any]) -> pa.Array:
        """Text or lists of text as Arrow."""
        return label_array(labels)

    def joined(self, parts: Sequence[pa.Array]) -> pa.ChunkedArray:
        """All parts as one column."""
        kind = pa.list_(pa.string()) if self.multi_label else pa.string()
        return pa.chunked_array(
            [part if part.type == kind else pa.nulls(len(part), kind) for part in parts], kind
        )

    def counts(self, labels: pa.ChunkedArray) -> dict[str, int]:
        """How many rows have each class."""
        return class_counts(labels)

    def columns(
        self,
        changes: Mapping[int, Any],
        texts: Mapping[int, str],  # noqa: ARG002
    ) -> dict[int, dict[str, Cell]]:
        """The new cells of the rows in `changes`, by column."""
        return {row: {self.column: self.cell(value)} for row, value in changes.items()}

    def cell(self, value: Any) -> Cell:
        """What `read` gave as a cell again. Raises DataError where it does not fit the type."""
        if isinstance(value, list | tuple):
            if self._written is not None:
                return self._written.text(tuple(value))
            return [self._cell(name) for name in value]
        return None if value is None else self._cell(value)

    def _cell(self, name: str) -> Cell:
        if self.class_names is not None:
            if name in self.class_names:
                return self.class_names.index(name)
            raise DataError(
                f"the label {name!r} cannot be written: {self.column!r} holds class numbers, and "
                f"its classes are {', '.join(self.class_names[:10])}"
            )
        kind = next(iter(self._kinds), "text")
        if kind == "number" and _WHOLE.fullmatch(name):
            return float(name) if self._float else int(name)
        if kind == "true/false" and name in ("true", "false"):
            return name == "true"
        if kind == "text":
            return name
        raise DataError(
            f"the label {name!r} cannot be written: {self.column!r} holds {kind} values"
        )


def without_surrogates(text: str) -> str:
    """Lone surrogates replaced by U+FFFD: they are legal in JSON and in nothing that follows."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def label_array(labels: list[Any]) -> pa.Array:
    """Text, or lists of text, as Arrow; nulls where both are mixed, which `check` tells."""
    lists = any(isinstance(value, list) for value in labels)
    kind = pa.list_(pa.string()) if lists else pa.string()
    try:
        return pa.array(labels, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.nulls(len(labels), kind)


def class_counts(labels: pa.ChunkedArray) -> dict[str, int]:
    """How many rows have each class, of a column of classes or of lists of them."""
    flat = pc.list_flatten(labels) if pa.types.is_list(labels.type) else labels
    pairs = pc.value_counts(flat.drop_null()).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}
