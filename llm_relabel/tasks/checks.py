"""Checks of a label column against the definitions, all problems at once."""

from __future__ import annotations

import pyarrow as pa

from llm_relabel.data import Dataset
from llm_relabel.errors import nearest
from llm_relabel.tasks.task import Findings

# Below this many labeled rows a class cannot be told from chance out of fold.
SMALL_CLASS = 5
SHOWN = 10


def class_findings(class_names: tuple[str, ...], dataset: Dataset) -> Findings:
    """Labels without a definition, classes too small to learn, nothing to learn at all."""
    found = _undefined_and_small(class_names, dataset)
    if len(class_names) < 2:
        found.problems.append(
            f"only {class_names[0]!r} is defined; at least two classes are needed"
        )
    return Findings(found.problems, found.warnings, _nothing_to_learn(class_names, dataset))


def span_findings(types: tuple[str, ...], dataset: Dataset) -> Findings:
    """Types without a definition, types too small to learn, nothing to learn at all."""
    found = _undefined_and_small(types, dataset, of="types", rows="spans")
    nothing = None
    if not len(dataset.labels.drop_null()):
        nothing = "no row has a label, so the small model has nothing to learn from"
    elif not _counts(dataset, dataset.labels):
        nothing = "no row has a span, so the small model has nothing to learn from"
    return Findings(found.problems, found.warnings, nothing)


def box_findings(classes: tuple[str, ...], dataset: Dataset) -> Findings:
    """Classes without a definition, classes too small to learn, nothing to learn at all."""
    found = _undefined_and_small(classes, dataset, rows="boxes")
    nothing = None
    if not _counts(dataset, dataset.labels):
        nothing = "no picture has a box, so the small model has nothing to learn from"
    return Findings(found.problems, found.warnings, nothing)


def _undefined_and_small(
    names: tuple[str, ...], dataset: Dataset, *, of: str = "classes", rows: str = "rows"
) -> Findings:
    problems: list[str] = []
    warnings: list[str] = []
    counts = _counts(dataset, dataset.labels)
    for role, found in (("label", counts), ("gold", _counts(dataset, dataset.gold))):
        unknown = {name: count for name, count in found.items() if name not in names}
        if unknown:
            shown = [
                f"{name!r} ({count:,} {rows}){nearest(name, names)}"
                for name, count in sorted(unknown.items(), key=lambda pair: -pair[1])[:SHOWN]
            ]
            more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
            problems.append(
                f"{len(unknown)} {role} values have no definition: {', '.join(shown)}{more}; "
                f"defined are {', '.join(names[:SHOWN])}" + (" ..." if len(names) > SHOWN else "")
            )
    small = [
        f"{name!r} ({counts.get(name, 0)})" for name in names if counts.get(name, 0) < SMALL_CLASS
    ]
    if small and counts and not problems:
        warnings.append(
            f"{of} with fewer than {SMALL_CLASS} labeled {rows} are too small to learn, and "
            f"{rows} will rarely be predicted to belong to them: {', '.join(small[:SHOWN])}"
            + (f" and {len(small) - SHOWN} more" if len(small) > SHOWN else "")
        )
    return Findings(problems, warnings)


def _nothing_to_learn(class_names: tuple[str, ...], dataset: Dataset) -> str | None:
    """Why the labels teach a model nothing, or None."""
    counts = _counts(dataset, dataset.labels)
    if not counts:
        return "no row has a label, so the small model has nothing to learn from"
    if not dataset.multi_label and len(set(counts) & set(class_names)) < 2:
        return f"only one class is used ({next(iter(counts))!r}); at least two are needed"
    return None


def _counts(dataset: Dataset, column: pa.ChunkedArray | None) -> dict[str, int]:
    return {} if column is None else dataset.label_cells.counts(column)
