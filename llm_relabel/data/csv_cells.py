"""Finds one cell inside a raw CSV record and replaces it, leaving its neighbours alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

_CLOSED = re.compile(r'"[^"]*+(?:""[^"]*+)*+"')


class RecordEditor:
    """Edits raw records of one delimiter, quoted with `"` as Python's csv reads them.

    `quoted` False: a quote is a character like any other.
    """

    def __init__(self, delimiter: str, *, quoted: bool = True) -> None:
        self.delimiter, self.quoted = delimiter, quoted
        stop = rf"[^\r\n{re.escape(delimiter)}]*"
        # A quoted part, then anything up to the delimiter: csv reads `"a"b` as `ab`. A quote
        # that never closes takes the rest, as it does for csv.
        in_quotes = rf'"[^"]*+(?:""[^"]*+)*+(?:"{stop}|\Z)|' if quoted else ""
        self._cell = re.compile(in_quotes + stop)
        self._special = re.compile(rf'["\r\n{re.escape(delimiter)}]')

    def records(self, lines: Iterable[str]) -> Any:
        """A `csv.reader` over `lines`."""
        if self.quoted:
            return csv.reader(lines, delimiter=self.delimiter)
        return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)

    def is_special(self, text: str) -> bool:
        """Whether `text` holds a delimiter, a line end or a quote."""
        return self._special.search(text) is not None

    def misquoted(self, raw: str) -> Iterator[tuple[str, str]]:
        """(the quoted part, what stands behind it) of each cell that goes on behind its quotes."""
        body = raw.strip("\r\n")
        for start, end in self._spans(body):
            closed = _CLOSED.match(body, start, end)
            if closed and closed.end() < end:
                yield closed[0], body[closed.end() : end]

    def replaced(self, raw: str, record: list[str], index: int, value: str) -> str:
        """The record `raw` (with its line end) with the cell at `index` now `value`.

        `record` holds the cells as read. Cells that a short record lacks are added empty; a
        quoted cell stays quoted. Raises ValueError if any other cell would change.
        """
        body = raw.strip("\r\n")
        # Blank lines before a record are read along with it.
        first = raw.index(body) if body else 0
        missing = max(0, index - len(record) + 1)
        if missing:
            new = body + self.delimiter * missing + self._quoted(value, always=False)
        else:
            start, end = next(islice(self._spans(body), index, None))
            new = (
                body[:start] + self._quoted(value, always=body.startswith('"', start)) + body[end:]
            )
        padded = record + [""] * missing
        expected = [*padded[:index], value, *padded[index + 1 :]]
        # The scanner and the reader must agree, or a neighbour would be damaged.
        if list(self.records(io.StringIO(new, newline=""))) != [expected]:
            if not self.quoted and self.is_special(value):
                raise ValueError(
                    f"the label {value!r} holds a delimiter or a line end, which "
                    "`data.quoting: none` cannot write"
                )
            raise ValueError(
                f"the quotes of this record cannot be kept: {body[:80]!r}; write the file again "
                "with a CSV library"
            )
        return raw[:first] + new + raw[first + len(body) :]

    def ends_open(self, raw: str) -> bool:
        """Whether the record's last cell opens with a quote that never closes."""
        if not self.quoted:
            return False
        body = raw.strip("\r\n")
        start, _ = list(self._spans(body))[-1]
        return body.startswith('"', start) and not _CLOSED.match(body, start)

    def _spans(self, body: str) -> Iterator[tuple[int, int]]:
        at = 0
        while at <= len(body):
            found = self._cell.match(body, at)
            assert found is not None, "the pattern matches the empty string"
            yield found.span()
            at = found.end() + 1

    def _quoted(self, value: str, *, always: bool) -> str:
        if self.quoted and (always or self._special.search(value)):
            return '"' + value.replace('"', '""') + '"'
        return value
