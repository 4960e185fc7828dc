"""The rows of a `model.predictions` file that lists what is predicted, joined to the data by id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from llm_relabel.data import Dataset, rows_of_file
from llm_relabel.errors import DataError

SHOWN = 5
Row = TypeVar("Row")


def rows_by_id(
    path: Path, dataset: Dataset, read: Callable[[str, Mapping[str, Any]], Row]
) -> list[Row]:
    """What `read` makes of each row, given its id, in the data's order.

    `read` raises KeyError, TypeError or ValueError with what is wrong. Raises DataError with all
    problems: those, ids that are missing or twice.
    """
    ids, problems = dataset.ids.to_pylist(), list[str]()
    wanted, seen, found = set(ids), set[str](), dict[str, Row]()
    for number, row in enumerate(rows_of_file(path, "predictions"), start=1):
        key = str(row.get("id")) if isinstance(row, Mapping) else "None"
        if key in seen:
            problems.append(f"row {number} repeats the id {key!r}")
        if key not in wanted:
            continue
        seen.add(key)
        try:
            found[key] = read(key, row)
        except (KeyError, TypeError, ValueError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"row {number}: {why}")
    missing = [each for each in ids if each not in seen]
    if missing:
        told = ", ".join(map(repr, missing[:SHOWN]))
        problems.append(f"{len(missing):,} rows of the dataset have no prediction, such as {told}")
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"predictions {str(path)!r}: {'; '.join(problems[:SHOWN])}{more}")
    return [found[each] for each in ids]
