"""Label cells that hold spans of a text: a tag for each word, or spans with their offsets.

Read, both are the same: a list of spans in characters of the text, with their type and words. How a
column has them is learned from its first cells, and new cells are written so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.config.job import DataSection
from llm_relabel.data.cells import Aliases, Cells
from llm_relabel.data.label_cells import without_surrogates
from llm_relabel.data.offsets import Offsets, Placed, cuts_a_character, cuts_a_word
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import Cell, Source, is_missing
from llm_relabel.data.tags import SCHEMES, Scheme, parted, spans_of, tags_of
from llm_relabel.data.words import ranges
from llm_relabel.errors import DataError

TYPE = pa.list_(
    pa.struct(
        [("start", pa.int32()), ("end", pa.int32()), ("type", pa.string()), ("text", pa.string())]
    )
)
_OVERLAP = "has spans that overlap or are nested; give each layer a column and a job of its own"


class _RefusedError(ValueError):
    """What is wrong with one row's cell, and its detail."""


class SpanCells:
    """The spans of one column.

    `names` are the tags behind numbers; `scheme` is `data.scheme`, `offsets` `data.offsets`.
    """

    takes_words = True

    def __init__(
        self,
        column: str,
        names: Sequence[str] | None,
        aliases: Aliases,
        missing: frozenset[str] = frozenset(),
        scheme: str | None = None,
        offsets: str | None = None,
    ) -> None:
        self.column = column
        self._tags = tuple(names) if names is not None else None
        types = dict.fromkeys(parted(tag)[1] for tag in names or ())
        self.class_names = tuple(kind for kind in types if kind) if names is not None else None
        self._aliases, self._missing = aliases, missing
        self._told = scheme
        self._scheme = Scheme()
        self._offsets = Offsets(offsets)
        self._tagged = self._numbered = 0
        self._first: dict[str, int] = {}
        self._rows = 0

    @property
    def kind(self) -> str:
        """What the cells hold."""
        return "spans"

    # Reading

    def read(
        self, cells: Sequence[Any], places: Sequence[int], problems: Problems, texts: Sequence[str]
    ) -> list[Any]:
        """The spans of each row as mappings of start, end, type and text; None: no label."""
        found = []
        for cell, place, text in zip(cells, places, texts, strict=True):
            try:
                spans = self._read_one(cell, place, text)
                found.append(None if spans is None else self._whole(spans, place, text, problems))
            except _RefusedError as refused:
                what, detail = refused.args
                problems.row(f"{self.column!r} {what}", place, about=self.column, detail=detail)
                found.append(None)
            self._rows += 1
        return found

    def _read_one(self, cell: Any, place: int, text: str) -> list[Placed] | None:
        if is_missing(cell) or (isinstance(cell, str | int) and str(cell) in self._missing):
            return None
        if not isinstance(cell, list | tuple):
            raise _RefusedError("holds no list of tags or spans", f"found {cell!r:.40}")
        if cell and all(isinstance(tag, str | int) and not isinstance(tag, bool) for tag in cell):
            return self._from_tags(cell, place, text)
        try:
            spans = self._offsets.read(self._rows, cell, text)
        except ValueError as error:
            raise _RefusedError("has a span that cannot be read", str(error)) from error
        if cell:
            self._first.setdefault("spans", place)
        return spans

    def _from_tags(self, cell: Sequence[Any], place: int, text: str) -> list[Placed]:
        words = ranges(text)
        self._tagged += 1
        self._first.setdefault("tags", place)
        if len(words) != len(cell):
            raise _RefusedError(
                "has not one tag a word; a column of tags needs a text that is a list of words",
                f"{len(cell)} tags for {len(words)} words",
            )
        tags = [without_surrogates(self._tag(each)) for each in cell]
        self._scheme.see(tags, place)
        return [(words[a][0], words[b - 1][1], kind) for a, b, kind in spans_of(tags)]

    def _tag(self, cell: str | int) -> str:
        if isinstance(cell, str):
            return cell
        self._numbered += 1
        if self._tags is None:
            raise _RefusedError(
                "has numbers for tags", "set data.tag_names: [O, B-..., ...] in their order"
            )
        if not 0 <= cell < len(self._tags):
            told = f"{cell} is not in 0..{len(self._tags) - 1}"
            raise _RefusedError("has a number that is no tag's", told)
        return self._tags[cell]

    def _whole(
        self, spans: Sequence[Placed], place: int, text: str, problems: Problems
    ) -> list[dict[str, Any]]:
        """Spans in order, as Arrow takes them; a span that cuts something is refused or told."""
        ordered = sorted(set(spans))
        for span, following in pairwise(ordered):
            if following[0] < span[1]:
                both = [f"{text[start:end]!r:.40} {kind}" for start, end, kind in (span, following)]
                raise _RefusedError(_OVERLAP, " and ".join(both))
        for start, end, _ in ordered:
            if cuts_a_character(text, start) or cuts_a_character(text, end):
                told = f"{text[start:end]!r:.40} at {start}-{end}"
                raise _RefusedError("has a span that cuts a character", told)
            if not self._tagged and (cuts_a_word(text, start) or cuts_a_word(text, end)):
                problems.note(f"{self.column!r} has a span that ends inside a word", place)
        return [
            {
                "start": start, "end": end, "type": self._aliases.get(kind, kind),
                "text": text[start:end],
            }
            for start, end, kind in ordered
        ]  # fmt: skip

    def array(self, labels: list[Any]) -> pa.Array:
        """What was read of some rows as Arrow."""
        return pa.array(labels, TYPE)

    def joined(self, parts: Sequence[pa.Array]) -> pa.ChunkedArray:
        """All parts as one column."""
        return pa.chunked_array(parts, TYPE)

    def counts(self, labels: pa.ChunkedArray) -> dict[str, int]:
        """How many spans have each type."""
        types = pc.struct_field(pc.list_flatten(labels), "type")
        return {pair["values"]: pair["counts"] for pair in pc.value_counts(types).to_pylist()}

    def check(self, problems: Problems) -> None:
        """After the last row: a column holds tags of one scheme, or spans."""
        if len(self._first) > 1:
            told = ", ".join(f"{k} first at {problems.unit} {n}" for k, n in self._first.items())
            problems.whole(f"{self.column!r} mixes tags and spans ({told})")
        if self._scheme.mixed:
            problems.whole(f"{self.column!r}: {self._scheme.mixed}")
        stray, first = self._scheme.stray, self._scheme.first_stray
        if self._told == "iob1":
            stray = 0
        if stray and first is not None:
            problems.note(
                f"{self.column!r} has {stray:,} tags I- that follow nothing of their type; each is "
                "read as the beginning of a span",
                first,
            )
        if self._told is not None and self._tagged and not self._fits(self._told):
            problems.whole(
                f"{self.column!r} holds tags of {self._scheme.name}, and data.scheme is "
                f"{self._told}; schemes are {', '.join(SCHEMES)}"
            )

    def _fits(self, told: str) -> bool:
        found = self._scheme.name
        return found == told or (found in ("bio", "iob1") and told != "io")

    # Writing

    def columns(
        self, changes: Mapping[int, Any], texts: Mapping[int, str]
    ) -> dict[int, dict[str, Cell]]:
        """The new cells of the rows in `changes`. Raises DataError where one cannot be written."""
        return {
            row: {self.column: self._cell(row, value, texts[row])} for row, value in changes.items()
        }

    def _cell(self, row: int, value: Sequence[Mapping[str, Any]] | None, text: str) -> Cell:
        if value is None:
            return None
        spans = [(each["start"], each["end"], each["type"]) for each in value]
        if not self._tagged:
            return self._offsets.cell(row, spans, text)
        words = ranges(text)
        begins = {start: place for place, (start, _) in enumerate(words)}
        ends = {end: place + 1 for place, (_, end) in enumerate(words)}
        try:
            placed = [(begins[start], ends[end], kind) for start, end, kind in spans]
        except KeyError as error:
            raise DataError(
                f"a span of {self.column!r} cannot be written as tags: no word begins or ends at "
                f"character {error.args[0]}"
            ) from error
        tags = tags_of(placed, len(words), self._told or self._scheme.name)
        if not self._numbered:
            return tags
        assert self._tags is not None
        if unknown := [tag for tag in tags if tag not in self._tags]:
            raise DataError(
                f"the tag {unknown[0]!r} cannot be written: {self.column!r} holds numbers, and "
                f"their tags are {', '.join(self._tags[:20])}"
            )
        return [self._tags.index(tag) for tag in tags]


def span_cells(
    section: DataSection, source: Source, columns: tuple[str, ...], aliases: Aliases
) -> Cells:
    """Cells that hold spans. Raises DataError where a label is spread over several columns."""
    if len(columns) > 1:
        raise DataError(
            f"data.label names {len(columns)} columns; tags or spans stand in one: name it"
        )
    names = source.class_names(columns[0]) or section.tag_names
    missing = frozenset(section.missing or ())
    return SpanCells(columns[0], names, aliases, missing, section.scheme, section.offsets)
