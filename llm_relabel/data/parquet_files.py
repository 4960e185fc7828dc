"""Parquet files: streamed in batches, rewritten row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import check_unchanged, copy_unchanged, hash_file, new_file
from llm_relabel.data.source import BATCH_ROWS, Batch, Cell
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
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"the dataset {path.name!r} is no parquet file: {error}") from error

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:  # noqa: ARG002 - the format has no bad rows
        present = [name for name in wanted if name in self._schema.names]
        start = 0
        with pq.ParquetFile(self._path) as file:
            for part in file.iter_batches(BATCH_ROWS, columns=present):
                rows = part.num_rows
                cells: dict[str, list[Cell]] = {name: [None] * rows for name in wanted}
                for name in present:
                    cells[name] = part.column(name).to_pylist()
                yield Batch(range(start + 1, start + rows + 1), cells)
                start += rows

    def columns(self) -> Sequence[str]:
        return list(self._schema.names)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names of a ClassLabel, which `datasets` keeps in the schema's metadata."""
        return class_names_of(self._schema, column)

    def sha256(self) -> str:
        return hash_file(self._path)

    def save(self, target: Path, label: str, cells: Mapping[int, Cell], sha256: str) -> None:
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
                    table = with_cells(table, label, cells, start)
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
                    start += table.num_rows


def with_cells(table: pa.Table, label: str, cells: Mapping[int, Cell], start: int) -> pa.Table:
    """`table` with other label cells; `cells` is by row of the whole file, the table's first
    row is `start`."""
    here = {row - start: cell for row, cell in cells.items() if start <= row < start + len(table)}
    if not here:
        return table
    index = table.schema.get_field_index(label)
    values = table.column(index).to_pylist()
    for row, cell in here.items():
        values[row] = cell
    kind = table.schema.field(index)
    try:
        plain = kind.type.value_type if pa.types.is_dictionary(kind.type) else kind.type
        column = pa.array(values, plain)
        if pa.types.is_dictionary(kind.type):
            column = column.dictionary_encode().cast(kind.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"a label cannot be written to {label!r} as {kind.type}: {error}"
        ) from error
    return table.set_column(index, kind, column)


def class_names_of(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that `datasets` wrote into an Arrow schema for a column, if any."""
    if b"huggingface" not in (schema.metadata or {}):
        return None
    from datasets import ClassLabel, Features

    feature: Any = Features.from_arrow_schema(schema).get(column)
    while feature is not None and not isinstance(feature, ClassLabel):
        feature = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return tuple(feature.names) if feature is not None else None
