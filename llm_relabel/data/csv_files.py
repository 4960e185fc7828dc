"""CSV and TSV files with a header row, read in Python's own csv dialect."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from llm_relabel.data.csv_cells import RecordEditor
from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import copy_unchanged
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell
from llm_relabel.data.text_file import TextFile
from llm_relabel.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
# The largest that fits a C long everywhere; the default of 131,072 refuses long documents.
_LARGEST_CELL = 2**31 - 1


class CsvFile:
    """A delimited file. Blank lines are no rows; they are kept where they are."""

    unit = "row"

    def __init__(
        self, path: Path, encoding: str | None, delimiter: str | None, expected: Sequence[str]
    ) -> None:
        csv.field_size_limit(_LARGEST_CELL)
        self.name = path.name
        self.suffix = path.suffix
        self._file = TextFile(path, encoding)
        if delimiter is None and path.suffix.lower() == ".tsv":
            delimiter = "\t"
        if delimiter is not None and delimiter in '"\r\n':
            raise DataError(
                f"data.delimiter {delimiter!r} cannot separate cells; common ones are "
                f"{', '.join(map(repr, DELIMITERS))}, and without the key the file is looked at"
            )
        self._editor = RecordEditor(delimiter or self._sniffed(expected))
        self._header: list[str] = []

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        with self._file.open(newline="") as text:
            records = self._records(text)
            self._header, last = next(records, ([], ()))
            self._check_header(problems)
            width = len(self._header)
            indexes = {c: self._header.index(c) for c in wanted if c in self._header}
            place, first, size = 0, 1, 0
            rows: list[list[str]] = []
            for record, raw in records:
                if not record:
                    break
                place, last = place + 1, raw
                if len(record) > width:
                    detail = f"{len(record)} cells under {width} columns"
                    problems.row("too many cells", place, detail=detail)
                rows.append(record)
                size += sum(map(len, raw))
                if len(rows) >= BATCH_ROWS or size > BATCH_CHARACTERS:
                    yield _batch(first, rows, wanted, indexes)
                    first, size = place + 1, 0
                    rows = []
            if rows:
                yield _batch(first, rows, wanted, indexes)
            if self._editor.ends_open("".join(last)):
                problems.row(
                    'a cell opens with a quote " that never closes and takes the rest of the file',
                    place,
                )

    def columns(self) -> Sequence[str]:
        return self._header

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - all CSV is text
        return None

    def sha256(self) -> str:
        return self._file.sha256()

    def save(self, target: Path, label: str, cells: Mapping[int, Cell], sha256: str) -> None:
        if not cells:
            copy_unchanged(self._file.path, target, sha256)
            return
        for value in cells.values():
            if value is not None and not self._file.encodes(value):
                raise DataError(
                    f"the label {value!r} cannot be written to {self.name!r}: its encoding "
                    f"{self._file.codec} lacks a character of it"
                )
        self._file.rewrite(target, self._pieces(label, cells), sha256)

    def _pieces(self, label: str, cells: Mapping[int, Cell]) -> Iterator[tuple[str, str]]:
        with self._file.open(newline="") as text:
            records = self._records(text)
            header, lines = next(records)
            index = header.index(label)
            raw = "".join(lines)
            yield raw, raw
            for row, (record, lines) in enumerate(records):
                old = new = "".join(lines)
                if record and row in cells:
                    try:
                        new = self._editor.replaced(old, record, index, cells[row] or "")
                    except ValueError as error:
                        raise DataError(
                            f"the dataset {self.name!r}, row {row + 1}: {error}; write the file "
                            "again with a CSV library"
                        ) from error
                yield old, new

    def _records(self, text: Iterable[str]) -> Iterator[tuple[list[str], tuple[str, ...]]]:
        """(cells, raw lines) of each record that is not blank, then ([], the blank rest)."""
        taken: list[str] = []

        def tape() -> Iterator[str]:
            for line in text:
                taken.append(line)
                yield line

        reader = csv.reader(tape(), delimiter=self._editor.delimiter)
        try:
            for record in reader:
                if record:
                    yield record, tuple(taken)
                    taken.clear()
        except csv.Error as error:
            raise DataError(
                f"the dataset {self.name!r} is not readable as CSV at line {reader.line_num}: "
                f"{error}"
            ) from error
        if taken:
            yield [], tuple(taken)

    def _check_header(self, problems: Problems) -> None:
        # Nameless columns are common (an index, a trailing delimiter) and harmless.
        named = [name for name in self._header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            problems.whole(f"the header names a column twice: {', '.join(map(repr, twice))}")

    def _sniffed(self, expected: Sequence[str]) -> str:
        """The delimiter whose header has most of the expected columns, else most columns."""

        def fit(delimiter: str) -> tuple[int, int]:
            with self._file.open(newline="") as text:
                try:
                    header = next(filter(None, csv.reader(text, delimiter=delimiter)), [])
                except csv.Error:
                    return (0, 0)
            return (len(set(expected) & set(header)), len(header))

        return max(DELIMITERS, key=fit)


def _batch(
    first: int, rows: list[list[str]], wanted: Sequence[str], indexes: Mapping[str, int]
) -> Batch:
    cells: dict[str, list[Cell]] = {}
    for column in wanted:
        at = indexes.get(column)
        # A record shorter than the header lacks its last cells.
        cells[column] = [row[at] if at is not None and at < len(row) else None for row in rows]
    return Batch(range(first, first + len(rows)), cells)
