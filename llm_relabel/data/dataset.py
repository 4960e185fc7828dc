"""The dataset as the rest of the program sees it: Arrow columns and a way back to the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.data.cells import Cells
from llm_relabel.data.pictures import Picture, Pictures
from llm_relabel.data.source import Source
from llm_relabel.data.words import ranges
from llm_relabel.records import Item
from llm_relabel.units import LabelValue


@dataclass(frozen=True)
class Dataset:
    """All rows, in the file's order. Columns are Arrow, so a row costs no Python objects.

    ids: unique strings. text: what the small model reads, the text columns joined by newlines.
    fields: string columns that the judge sees, text columns first, then context. labels: the
    given labels as `label_cells` reads them (string, list<string>, ...), null where missing. gold:
    the same, null where unknown, or None. groups: (rows,) int64, rows that must not vouch for each
    other share a number (equal text, or the same `data.group`). locked: (rows,) bool; a row without
    text is locked and has neither label nor gold. class_names: the names of an integer class
    column, else None. sha256: of the content. words: whether the texts came as words; `text` then
    has one space between them. notes: what its user should know of it, in words. pictures: where
    `text` names pictures, what opens them.
    """

    ids: pa.ChunkedArray
    text: pa.ChunkedArray
    fields: pa.Table
    labels: pa.ChunkedArray
    gold: pa.ChunkedArray | None
    groups: NDArray[np.int64]
    locked: NDArray[np.bool_]
    class_names: tuple[str, ...] | None
    sha256: str
    source: Source
    label_cells: Cells
    words: bool = False
    notes: tuple[str, ...] = ()
    pictures: Pictures | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multi_label(self) -> bool:
        """Whether a row's label is a list."""
        return bool(pa.types.is_list(self.labels.type))

    def label_counts(self) -> dict[str, int]:
        """How many rows have each given label."""
        return self.label_cells.counts(self.labels)

    def label_at(self, row: int) -> LabelValue:
        """One row's given label."""
        value: Any = self.labels[row].as_py()
        return tuple(value) if isinstance(value, list) else value

    def item(self, row: int) -> Item:
        """What a judge may see of one row."""
        shown = {name: self.fields[name][row].as_py() or "" for name in self.fields.column_names}
        words = ranges(self.text[row].as_py()) if self.words else None
        item_id = self.ids[row].as_py()
        if self.pictures is None:
            return Item(id=item_id, row=row, fields=shown, words=words)
        picture = Picture(self.pictures, shown.pop(self.fields.column_names[0]))
        given = self.labels[row].as_py()
        return Item(id=item_id, row=row, fields=shown, picture=picture, anchor=given)

    @property
    def sheet_delimiter(self) -> str:
        """What separates the cells of sheets for this dataset's owner.

        A file with semicolons comes from where spreadsheets expect them; else it is a comma.
        """
        return ";" if getattr(self.source, "delimiter", ",") == ";" else ","

    def file_name(self, stem: str) -> str:
        """`stem` with the ending of the input's format."""
        return stem + self.source.suffix

    def write(self, folder: Path, stem: str, changes: Mapping[int, Any]) -> Path:
        """Write the dataset as it came, with other labels in the rows of `changes` (0-based).

        They are as `labels` holds them: text, a list of texts, or None.

        Whole or not at all. Raises DataError where a label does not fit the column's type, or
        the input was altered since it was read.
        """
        changed = dict(sorted(changes.items()))
        texts = {row: self.text[row].as_py() for row in changed}
        cells = self.label_cells.columns(changed, texts)
        target = folder / self.file_name(stem)
        self.source.save(target, cells, self.sha256)
        return target
