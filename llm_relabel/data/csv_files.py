"""CSV and TSV files: Python's own csv dialect, and a cell replaced inside its raw record."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import copy_unchanged
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell
from llm_relabel.data.text_file import TextFile
from llm_relabel.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
# The largest that fits a C long everywhere; the default of 131,072 refuses long documents.
_LARGEST_FIELD = 2**31 - 1


class CsvFile:
    """A delimited file with a header. Blank lines are no rows; they are kept where they are."""

    unit = "row"

    def __init__(
        self, path: Path, encoding: str | None, delimiter: str | None, expected: Sequence[str]
    ) -> None:
        csv.field_size_limit(_LARGEST_FIELD)
        self.name = path.name
        self.suffix = path.suffix
        self._file = TextFile(path, encoding)
        if delimiter is None and path.suffix.lower() == ".tsv":
            delimiter = "\t"
        self.delimiter = delimiter or self._sniffed(expected)
        self._header: list[str] = []
        self._field = _field_pattern(self.delimiter)

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        with self._file.open(newline="") as text:
            tape = _Tape(text)
            records = self._records(tape)
            self._header = next(records, [])
            tape.take()
            self._check_header(problems)
            width = len(self._header)
            indexes = {c: self._header.index(c) for c in wanted if c in self._header}
            absent = [column for column in wanted if column not in indexes]
            place = 0
            raw = ""
            while True:
                size = 0
                rows: list[list[str]] = []
                for row in records:
                    raw = tape.take()
                    size += len(raw)
                    rows.append(row)
                    if len(row) > width:
                        detail = f"{len(row)} cells under {width} columns"
                        problems.row("too many cells", place + len(rows), detail=detail)
                    if len(rows) >= BATCH_ROWS or size > BATCH_CHARACTERS:
                        break
                if not rows:
                    break
                cells: dict[str, list[Cell]] = {
                    column: [row[at] if at < len(row) else None for row in rows]
                    for column, at in indexes.items()
                }
                cells.update((column, [None] * len(rows)) for column in absent)
                yield Batch(range(place + 1, place + len(rows) + 1), cells)
                place += len(rows)
            if raw and self._open_quote(raw):
                problems.row(
                    'a cell opens with a quote " that never closes, and swallows the rest of '
                    "the file",
                    place,
                )

    def columns(self) -> Sequence[str]:
        return self._header

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - CSV has no class columns
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
            tape = _Tape(text)
            records = self._records(tape)
            index = next(records).index(label)
            header = tape.take()
            yield header, header
            for row, record in enumerate(records):
                raw = tape.take()
                if row not in cells:
                    yield raw, raw
                    continue
                # Blank lines before the record were taken with it.
                blank = len(raw) - len(raw.lstrip("\r\n")) if record[0] or len(record) > 1 else 0
                value = cells[row] or ""
                new = raw[:blank] + self._replaced(raw[blank:], record, index, value)
                yield raw, new
            rest = tape.take()
            yield rest, rest

    def _replaced(self, raw: str, record: list[str], index: int, value: str) -> str:
        """The raw record with the cell at `index` now `value`."""
        body = raw.rstrip("\r\n")
        ending = raw[len(body) :]
        missing = index - len(record) + 1
        if missing > 0:
            new = body + self.delimiter * missing + self._quoted(value, always=False)
        else:
            start, end = next(islice(self._spans(body), index, None))
            always = body.startswith('"', start)
            new = body[:start] + self._quoted(value, always=always) + body[end:]
        padded = record + [""] * missing
        expected = [*padded[:index], value, *padded[index + 1 :]]
        # The scanner above and the reader must agree, or a neighbour could be damaged.
        if list(self._parsed(io.StringIO(new, newline=""))) != [expected]:
            raise DataError(
                f"the dataset {self.name!r} has a record whose quotes cannot be kept: "
                f"{body[:80]!r}; write the file again with a CSV library"
            )
        return new + ending

    def _spans(self, body: str) -> Iterator[tuple[int, int]]:
        at = 0
        while True:
            found = self._field.match(body, at)
            assert found is not None, "the pattern matches the empty string"
            yield found.span()
            if found.end() >= len(body):
                return
            at = found.end() + 1

    def _quoted(self, value: str, *, always: bool) -> str:
        if always or re.search(rf'["\r\n{re.escape(self.delimiter)}]', value):
            return '"' + value.replace('"', '""') + '"'
        return value

    def _parsed(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return iter(csv.reader(lines, delimiter=self.delimiter))

    def _records(self, tape: _Tape) -> Iterator[list[str]]:
        """The records that are not blank. Raises DataError on what csv refuses."""
        try:
            yield from filter(None, self._parsed(tape))
        except csv.Error as error:
            raise DataError(
                f"the dataset {self.name!r} is not readable as CSV at line {tape.number}: {error}"
            ) from error

    def _open_quote(self, raw: str) -> bool:
        body = raw.strip("\r\n")
        spans = list(self._spans(body))
        start, end = spans[-1]
        return body.startswith('"', start) and not _CLOSED.match(body, start, end)

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


_CLOSED = re.compile(r'"(?:[^"]|"")*"(?!")')


def _field_pattern(delimiter: str) -> re.Pattern[str]:
    # A quoted part, then anything up to the delimiter: csv reads `"a"b` as `ab`. A quote
    # that never closes takes the rest, as it does for csv.
    stop = rf"[^\r\n{re.escape(delimiter)}]*"
    return re.compile(rf'"(?:[^"]|"")*(?:"{stop}|\Z)|{stop}')


class _Tape:
    """Lines for csv.reader, which keeps those that it has taken for the record at hand."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._taken: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            self._taken.append(line)
            yield line

    def take(self) -> str:
        """The raw text read since the last call: one record, and blank lines before it."""
        text = "".join(self._taken)
        self._taken.clear()
        return text
