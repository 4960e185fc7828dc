"""Task types, one file each. A task says what a label, a unit and an answer are.

Everything around it (flagging, judging, deciding, changes, reports) knows units and
label values only, and so serves every task. `Task` is the whole of what a new type writes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llm_relabel.data import Dataset
from llm_relabel.definitions import LabelDefinitions
from llm_relabel.records import LabelValue, Targets


@dataclass(frozen=True, slots=True)
class Answer:
    """A judge's usable answer: a label, or an abstention (`abstained` says which kind)."""

    label: LabelValue
    abstained: str | None
    confidence: float | None
    rationale: str


@dataclass(frozen=True, slots=True)
class Unit:
    """What can be decided apart: its name, and what the three sources say of it (JSON values)."""

    name: str
    old: Any
    answered: Any
    predicted: Any


class InvalidAnswer(ValueError):
    """Raised when a judge's answer is not of the task's form; the text tells the judge why."""


class Task(Protocol):
    """One task type."""

    name: str
    template: str
    class_names: tuple[str, ...]
    whole: str
    """The name of the unit that stands for the whole item."""
    exclusive: bool
    """Whether an item has exactly one of the classes."""

    def encode(self, labels: Any) -> Targets:
        """An Arrow label column as Targets, (rows, classes)."""
        ...

    def decode(self, targets: Targets, row: int) -> LabelValue:
        """One row's label value."""
        ...

    def to_arrow(self, targets: Targets) -> Any:
        """A whole column of label values as an Arrow array, null where missing."""
        ...

    def put(self, targets: Targets, row: int, value: LabelValue) -> None:
        """Set one row's label value in place."""
        ...

    def predicted(self, probs: NDArray[np.float32]) -> Targets:
        """The labels that probabilities (rows, classes) predict."""
        ...

    def runner_up(self, probs: NDArray[np.float32]) -> LabelValue:
        """The next best label of one row's probabilities (classes,), if the task has one."""
        ...

    def other_label(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        """Some label that is none of `avoid`, drawn by `rng`; None if there is no other."""
        ...

    def label_quality(self, targets: Targets, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows,) belief in each current label in 0..1, LOWER is worse; 0 where it is missing.

        1 minus it is how far the prediction is from the label.
        """
        ...

    def differs(self, one: Targets, other: Targets) -> NDArray[np.bool_]:
        """(rows,) whether two label columns differ; a missing label differs from any label."""
        ...

    def prompt_constants(self) -> dict[str, Any]:
        """What the template's stable part is rendered with."""
        ...

    def show_label(self, label: LabelValue) -> str:
        """A label as prompts, pages and messages write it."""
        ...

    def answer_schema(self, *, full: bool = False) -> dict[str, Any]:
        """The JSON schema of a judge's answer; `full` names every label, however many there are."""
        ...

    def parse_answer(self, text: str) -> Answer:
        """A judge's JSON text as an Answer. Raises InvalidAnswer; never guesses a label."""
        ...

    def check_label(self, value: Any) -> LabelValue:
        """A label collected elsewhere, as a label value. Raises InvalidAnswer."""
        ...

    def units(self, old: LabelValue, answered: LabelValue, predicted: LabelValue) -> list[Unit]:
        """What can be decided apart about one answered item; at least one unit."""
        ...

    def assemble(self, old: LabelValue, units: Mapping[str, Any]) -> LabelValue:
        """The label after the named units took these values."""
        ...


def open_task(name: str, definitions: LabelDefinitions, dataset: Dataset) -> Task:
    """The task type called `name`, for these definitions and this dataset."""
    from llm_relabel.tasks.classification import Classification

    types: dict[str, type[Classification]] = {"classification": Classification}
    return types[name](definitions, multi_label=dataset.multi_label)


def check_labels(task: Task, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Problems (which end the job) and warnings of a label column against the definitions."""
    from llm_relabel.tasks.checks import check_label_columns

    return check_label_columns(task.class_names, dataset)


def why_untrainable(task: Task, dataset: Dataset) -> str | None:
    """Why a small model cannot learn from a dataset's labels, or None."""
    from llm_relabel.tasks.checks import nothing_to_learn

    return nothing_to_learn(task.class_names, dataset)


__all__: Sequence[str] = (
    "Answer",
    "InvalidAnswer",
    "Task",
    "Unit",
    "check_labels",
    "open_task",
    "why_untrainable",
)
