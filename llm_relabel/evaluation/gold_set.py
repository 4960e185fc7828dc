"""Gold: a file of trusted labels, joined to the dataset by id and never by position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.raters import rater_matrix
from llm_relabel.data import read_dataset, rows_of_file
from llm_relabel.data.written_lists import NONE, WrittenLists
from llm_relabel.errors import DataError, nearest
from llm_relabel.prepared import Prepared
from llm_relabel.tasks import InvalidAnswer, NeedsItem, Task, from_name, is_one_choice, task_type
from llm_relabel.units import Labels, has_label
from llm_relabel.units import column as label_column

SHOWN = 5
RATER_COLUMNS = ("raters", "annotators")


@dataclass(frozen=True)
class GoldSet:
    """Items with gold. `rows` (items,) are their rows in the dataset, `truth` their gold labels,
    which `task` reads.

    `raters` is (items, raters) class codes of several people, -1 where one gave none, with
    `rater_names`; None where the file has no such column or labels are not exclusive.
    """

    task: Task
    rows: NDArray[np.int64]
    truth: Labels
    raters: NDArray[np.int64] | None
    rater_names: tuple[str, ...]
    warnings: tuple[str, ...]


def read_gold(prepared: Prepared, path: Path | None) -> GoldSet:
    """Read a gold file, or the job's own `data.gold` column where no file is named.

    The file's label column is called as `data.gold` or `data.label` are, or `gold` or `label`.
    Raises DataError with all problems.
    """
    dataset, task = prepared.dataset, prepared.task
    if path is None:
        if prepared.gold is None:
            raise DataError("no gold: name a file with --gold, or a column with data.gold")
        rows = np.flatnonzero(has_label(prepared.gold))
        return GoldSet(task, rows, prepared.gold[rows], None, (), ())
    found = _labels_by_id(prepared, path)
    place = {item_id: row for row, item_id in enumerate(dataset.ids.to_pylist())}
    unknown = [item_id for item_id in found if item_id not in place]
    if len(unknown) == len(found):
        raise DataError(
            f"gold {str(path)!r}: none of its {len(found):,} ids is in data.path "
            f"{prepared.job.data.path!r}; the first is {unknown[0]!r}, the data's first is "
            f"{dataset.ids[0].as_py()!r}"
        )
    warnings = []
    if unknown:
        shown = ", ".join(map(repr, unknown[:SHOWN]))
        warnings.append(f"{len(unknown):,} gold ids are not in the data and are left out: {shown}")
    kept = sorted((place[item_id], item_id) for item_id in found if item_id in place)
    truth = label_column(found[item_id][0] for _, item_id in kept)
    raters: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    people = [found[item_id][1] for _, item_id in kept]
    if is_one_choice(task) and any(people):
        codes = {name: code for code, name in enumerate(task.names)}
        raters, listed = rater_matrix(people, codes)
        names = tuple(listed)
    return GoldSet(
        task, np.array([row for row, _ in kept], dtype=np.int64), truth, raters,
        names, tuple(warnings),
    )  # fmt: skip


def _labels_by_id(
    prepared: Prepared, path: Path
) -> dict[str, tuple[Any, Mapping[str, Any] | None]]:
    """Id -> gold label and what several raters said, of all rows that have a gold label."""
    section, problems = prepared.job.data, dict[str, list[str]]()
    rows = list(rows_of_file(path, "gold"))
    strange = [f"row {n}" for n, row in enumerate(rows, start=1) if not isinstance(row, dict)]
    if strange:
        raise DataError(
            f"gold {str(path)!r}: {len(strange):,} rows are no objects with columns: "
            f"{', '.join(strange[:SHOWN])}"
        )
    # Over all rows: in JSON lines a row may leave out what it has not.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    wanted = [name for name in (section.gold, "gold", *section.label_columns[:1], "label") if name]
    column = next((name for name in wanted if name in columns), None)
    if column is None:
        raise DataError(
            f"gold {str(path)!r}: no label column; it has {', '.join(columns) or 'no rows'}; "
            f"expected one called {' or '.join(dict.fromkeys(wanted))}"
        )
    ids = _ids(prepared, path, rows, columns, column)
    people = next((name for name in RATER_COLUMNS if name in columns), None)
    found: dict[str, tuple[Any, Mapping[str, Any] | None]] = {}
    for number, (item_id, row) in enumerate(zip(ids, rows, strict=True), start=1):
        label = row.get(column)
        if label in (None, ""):
            continue
        if item_id in (None, ""):
            problems.setdefault("rows without an id", []).append(f"row {number}")
            continue
        if item_id in found:
            problems.setdefault("ids that occur twice", []).append(f"row {number} ({item_id!r})")
            continue
        if isinstance(label, str) and not is_one_choice(prepared.task):
            label = _listed(label, section.label_separator)
        place = prepared.row_of.get(str(item_id))
        item = None if place is None else prepared.dataset.item(place)
        try:
            value = from_name(prepared.task, label, item)
        except NeedsItem:
            continue  # of another dataset; which rows are not joined is told below
        except InvalidAnswer as error:
            problems.setdefault("labels that are not defined", []).append(f"row {number}: {error}")
            continue
        told = row.get(people) if people and is_one_choice(prepared.task) else None
        told = _listed(told) if isinstance(told, str) and told else told or None
        if told is not None and (wrong := _not_raters(told, prepared.task.names)):
            problems.setdefault(f"{people} that cannot be read", []).append(
                f"row {number}: {wrong}"
            )
            continue
        found[str(item_id)] = (
            value,
            None if told is None else {str(who): _said(label) for who, label in told.items()},
        )
    if problems:
        told_all = [
            f"{len(places):,} {kind}: {', '.join(places[:SHOWN])}"
            for kind, places in problems.items()
        ]
        raise DataError(f"gold {str(path)!r}: " + "; ".join(told_all))
    if not found:
        raise DataError(f"gold {str(path)!r}: no row has a gold label in column {column!r}")
    return found


def _not_raters(told: Any, names: Sequence[str]) -> str | None:
    """What is wrong with a row's raters, or None."""
    if not isinstance(told, dict):
        return f"expected a mapping of person to label, found {told!r}"
    for who, label in told.items():
        if label not in (None, "") and _said(label) not in names:
            return f"{who!r} says {label!r}, which is no defined label"
    return None


def _said(label: Any) -> str | None:
    """A rater's label as the definitions write it; None where there is none."""
    return None if label in (None, "") else str(label)


def _ids(
    prepared: Prepared, path: Path, rows: list[Any], columns: Sequence[str], column: str
) -> list[Any]:
    """Each row's id: the file's own, or, where the data has none, the hash of its content."""
    section = prepared.job.data
    name = section.id or "id"
    if section.id is not None or "id" in columns:
        if name not in columns:
            raise DataError(
                f"gold {str(path)!r}: no column {name!r}{nearest(name, columns)} to join by; it "
                f"has {', '.join(columns)}"
            )
        return [None if row.get(name) is None else str(row[name]) for row in rows]
    plain = {"label": column, "gold": None, "locked": None, "group": None, "dev": None}
    alike = section.model_copy(update={"path": str(path), **plain})
    ids: list[Any] = read_dataset(
        alike, Path, cells_of=task_type(prepared.job.task).cells
    ).ids.to_pylist()
    return ids


def _listed(text: str, separator: str | None = None) -> Any:
    """A list or mapping that a CSV cell holds as JSON, or a list written as the data's are."""
    if separator not in (None, NONE):
        try:
            return WrittenLists(separator).parts(text)
        except ValueError:
            pass
    try:
        return json.loads(text)
    except ValueError:
        return text
