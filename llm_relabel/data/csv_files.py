"""CSV and TSV files with a header row, read in Python's own csv dialect."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from llm_relabel.config.job import DataSection
from llm_relabel.data.csv_cells import RecordEditor
from llm_relabel.data.csv_quotes import QuoteCheck
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell, Edits
from llm_relabel.data.text_file import TextFile
from llm_relabel.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
# The largest that fits a C long everywhere; the default of 131,072 refuses long documents.
_LARGEST_CELL = 2**31 - 1
# Titles, dates and notes above a header are a few lines.
_HIGHEST_HEADER = 50
_SEPARATOR_LINE = re.compile(r'(?i)"?sep=.?"?')


class CsvFile:
    """A delimited file. Blank lines are no rows; they are kept where they are."""

    unit = "row"

    def __init__(self, path: Path, section: DataSection) -> None:
        csv.field_size_limit(_LARGEST_CELL)
        self.name = path.name
        self._file = TextFile(path, section.encoding)
        self.suffix = self._file.suffix
        self._expected = [*section.label_columns, *section.read_columns]
        self._skipped = section.skip_lines or 0
        delimiter = section.delimiter
        if delimiter is None and self._file.format == ".tsv":
            delimiter = "\t"
        if delimiter is not None and delimiter in '"\r\n':
            raise DataError(
                f"data.delimiter {delimiter!r} cannot separate cells; common ones are "
                f"{', '.join(map(repr, DELIMITERS))}, and without the key the file is looked at"
            )
        quoted = section.quoting != "none"
        self._editor = RecordEditor(delimiter or self._sniffed(), quoted=quoted)
        self._header: list[str] = []

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        with self._file.open(newline="") as text:
            line = len(list(islice(text, self._skipped)))
            records = self._records(text)
            self._header, last = next(records, ([], ()))
            line += len(last)
            self._check_header(problems)
            if set(self._expected) - set(self._header) and (hint := self._above_header()):
                problems.whole(hint)
                return
            width = len(self._header)
            indexes = {c: self._header.index(c) for c in wanted if c in self._header}
            quotes = QuoteCheck(self._editor, width, indexes.get(self._expected[0]), problems)
            place, first, size = 0, 1, 0
            rows: list[list[str]] = []
            for record, raw in records:
                if not record:
                    break
                place, last, line = place + 1, raw, line + len(raw)
                if self._editor.quoted:
                    quotes.look(record, raw, place, line)
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
            quotes.close("".join(last), place, line)

    @property
    def delimiter(self) -> str:
        """What stands between cells."""
        return self._editor.delimiter

    def columns(self) -> Sequence[str]:
        return self._header

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - all CSV is text
        return None

    def sha256(self) -> str:
        return self._file.sha256()

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            self._file.copy(target, sha256)
            return
        for value in {cell for row in cells.values() for cell in row.values()}:
            if value is not None and not self._file.encodes(value):
                raise DataError(
                    f"the label {value!r} cannot be written to {self.name!r}: its encoding "
                    f"{self._file.codec} lacks a character of it"
                )
        self._file.rewrite(target, self._pieces(cells), sha256)

    def _pieces(self, cells: Edits) -> Iterator[tuple[str, str]]:
        with self._file.open(newline="") as text:
            above = "".join(islice(text, self._skipped))
            yield above, above
            records = self._records(text)
            header, lines = next(records)
            raw = "".join(lines)
            yield raw, raw
            for row, (record, lines) in enumerate(records):
                old = new = "".join(lines)
                if record and row in cells:
                    try:
                        for column, cell in cells[row].items():
                            index, value = header.index(column), cell or ""
                            new = self._editor.replaced(new, record, index, value)
                            record.extend([""] * (index + 1 - len(record)))
                            record[index] = value
                    except ValueError as error:
                        raise DataError(
                            f"the dataset {self.name!r}, row {row + 1}: {error}"
                        ) from error
                yield old, new

    def _records(self, text: Iterable[str]) -> Iterator[tuple[list[str], tuple[str, ...]]]:
        """(cells, raw lines) of each record that is not blank, then ([], the blank rest)."""
        taken: list[str] = []

        def tape() -> Iterator[str]:
            for line in text:
                taken.append(line)
                yield line

        reader = self._editor.records(tape())
        try:
            for record in reader:
                if record:
                    yield record, tuple(taken)
                    taken.clear()
        except csv.Error as error:
            line = self._skipped + reader.line_num
            raise DataError(
                f"the dataset {self.name!r} is not readable as CSV at line {line}: {error}"
            ) from error
        if taken:
            yield [], tuple(taken)

    def _check_header(self, problems: Problems) -> None:
        # Nameless columns are common (an index, a trailing delimiter) and harmless.
        named = [name for name in self._header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            problems.whole(f"the header names a column twice: {', '.join(map(repr, twice))}")

    def _above_header(self) -> str | None:
        """What to do about lines above the header, if a later line has the expected columns."""
        more = "set data.skip_lines: {0} (`init --skip-lines {0}`); they stay in the file"
        with self._file.open(newline="") as text:
            lines = list(islice(text, self._skipped + _HIGHEST_HEADER))
        top = lines[self._skipped] if len(lines) > self._skipped else ""
        if _SEPARATOR_LINE.fullmatch(top.strip()):
            return (
                f"line {self._skipped + 1} is {top.strip()!r}, by which a spreadsheet is told the "
                f"delimiter, and no header; {more.format(self._skipped + 1)}"
            )
        for number, line in enumerate(lines):
            for delimiter in {self._editor.delimiter, *DELIMITERS}:
                cells = next(csv.reader([line], delimiter=delimiter), [])
                if number > self._skipped and set(self._expected) <= set(cells):
                    return (
                        f"the column names stand in line {number + 1}, and line "
                        f"{self._skipped + 1} is {top.strip()[:60]!r}; to skip the lines above "
                        f"the names, {more.format(number)}"
                    )
        return None

    def _sniffed(self) -> str:
        """The delimiter whose header has most of the expected columns, else most columns."""

        def fit(delimiter: str) -> tuple[int, int]:
            with self._file.open(newline="") as text:
                rest = islice(text, self._skipped, None)
                try:
                    header = next(filter(None, csv.reader(rest, delimiter=delimiter)), [])
                except csv.Error:
                    return (0, 0)
            return (len(set(self._expected) & set(header)), len(header))

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
