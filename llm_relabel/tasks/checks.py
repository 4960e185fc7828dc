"""Checks of a label column against the definitions, all problems at once."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.data import Dataset
from llm_relabel.errors import nearest
from llm_relabel.tasks.task import Findings

# Below this many labeled rows a class cannot be told from chance out of fold.
SMALL_CLASS = 5
SHOWN = 10


def class_findings(class_names: tuple[str, ...], dataset: Dataset) -> Findings:
    """Labels without a definition, classes too small to learn, nothing to learn at all."""
    problems: list[str] = []
    warnings: list[str] = []
    counts = _counts(dataset.labels)
    for role, found in (("label", counts), ("gold", _counts(dataset.gold))):
        unknown = {name: rows for name, rows in found.items() if name not in class_names}
        if unknown:
            shown = [
                f"{name!r} ({rows:,} rows){nearest(name, class_names)}"
                for name, rows in sorted(unknown.items(), key=lambda pair: -pair[1])[:SHOWN]
            ]
            more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
            problems.append(
                f"{len(unknown)} {role} values have no definition: {', '.join(shown)}{more}; "
                f"defined are {', '.join(class_names[:SHOWN])}"
                + (" ..." if len(class_names) > SHOWN else "")
            )
    small = [
        f"{name!r} ({counts.get(name, 0)})"
        for name in class_names
        if counts.get(name, 0) < SMALL_CLASS
    ]
    if small and counts and not problems:
        warnings.append(
            f"classes with fewer than {SMALL_CLASS} labeled rows are too small to learn, and "
            f"rows will rarely be predicted to belong to them: {', '.join(small[:SHOWN])}"
            + (f" and {len(small) - SHOWN} more" if len(small) > SHOWN else "")
        )
    return Findings(problems, warnings, _nothing_to_learn(class_names, dataset))


def _nothing_to_learn(class_names: tuple[str, ...], dataset: Dataset) -> str | None:
    """Why the labels teach a model nothing, or None."""
    counts = _counts(dataset.labels)
    if not counts:
        return "no row has a label, so the small model has nothing to learn from"
    if not dataset.multi_label and len(set(counts) & set(class_names)) < 2:
        return f"only one class is used ({next(iter(counts))!r}); at least two are needed"
    return None


def _counts(column: pa.ChunkedArray | None) -> dict[str, int]:
    if column is None:
        return {}
    flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    pairs = pc.value_counts(flat.drop_null()).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}
