"""Task types, one file each; `task.py` is their seam, `registry.py` names them."""

from __future__ import annotations

from typing import cast

import pyarrow as pa

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.registry import TASKS, load
from llm_relabel.tasks.task import (
    Answer,
    Findings,
    InvalidAnswer,
    NeedsItem,
    Task,
    assembled,
    by_name,
    from_name,
    is_one_choice,
    labels_carefully,
    labels_of,
    units_between,
    whole_item,
)


def task_type(name: str) -> type[Task]:
    """The class of the task type called `name`."""
    return cast(type[Task], load(TASKS[name]))


def open_task(name: str, definitions: LabelDefinitions, label_type: pa.DataType) -> Task:
    """The task type called `name`, for these definitions and labels of this Arrow type."""
    return task_type(name)(definitions, label_type)


__all__ = [
    "Answer",
    "Findings",
    "InvalidAnswer",
    "NeedsItem",
    "Task",
    "assembled",
    "by_name",
    "from_name",
    "is_one_choice",
    "labels_carefully",
    "labels_of",
    "open_task",
    "task_type",
    "units_between",
    "whole_item",
]
