"""The seam of label cells: how one kind of label stands in a file, read and written back.

A task says which kind its labels are (`Task.cells`). Cells learn a column's type while it is read,
and keep to it when writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from llm_relabel.config.job import DataSection
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import Cell, Source

Aliases = Mapping[str, str]


class Cells(Protocol):
    """The label cells of a dataset, in one column or in several."""

    column: str
    class_names: tuple[str, ...] | None
    """The names behind numbers, or those of the columns; None where the cells hold the labels."""
    takes_words: bool
    """Whether a row's text may be a list of words, whose borders the labels keep to."""

    @property
    def kind(self) -> str:
        """What the cells hold, in words; gold must be of the same kind."""
        ...

    def read(
        self, cells: Sequence[Any], places: Sequence[int], problems: Problems, texts: Sequence[str]
    ) -> list[Any]:
        """The label of each row, None where it has none; what cannot be read goes to `problems`.

        Of several columns `cells` are (rows, columns). A text that came as words is given as
        `words.joined` writes it.
        """
        ...

    def array(self, labels: list[Any]) -> pa.Array:
        """What was read of some rows as Arrow."""
        ...

    def joined(self, parts: Sequence[pa.Array]) -> pa.ChunkedArray:
        """All parts as one column; known after the last row."""
        ...

    def check(self, problems: Problems) -> None:
        """What shows only after the last row."""
        ...

    def columns(
        self, changes: Mapping[int, Any], texts: Mapping[int, str]
    ) -> dict[int, dict[str, Cell]]:
        """The new cells of the rows in `changes`, by column. Raises DataError."""
        ...

    def counts(self, labels: pa.ChunkedArray) -> dict[str, int]:
        """How many rows have each class, of a column that was read."""
        ...


class CellsOf(Protocol):
    """What opens the cells of a column, or of several where a label is spread over them."""

    def __call__(
        self, section: DataSection, source: Source, columns: tuple[str, ...], aliases: Aliases
    ) -> Cells:
        """`aliases` holds the class behind each other spelling."""
        ...
