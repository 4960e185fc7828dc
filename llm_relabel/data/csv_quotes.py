"""Finds stray quotes in delimited files: a quote that nobody closes swallows what follows it.

A cell that begins with a quote ends only at the next one, so `1<tab>" dull<tab>0` takes line ends
and delimiters into the cell, and the rows after it are gone without a word. Three signs tell such
a cell from a text of several lines: something stands behind its closing quote; every line of it
is a row of its own, with a label that other rows have; the row comes out short.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from llm_relabel.data.csv_cells import RecordEditor
from llm_relabel.data.problems import Problems

WAY_OUT = "where quotes are plain text, set `data.quoting: none` (`init --quoting none`)"
SWALLOWED = f'a stray quote " swallows the delimiters and line ends after it; {WAY_OUT}'
UNCLOSED = 'a cell opens with a quote " that never closes and takes the rest of the file'
_LIKELY = f'a cell holds whole rows, as if a stray quote " had swallowed them; {WAY_OUT}'
_TRAILING = (
    'a cell goes on behind its closing quote " and is read without the quotes, as CSV readers do; '
    + WAY_OUT
)
_BACKSLASHED = (
    'a cell has \\" inside quotes, and CSV doubles a quote instead, so the cell is cut there; '
    "write the file again with a CSV library"
)
# Files that are odd throughout are refused or warned of all the same.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A record whose lines could each be a row: their label cells, None where one could not."""

    place: int
    detail: str
    labels: tuple[str | None, ...]


class QuoteCheck:
    """Looks at the records of one file in turn; what it finds goes to `problems`.

    `width` is the header's number of cells, `label` the index of the label column or None.
    """

    def __init__(
        self, editor: RecordEditor, width: int, label: int | None, problems: Problems
    ) -> None:
        self._editor, self._width, self._label = editor, width, label
        self._problems = problems
        self._seen: set[str] = set()
        self._suspects: list[_Suspect] = []

    def look(self, record: Sequence[str], lines: Sequence[str], place: int, line: int) -> None:
        """One record: its cells, its raw lines, its row number and the number of its last line."""
        if self._label is not None and self._label < len(record) and len(self._seen) < _MOST:
            self._seen.add(record[self._label])
        if len(lines) == 1 and '"' not in lines[0]:
            return
        strict = _is_strict(lines, self._editor.delimiter)
        if strict and len(lines) == 1 and len(record) >= self._width:
            return
        raw = "".join(lines)
        first = line - (len(lines) - _blank_before(lines)) + 1
        detail = f"line {first:,}" + (f" to {line:,}" if line > first else "")
        if not strict and self._misquoted(raw, place, detail):
            return
        own = raw.strip("\r\n").splitlines()
        if (len(own) > 1 or len(record) < self._width) and len(self._suspects) < _MOST:
            labels = tuple(map(self._label_of, own))
            if sum(label is not None for label in labels) > (len(own) > 1):
                self._suspects.append(_Suspect(place, detail, labels))

    def close(self, last: str, place: int, line: int) -> None:
        """After the last record, whose raw text is `last`: judge the suspects by all labels."""
        if self._editor.ends_open(last):
            self._problems.row(
                f"{UNCLOSED}; {WAY_OUT}", place, detail=f"the file ends at line {line:,}"
            )
        for suspect in self._suspects:
            known = sum(label in self._seen for label in suspect.labels if label)
            if known == len(suspect.labels):
                self._problems.row(SWALLOWED, suspect.place, detail=suspect.detail)
            elif known > 1 or (self._editor.delimiter != "," and len(suspect.labels) > 1):
                self._problems.note(_LIKELY, suspect.place, detail=suspect.detail)

    def _misquoted(self, raw: str, place: int, detail: str) -> bool:
        for quoted, behind in self._editor.misquoted(raw):
            if not behind.strip():  # padding; the readers take it for text
                continue
            if quoted.endswith('\\"'):
                self._problems.row(_BACKSLASHED, place, detail=detail)
            elif self._editor.is_special(quoted[1:-1].replace('""', "")):
                self._problems.row(SWALLOWED, place, detail=detail)
            else:
                self._problems.note(_TRAILING, place, detail=detail)
            return True
        return False

    def _label_of(self, line: str) -> str | None:
        """The label cell of a line as a row of its own, quotes being plain text."""
        cells = line.split(self._editor.delimiter)
        if len(cells) != self._width or self._label is None:
            return None
        return cells[self._label].strip('"')


def _is_strict(lines: Sequence[str], delimiter: str) -> bool:
    """Whether nothing stands behind a closing quote. An unclosed one is told at the end."""
    try:
        for _ in csv.reader(lines, delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end" in str(error)
    return True


def _blank_before(lines: Sequence[str]) -> int:
    return next((n for n, line in enumerate(lines) if line.strip("\r\n")), 0)
