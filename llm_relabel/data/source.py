"""The seam between a file format and everything else: batches of cells out, new cells in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from llm_relabel.data.problems import Problems

BATCH_ROWS = 10_000
# Rows can be whole documents; a batch ends early rather than grow past this many characters.
BATCH_CHARACTERS = 32_000_000

Cell: TypeAlias = Any
"""A label cell in the format's own type: text, int, bool, float, a list of those, or None."""

Edits: TypeAlias = Mapping[int, Mapping[str, Cell]]
"""New label cells: by row (0-based), then by column."""


def is_missing(cell: Cell) -> bool:
    """Whether a cell of any column holds nothing: null, empty text, or pandas' NaN."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows: the cells of each wanted column, None where a row has none.

    `places` are what an error calls the rows: row numbers, or line numbers, from 1.
    """

    places: Sequence[int]
    cells: Mapping[str, list[Cell]]


class Source(Protocol):
    """One dataset in one format. A new format writes this and is named in locate.py."""

    name: str
    """What the user called it, for messages."""
    suffix: str
    """The output's ending: the input's own, or empty for a folder."""
    unit: str
    """What places count: "row" or "line"."""

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        """Stream the wanted columns; bad rows go to `problems` and are left out."""

    def columns(self) -> Sequence[str]:
        """The column names, known once `batches` is exhausted."""

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names behind an integer class column, else None."""

    def sha256(self) -> str | None:
        """The hash of the file's bytes; None where there is no file."""

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        """Write everything as it came, except the label cells in `cells`.

        `sha256` is the hash at reading; DataError if the file is another one by now.
        """
