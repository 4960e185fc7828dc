"""Excel workbooks: one sheet with a header row; of a corrected one only the label cells differ.

They are read by openpyxl and written by replacing cells in the sheet's own XML: openpyxl would
drop charts, images and much formatting.
"""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.config.job import DataSection
from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import check_unchanged, copy_unchanged, hash_file, new_file
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell, Edits, is_missing
from llm_relabel.data.xlsx_cells import replaced
from llm_relabel.errors import DataError, nearest

_FORMULA = re.compile(rb"<(\w+:)?f[ >/]")
NAMES_SHOWN = 20


class XlsxFile:
    """One sheet of a workbook. Rows without any value are no rows. Raises DataError."""

    suffix = ".xlsx"
    unit = "row"

    def __init__(self, path: Path, section: DataSection) -> None:
        self.name = path.name
        self._path = path
        self._skipped = section.skip_lines or 0
        self._labels = section.label_columns
        self._header: list[str] = []
        self._numbers: list[int] = []  # of each row of data, its number in the sheet
        self._sheet = self._chosen(section.sheet)

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        book = self._book(values=True)
        try:
            rows = self._rows(book)
            number, first = next(rows, (0, []))
            self._header = ["" if cell is None else str(shown(cell)) for cell in first]
            twice = sorted({n for n in self._header if n and self._header.count(n) > 1})
            if twice:
                problems.whole(f"the header names a column twice: {', '.join(map(repr, twice))}")
            places = {name: self._header.index(name) for name in wanted if name in self._header}
            self._numbers = []
            formulas = self._formulas()
            batch: list[tuple[int, list[Any]]] = []
            size = 0
            for number, cells in rows:
                self._numbers.append(number)
                if number in formulas:
                    problems.row(
                        f"{formulas[number]!r} holds a formula, which a label would replace; keep "
                        "the values only (copy, paste special, values)", number,
                    )  # fmt: skip
                batch.append((number, cells))
                size += sum(len(cell) for cell in cells if isinstance(cell, str))
                if len(batch) >= BATCH_ROWS or size > BATCH_CHARACTERS:
                    yield self._batch(batch, wanted, places)
                    batch, size = [], 0
            if batch:
                yield self._batch(batch, wanted, places)
        finally:
            book.close()

    def records(self) -> Iterator[dict[str, Cell]]:
        """Each row as its cells by column name."""
        book = self._book(values=True)
        try:
            rows = self._rows(book)
            _, first = next(rows, (0, []))
            header = ["" if cell is None else str(shown(cell)) for cell in first]
            for _, cells in rows:
                yield {name: shown(c) for name, c in zip(header, cells, strict=False) if name}
        finally:
            book.close()

    def columns(self) -> Sequence[str]:
        return [name for name in self._header if name]

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - a sheet has no class columns
        return None

    def sha256(self) -> str:
        return hash_file(self._path)

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            copy_unchanged(self._path, target, sha256)
            return
        check_unchanged(self._path, sha256)
        place = {name: self._header.index(name) + 1 for name in self._labels}
        changed = {
            self._numbers[row]: {place[name]: cell for name, cell in each.items()}
            for row, each in cells.items()
        }
        with (
            zipfile.ZipFile(self._path) as old, new_file(target) as sink,
            zipfile.ZipFile(sink, "w") as new,
        ):  # fmt: skip
            new.comment = old.comment
            for part in old.infolist():
                content = old.read(part)
                if part.filename == self._sheet.part:
                    content = replaced(content, changed)
                new.writestr(part, content, part.compress_type)

    def _batch(
        self, rows: Sequence[tuple[int, list[Any]]], wanted: Sequence[str], places: dict[str, int]
    ) -> Batch:
        def cell(cells: list[Any], name: str) -> Cell:
            at = places.get(name)
            return shown(cells[at]) if at is not None and at < len(cells) else None

        return Batch(
            [number for number, _ in rows],
            {name: [cell(cells, name) for _, cells in rows] for name in wanted},
        )

    def _rows(self, book: Any) -> Iterator[tuple[int, list[Any]]]:
        """(row number in the sheet, cells) of each row with a value, below what is skipped."""
        sheet = book[self._sheet.title]
        sheet.reset_dimensions()  # some writers state wrong ones
        for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            if number > self._skipped and not all(is_missing(cell) for cell in cells):
                yield number, list(cells)

    def _formulas(self) -> dict[int, str]:
        """The rows whose label cell is a formula, with the column's name."""
        with zipfile.ZipFile(self._path) as file:
            if _FORMULA.search(file.read(self._sheet.part)) is None:
                return {}
        places = {n: self._header.index(n) for n in self._labels if n in self._header}
        found: dict[int, str] = {}
        book = self._book(values=False)
        try:
            for number, cells in self._rows(book):
                for name, at in places.items():
                    cell = cells[at] if at < len(cells) else None
                    if isinstance(cell, str) and cell.startswith("="):
                        found[number] = name
        finally:
            book.close()
        return found

    def _book(self, *, values: bool) -> Any:
        try:
            import openpyxl
        except ImportError as error:
            raise DataError(
                f"the dataset {self.name!r} is an Excel workbook, and reading it needs openpyxl: "
                "pip install 'llm_relabel[xlsx]'"
            ) from error
        try:
            return openpyxl.load_workbook(self._path, read_only=True, data_only=values)
        except Exception as error:
            # Whatever openpyxl raises of a broken file, there is no workbook.
            raise DataError(
                f"the dataset {self.name!r} is no Excel workbook that can be read "
                f"({type(error).__name__}: {error}); if it has a password, save it without one"
            ) from error

    def _chosen(self, wanted: str | int | None) -> _Sheet:
        """The sheet that the job names, or the only one with anything in it."""
        book = self._book(values=True)
        try:
            sheets = [
                _Sheet(each.title, each._worksheet_path.lstrip("/")) for each in book.worksheets
            ]
            titles = [each.title for each in sheets]
            told = ", ".join(map(repr, titles[:NAMES_SHOWN]))
            if isinstance(wanted, int):
                if not 1 <= wanted <= len(sheets):
                    raise DataError(
                        f"data.sheet {wanted} is none of the sheets of {self.name!r}; they are "
                        f"numbered from 1: {told}"
                    )
                return sheets[wanted - 1]
            if wanted is not None:
                if wanted not in titles:
                    raise DataError(
                        f"the workbook {self.name!r} has no sheet {wanted!r}"
                        f"{nearest(wanted, titles)}; it has {told}"
                    )
                return sheets[titles.index(wanted)]
            full = [each for each in sheets if _has_rows(book[each.title])]
            if len(full) > 1:
                raise DataError(
                    f"the workbook {self.name!r} has several sheets with data; set data.sheet "
                    f"(`init --sheet`) to one of {', '.join(repr(s.title) for s in full)}"
                )
            return (full or sheets)[0]
        finally:
            book.close()


class _Sheet:
    """A sheet's title, and the part of the workbook that holds it."""

    def __init__(self, title: str, part: str) -> None:
        self.title, self.part = title, part


def _has_rows(sheet: Any) -> bool:
    sheet.reset_dimensions()
    return any(
        not all(is_missing(cell) for cell in cells) for cells in sheet.iter_rows(values_only=True)
    )


def shown(cell: Any) -> Cell:
    """A cell as the sheet shows it: 1 and not 1.0, dates in ISO form."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, datetime.timedelta):
        return str(cell)
    return cell
