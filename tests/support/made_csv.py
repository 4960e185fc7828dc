"""CSV files as tests make them, and the words of `init` for them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

INIT = ("init", "data.csv", "--text", "text", "-o", "new")


def csv_file(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path
