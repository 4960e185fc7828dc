"""Small data files of every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_relabel.config.job import DataSection
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.errors import DataError

ROWS = [
    {"id": "a", "text": "one", "label": "x", "doc": "d1", "sure": True},
    {"id": "b", "text": 'two, "quoted"\nlines', "label": None, "doc": "d1", "sure": None},
    {"id": "c", "text": "ünï", "label": "y", "doc": "d2", "sure": False},
]


def read(path: Path, **keys: Any) -> Dataset:
    section = DataSection(**{"path": str(path), "text": "text", "label": "label", **keys})
    return read_dataset(section, lambda p: Path(p).resolve())


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(folder: Path, kind: str) -> Path:
    path = folder / f"d.{kind}"
    table = pa.Table.from_pylist(ROWS)
    if kind == "jsonl":
        return jsonl(path, ROWS)
    if kind == "json":
        path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    elif kind in ("csv", "tsv"):
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        import datasets

        path = folder / "saved"
        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    return path


def refused(path: Path, **keys: Any) -> str:
    """The message with which the file is refused."""
    with pytest.raises(DataError) as caught:
        read(path, **keys)
    return str(caught.value)
