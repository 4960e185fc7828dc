"""CSV files as tests make them, and the words of `init` for them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_relabel.config.job import DataSection
from llm_relabel.data import Dataset, read_dataset

INIT = ("init", "data.csv", "--text", "text", "-o", "new")


def csv_file(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def read(path: Path, label: Any = "label", **keys: Any) -> Dataset:
    return read_dataset(DataSection(path=str(path), text="text", label=label, **keys), Path)


def column(tmp_path: Path, *cells: str, **keys: Any) -> Dataset:
    rows = [("text", "label"), *((f"t{row}", cell) for row, cell in enumerate(cells))]
    return read(csv_file(tmp_path / "d.csv", rows), **keys)
