"""`model.predictions`: out-of-sample probabilities that the user brings, joined by id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from llm_relabel.errors import DataError


def load_predictions(
    path: Path, ids: Any, class_names: Sequence[str], *, exclusive: bool = True
) -> NDArray[np.float32]:
    """(rows, classes) probabilities in the order of `ids`.

    Rows are made to sum to 1 where classes exclude each other; otherwise each value is a
    probability of its own.

    The file (.parquet, .jsonl or .csv) has a column `id`, and either `pred_probs` (a list in
    class order) or one column for each class name. Raises DataError with all problems: ids
    that are missing or twice, a wrong width, values that are no probabilities.
    """
    table = _read(path)
    if "id" not in table.column_names:
        raise DataError(
            f"predictions {str(path)!r}: no column 'id'; found {', '.join(table.column_names)}"
        )
    probs = _matrix(path, table, class_names)
    keys = [str(key) for key in table["id"].to_pylist()]
    row_of = {key: row for row, key in enumerate(keys)}
    problems = []
    if len(row_of) < len(keys):
        problems.append(f"{len(keys) - len(row_of):,} ids occur more than once")
    wanted = ids.to_pylist() if hasattr(ids, "to_pylist") else list(ids)
    missing = [key for key in wanted if key not in row_of]
    if missing:
        problems.append(
            f"{len(missing):,} rows of the dataset have no prediction, such as "
            + ", ".join(repr(key) for key in missing[:5])
        )
    bad = np.flatnonzero(~np.isfinite(probs).all(axis=1) | (probs < 0).any(axis=1))
    if len(bad):
        problems.append(
            f"{len(bad):,} rows hold NaN or negative values, the first is row {bad[0] + 1}"
        )
    elif exclusive and (probs.sum(axis=1) <= 0).any():
        problems.append("some rows are all zero")
    elif not exclusive and (probs > 1).any():
        problems.append("some values are above 1; each class has a probability of its own")
    if problems:
        raise DataError(f"predictions {str(path)!r}: " + "; ".join(problems))
    ordered = probs[[row_of[key] for key in wanted]]
    if exclusive:
        ordered = ordered / ordered.sum(axis=1, keepdims=True)
    return np.asarray(ordered, dtype=np.float32)


def _matrix(path: Path, table: pa.Table, class_names: Sequence[str]) -> NDArray[np.float64]:
    width = len(class_names)
    if "pred_probs" in table.column_names:
        rows = table["pred_probs"].to_pylist()
        wrong = [n for n, row in enumerate(rows, 1) if row is None or len(row) != width]
        if wrong:
            raise DataError(
                f"predictions {str(path)!r}: {len(wrong):,} rows of pred_probs do not hold "
                f"{width} values, one for each defined class; the first is row {wrong[0]}"
            )
        return np.array(rows, dtype=np.float64).reshape(-1, width)
    absent = [name for name in class_names if name not in table.column_names]
    if absent:
        raise DataError(
            f"predictions {str(path)!r}: needs a column 'pred_probs', or one for each class; "
            f"missing {', '.join(absent[:10])}"
        )
    columns = [table[name].cast(pa.float64()).to_numpy() for name in class_names]
    return np.stack(columns, axis=1)


def _read(path: Path) -> pa.Table:
    readers = {
        ".parquet": pa.parquet.read_table,
        ".jsonl": pa.json.read_json,
        ".csv": pa.csv.read_csv,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise DataError(f"predictions {str(path)!r}: the name must end in {', '.join(readers)}")
    try:
        return reader(str(path))
    except FileNotFoundError:
        raise DataError(f"predictions {str(path)!r} do not exist") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"predictions {str(path)!r} cannot be read: {error}") from error
