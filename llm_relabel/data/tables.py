"""Small files beside the dataset, row by row: recorded answers, gold, review sheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_relabel.config.job import DataSection
from llm_relabel.data.compressed import format_of, open_content
from llm_relabel.data.unsupported import refusal
from llm_relabel.errors import DataError


def rows_of_file(path: Path, what: str) -> Iterator[Any]:
    """The rows of a small file beside the dataset, as its format gives them.

    `what` is what the file holds, for messages. Raises DataError where it cannot be read.
    """
    suffix = format_of(path)
    try:
        if not path.exists():
            raise DataError(f"{what}: {str(path)!r} does not exist")
        if refused := refusal(path):
            raise DataError(f"{what} {str(path)!r} {refused}")
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(path).to_pylist()
        elif suffix == ".xlsx":
            from llm_relabel.data.xlsx_files import XlsxFile

            columns = DataSection(path=str(path), text=("text",), label="label")
            yield from XlsxFile(path, columns).records()
        else:
            with open_content(path, what) as content:
                with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
                    yield from _rows_of_text(file, suffix, f"{what} {str(path)!r}")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{what} {str(path)!r} cannot be read: {error}") from error


def _rows_of_text(file: io.TextIOWrapper, suffix: str, name: str) -> Iterator[Any]:
    if suffix in (".csv", ".tsv"):
        yield from csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
    elif suffix == ".json":
        yield from json.load(file)
    else:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(f"{name} line {number}: {error}") from None
