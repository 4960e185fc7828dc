"""Parquet files: streamed in batches, rewritten row group by row group."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llm_relabel.data.nested import (
    THROUGH_A_LIST,
    ThroughList,
    column_at,
    names_of_schema,
    path_of,
)
from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import check_unchanged, copy_unchanged, hash_file, new_file
from llm_relabel.data.source import BATCH_CHARACTERS, BATCH_ROWS, Batch, Cell, Edits
from llm_relabel.errors import DataError


class ParquetFile:
    """One parquet file. Raises DataError when it cannot be opened."""

    suffix = ".parquet"
    unit = "row"

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        try:
            self._schema = pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"the dataset {path.name!r} is no parquet file: {error}") from error

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        names = self._schema.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.whole(f"the schema names a column twice: {', '.join(map(repr, twice))}")
        paths = {
            name: path for name, path in paths_of(self._schema, wanted, problems).items()
            if path[0] not in twice
        }  # fmt: skip
        outer = list(dict.fromkeys(path[0] for path in paths.values()))
        start = 0
        try:
            with pq.ParquetFile(self._path) as file:
                groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
                size = batch_rows(file.metadata.num_rows, sum(g.total_byte_size for g in groups))
                for part in file.iter_batches(size, columns=outer):
                    yield batch_of(part, start, wanted, paths)
                    start += part.num_rows
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(
                f"the dataset {self.name!r} is damaged: it cannot be read on after row {start:,} "
                f"({error})"
            ) from error

    def columns(self) -> Sequence[str]:
        return list(names_of_schema(self._schema))

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names of a ClassLabel, which `datasets` keeps in the schema's metadata."""
        return class_names_of(self._schema, column)

    def sha256(self) -> str:
        return hash_file(self._path)

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            copy_unchanged(self._path, target, sha256)
            return
        check_unchanged(self._path, sha256)
        with pq.ParquetFile(self._path) as file, new_file(target) as sink:
            options: dict[str, Any] = {}
            if file.num_row_groups:
                # Each column may have its own codec; the writer takes them by name.
                group = file.metadata.row_group(0)
                columns = [group.column(index) for index in range(group.num_columns)]
                options["compression"] = {
                    column.path_in_schema: column.compression.replace("UNCOMPRESSED", "NONE")
                    for column in columns
                }
            with pq.ParquetWriter(sink, file.schema_arrow, **options) as writer:
                start = 0
                for number in range(file.num_row_groups):
                    table = file.read_row_group(number)
                    table = with_edits(table, cells, start)
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
                    start += table.num_rows


def batch_rows(rows: int, size: int) -> int:
    """How many rows of a table of `size` bytes make a batch."""
    return max(1, min(BATCH_ROWS, BATCH_CHARACTERS * rows // max(1, size)))


def paths_of(
    schema: pa.Schema, wanted: Sequence[str], problems: Problems
) -> dict[str, Sequence[str]]:
    """The fields that lead to each wanted column that there is."""
    found: dict[str, Sequence[str]] = {}
    for name in wanted:
        try:
            path = path_of(schema, name)
        except ThroughList:
            problems.whole(f"{name!r} {THROUGH_A_LIST}")
            continue
        if path is not None:
            found[name] = path
    return found


def batch_of(
    part: Any, start: int, wanted: Sequence[str], paths: Mapping[str, Sequence[str]]
) -> Batch:
    """A piece of an Arrow table as a batch; its first row is `start` (0-based)."""
    rows = part.num_rows
    cells: dict[str, list[Cell]] = {name: [None] * rows for name in wanted}
    for name, path in paths.items():
        cells[name] = column_at(part, path).to_pylist()
    return Batch(range(start + 1, start + rows + 1), cells)


def with_edits(table: pa.Table, cells: Edits, start: int) -> pa.Table:
    """`table` with other label cells; `cells` is by row of the whole file, the table's first
    row is `start`."""
    for column in dict.fromkeys(column for row in cells.values() for column in row):
        by_row = {row: each[column] for row, each in cells.items() if column in each}
        table = _with_cells(table, column, by_row, start)
    return table


def _with_cells(table: pa.Table, label: str, cells: Mapping[int, Cell], start: int) -> pa.Table:
    path = path_of(table.schema, label)
    assert path is not None
    index = table.schema.get_field_index(path[0])
    kind = table.schema.field(index)
    chunks = []
    for chunk in table.column(index).chunks:
        end = start + len(chunk)
        here = {row - start: cells[row] for row in range(start, end) if row in cells}
        chunks.append(_inside(chunk, path[1:], here, label, kind.type) if here else chunk)
        start = end
    if pa.types.is_dictionary(kind.type):
        # A column chunk is written with one dictionary.
        return table.set_column(
            index, kind, pa.chunked_array(chunks, kind.type).unify_dictionaries()
        )
    return table.set_column(index, kind, pa.chunked_array(chunks, kind.type))


def _inside(
    chunk: pa.Array, path: Sequence[str], here: Mapping[int, Cell], label: str, kind: pa.DataType
) -> pa.Array:
    """`chunk` with other cells at the end of a path of its fields."""
    if not path:
        return _with(chunk, here, label, kind)
    index = kind.get_field_index(path[0])
    fields = chunk.flatten()
    fields[index] = _inside(fields[index], path[1:], here, label, kind.field(index).type)
    nothing = np.asarray(chunk.is_null()).copy()
    nothing[[row for row, cell in here.items() if cell is not None]] = False
    return pa.StructArray.from_arrays(fields, fields=list(kind), mask=pa.array(nothing))


def _with(chunk: pa.Array, here: Mapping[int, Cell], label: str, kind: pa.DataType) -> pa.Array:
    values = chunk.to_pylist()
    for row, cell in here.items():
        values[row] = cell
    try:
        if pa.types.is_dictionary(kind):
            return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError) as error:
        told = [cell for cell in here.values() if not _fits(cell, kind)][:1]
        raise DataError(
            f"the label {told[0] if told else None!r} cannot be written to {label!r}, whose type "
            f"is {kind}: {error}"
        ) from error


def _fits(cell: Cell, kind: pa.DataType) -> bool:
    try:
        pa.array([cell], kind.value_type if pa.types.is_dictionary(kind) else kind)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def class_names_of(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that `datasets` wrote into an Arrow schema for a column, if any.

    Read from the metadata itself: the library's own reader refuses a file with one column of
    a type newer than it.
    """
    try:
        written = json.loads((schema.metadata or {})[b"huggingface"])
        feature: Any = written["info"]["features"]
        for part in [column] if column in feature else column.split("."):
            feature = feature[part]
    except (KeyError, TypeError, ValueError):
        return None
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            return tuple(map(str, names)) if isinstance(names, list) else None
        elif isinstance(feature, dict) and "feature" in feature:
            feature = feature["feature"]
        else:
            return None
