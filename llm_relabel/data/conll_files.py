"""CoNLL files: a word a line with its columns, a blank line after each sentence.

The columns have no names in the file. The first is called `tokens`, the last `ner_tags`, those
between them `column_2`, `column_3` and so on; `document` counts the lines `-DOCSTART-`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.data.problems import Problems
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell, Edits
from llm_relabel.data.text_file import TextFile
from llm_relabel.errors import DataError

WORDS, TAGS, DOCUMENT = "tokens", "ner_tags", "document"
_DOCUMENT_MARK = "-DOCSTART-"
_FIELD = re.compile(r"[^ \t]+")
_MOST_COLUMNS = 100


class ConllFile:
    """Sentences as rows; the cells are lists, a value a word. Raises DataError if it is no text."""

    unit = "line"

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.name = path.name
        self._file = TextFile(path, encoding)
        self.suffix = self._file.suffix
        self._width = 0
        self._tabs = False
        self._documents = False

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        places, rows, size = list[int](), list[dict[str, Any]](), 0
        for place, document, words in self._sentences(problems):
            columns = dict(zip(self._names(), map(list, zip(*words, strict=True)), strict=True))
            columns[TAGS] = columns[self._names()[-1]]
            places.append(place)
            rows.append({**columns, DOCUMENT: document} if self._documents else columns)
            size += sum(map(len, columns[WORDS]))
            if len(rows) >= BATCH_ROWS or size > BATCH_CHARACTERS:
                yield Batch(places, {name: [row.get(name) for row in rows] for name in wanted})
                places, rows, size = [], [], 0
        if rows:
            yield Batch(places, {name: [row.get(name) for row in rows] for name in wanted})

    def _names(self) -> list[str]:
        return [WORDS, *(f"column_{n}" for n in range(2, self._width)), TAGS][: self._width]

    def columns(self) -> Sequence[str]:
        return [*self._names(), *([DOCUMENT] if self._documents else [])]

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - tags are text
        return None

    def sha256(self) -> str:
        return self._file.sha256()

    def _sentences(self, problems: Problems) -> Iterator[tuple[int, int, list[list[str]]]]:
        """(first line, document, words with their columns) of each sentence."""
        words, first, document = list[list[str]](), 0, 0
        with self._file.open(newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.startswith(_DOCUMENT_MARK):
                    document, self._documents = document + 1, True
                    if words:
                        yield first, document - 1, words
                        words = []
                    continue
                if not line.strip():
                    if words:
                        yield first, document, words
                        words = []
                    continue
                fields = self._fields(line)
                if self._is_comment(line, fields):
                    continue
                if not self._fits(fields, number, problems):
                    continue
                if not words:
                    first = number
                words.append([text for _, _, text in fields])
            if words:
                yield first, document, words

    def _fits(self, fields: Sequence[Any], number: int, problems: Problems) -> bool:
        if not self._width:
            if len(fields) < 2:
                problems.row(
                    "has one column, and a word and its tag are needed", number,
                    detail=f"found {fields[0][2]!r:.40}" if fields else "",
                )  # fmt: skip
                return False
            self._width = min(len(fields), _MOST_COLUMNS)
        if len(fields) != self._width:
            told = f"{len(fields)} instead of {self._width}"
            problems.row("has another number of columns than the first word", number, detail=told)
            return False
        return True

    def _is_comment(self, line: str, fields: Sequence[Any]) -> bool:
        """`# sent_id = 1` and the like; a word may be a # itself, and has then its columns."""
        if not line.startswith("#"):
            return False
        return len(fields) != self._width if self._width else line.startswith(("# ", "#\t"))

    def _fields(self, line: str) -> list[tuple[int, int, str]]:
        """Start, end and text of each column of a line."""
        text = line.rstrip("\r\n")
        if not self._width:
            self._tabs = "\t" in text
        if not self._tabs:
            return [(m.start(), m.end(), m[0]) for m in _FIELD.finditer(text)]
        found, start = [], 0
        for part in text.split("\t"):
            found.append((start, start + len(part), part))
            start += len(part) + 1
        return found

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            self._file.copy(target, sha256)
        else:
            self._file.rewrite(target, self._pieces(cells), sha256)

    def _pieces(self, cells: Edits) -> Iterator[tuple[str, str]]:
        row, place = -1, 0
        with self._file.open(newline="\n") as lines:
            inside = False
            for line in lines:
                fields = [] if not line.strip() else self._fields(line)
                if not fields or line.startswith(_DOCUMENT_MARK):
                    inside = False
                    yield line, line
                    continue
                if self._is_comment(line, fields):
                    yield line, line
                    continue
                row, place = (row, place + 1) if inside else (row + 1, 0)
                inside = True
                new = self._edited(line, fields, place, cells[row]) if row in cells else line
                yield line, new

    def _edited(
        self, line: str, fields: Sequence[tuple[int, int, str]], place: int,
        cells: Mapping[str, Cell],
    ) -> str:  # fmt: skip
        names = self._names()
        at = {name: names.index(name) for name in cells}
        for name, number in sorted(at.items(), key=lambda pair: -pair[1]):
            if cells[name] is None:
                raise DataError(
                    f"{name!r} of a CoNLL file has a tag for each word, and none is left"
                )
            start, end, _ = fields[number]
            line = line[:start] + str(cells[name][place]) + line[end:]
        return line
