"""Small files beside the dataset, row by row: recorded answers, gold, review sheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_relabel.errors import DataError


def rows_of_file(path: Path, what: str) -> Iterator[Any]:
    """The rows of a small file beside the dataset, as its format gives them.

    `what` is what the file holds, for messages. Raises DataError where it cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(path).to_pylist()
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in (".csv", ".tsv"):
                yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            elif path.suffix == ".json":
                yield from json.load(file)
            elif path.suffix == ".jsonl":
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        try:
                            yield json.loads(line)
                        except ValueError as error:
                            raise DataError(
                                f"{what} {str(path)!r} line {number}: {error}"
                            ) from None
            else:
                raise DataError(
                    f"{what} {str(path)!r}: the name must end in .jsonl, .json, .csv, "
                    ".tsv or .parquet"
                )
    except FileNotFoundError:
        raise DataError(f"{what}: {str(path)!r} does not exist") from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{what} {str(path)!r} cannot be read: {error}") from error
