"""JSON Lines, and JSON files that hold one array of objects."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.data.json_cells import elements, replace_value, skip_space
from llm_relabel.data.nested import THROUGH_A_LIST, ThroughList, names_in, value_at
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell, Edits
from llm_relabel.data.text_file import TextFile
from llm_relabel.errors import DataError

# A file that uses data as keys would grow the list of columns without bound.
_MOST_COLUMNS = 1000
_NO_OBJECT = "not a JSON object"
_TOO_DEEP = "nested too deeply"


class _JsonFile(ABC):
    """What both JSON formats share: rows become cells, and columns are the keys seen."""

    unit: str

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.name = path.name
        self._file = TextFile(path, encoding)
        self.suffix = self._file.suffix
        self._seen: dict[str, None] = {}
        self._outer: set[str] = set()

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        places: list[int] = []
        rows: list[dict[str, Any]] = []
        size = 0
        seen = self._seen
        for place, length, row in self._rows(problems):
            if not isinstance(row, dict):
                problems.row(_NO_OBJECT, place, detail=f"found {_shown(row)}")
                continue
            if not row.keys() <= seen.keys() or any(type(value) is dict for value in row.values()):
                few = len(seen) < _MOST_COLUMNS
                self._outer.update(key for key in row if few or key in wanted)
                seen.update(dict.fromkeys(n for n in names_in(row) if few or n in wanted))
            places.append(place)
            rows.append(row)
            size += length
            if len(rows) >= BATCH_ROWS or size > BATCH_CHARACTERS:
                yield _batch(places, rows, wanted, problems)
                places, rows, size = [], [], 0
        if rows:
            yield _batch(places, rows, wanted, problems)

    def columns(self) -> Sequence[str]:
        return list(self._seen)

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - JSON has no class columns
        return None

    def sha256(self) -> str:
        return self._file.sha256()

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            self._file.copy(target, sha256)
        else:
            self._file.rewrite(target, self._pieces(cells), sha256)

    def _edited(self, text: str, cells: Mapping[str, Cell]) -> str:
        for column, cell in cells.items():
            path = [column] if column in self._outer else column.split(".")
            text = replace_value(text, path, cell, self._file.encodes)
        return text

    @abstractmethod
    def _rows(self, problems: Problems) -> Iterator[tuple[int, int, Any]]:
        """(place, characters, value) of each row that can be parsed."""

    @abstractmethod
    def _pieces(self, cells: Edits) -> Iterator[tuple[str, str]]:
        """The whole text as (old, new) pieces."""


class JsonLines(_JsonFile):
    """One object a line. Blank lines are no rows; they are kept where they are."""

    unit = "line"

    def _rows(self, problems: Problems) -> Iterator[tuple[int, int, Any]]:
        with self._file.open(newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if line.isspace():
                    continue
                try:
                    yield number, len(line), json.loads(line)
                except json.JSONDecodeError as error:
                    detail = f"column {error.pos + 1}: {error.msg}"
                    problems.row("broken JSON", number, detail=detail)
                except (ValueError, RecursionError) as error:
                    problems.row("broken JSON", number, detail=_reason(error))

    def _pieces(self, cells: Edits) -> Iterator[tuple[str, str]]:
        row = 0
        with self._file.open(newline="\n") as lines:
            for line in lines:
                new = line
                if not line.isspace():
                    if row in cells:
                        new = self._edited(line, cells[row])
                    row += 1
                yield line, new


class JsonArray(_JsonFile):
    """One array of objects. The text is held whole, the objects are not."""

    unit = "row"

    def _rows(self, problems: Problems) -> Iterator[tuple[int, int, Any]]:
        text = self._file.read()
        if not text.strip():
            return
        start = skip_space(text, 0)
        if text.startswith("{", start):
            raise DataError(
                f"the dataset {self.name!r} must be an array of objects, [{{...}}, {{...}}], and "
                "it begins with an object; if it holds one object a line, name it .jsonl"
            )
        found = elements(text)
        place = 0
        while True:
            try:
                start, end, value = next(found)
            except StopIteration:
                return
            except json.JSONDecodeError as error:
                problems.whole(
                    f"broken JSON at line {error.lineno}, column {error.colno} "
                    f"(after {place:,} rows): {error.msg}"
                )
                return
            except (ValueError, RecursionError) as error:
                problems.whole(f"broken JSON in row {place + 1}: {_reason(error)}")
                return
            place += 1
            yield place, end - start, value

    def _pieces(self, cells: Edits) -> Iterator[tuple[str, str]]:
        text = self._file.read()
        done = 0
        for row, (start, end, _) in enumerate(elements(text)):
            if row in cells:
                same = text[done:start]
                yield same, same
                old = text[start:end]
                yield old, self._edited(old, cells[row])
                done = end
        rest = text[done:]
        yield rest, rest


def _batch(
    places: Sequence[int], rows: Sequence[Mapping[str, Any]], wanted: Sequence[str],
    problems: Problems,
) -> Batch:  # fmt: skip
    cells: dict[str, list[Cell]] = {}
    for column in wanted:
        if "." not in column:
            cells[column] = [row.get(column) for row in rows]
            continue
        found = cells[column] = []
        for place, row in zip(places, rows, strict=True):
            try:
                found.append(value_at(row, column))
            except ThroughList:
                problems.row(f"{column!r} {THROUGH_A_LIST}", place)
                found.append(None)
    return Batch(places, cells)


def _reason(error: Exception) -> str:
    return _TOO_DEEP if isinstance(error, RecursionError) else str(error)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
