"""The seam of a task type: the whole of what a new one writes, beside its template.

A task says what a label, a unit and an answer are. Everything around it (flagging, judging,
deciding, changes, spot-checks, reports) knows units and label values only, and so serves every
task.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import ModelSection
from llm_relabel.data import Dataset
from llm_relabel.data.cells import CellsOf
from llm_relabel.images import ImagePart
from llm_relabel.measure import Measure
from llm_relabel.models.model import Predictions, SmallModel
from llm_relabel.records import Item
from llm_relabel.units import (
    ITEM,
    SILENT,
    Codes,
    Kind,
    Labels,
    LabelValue,
    Unit,
    Units,
    best,
    item_unit,
    label_json,
    one_choice,
    open_units,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A judge's usable answer: a label, or an abstention (`abstained` says which kind).

    `repaired`: what was said was taken out of a wrapping, or the label was written otherwise.
    """

    label: LabelValue
    abstained: str | None
    confidence: float | None
    rationale: str
    repaired: bool = False


class LabelParts(Protocol):
    """How a label follows its text where that is parted."""

    def within(self, label: LabelValue, start: int, end: int) -> LabelValue:
        """What of a label lies wholly in these characters of the text, as a label of them alone."""
        ...

    def joined(self, starts: Sequence[int], labels: Sequence[LabelValue]) -> LabelValue:
        """The label of the text whose parts, which begin at `starts`, have these labels."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """Texts for each label that may stand in its definition: examples, and what only looks so."""

    examples: Mapping[str, Sequence[str]]
    near_misses: Mapping[str, Sequence[str]]


class Examples(Protocol):
    """What chooses rows that can stand as examples of each label."""

    def __call__(self, dataset: Dataset, names: Sequence[str], spelled: Mapping[str, str]) -> Shown:
        """A few texts for each of `names`; `spelled` holds the name behind each other spelling."""
        ...


@dataclass(frozen=True, slots=True)
class Starter:
    """What `init` writes where there is only data yet.

    `least` is how many labels there must be; `told` asks for the definition of one, `{name!r}`.
    `asks` are lines that ask what else a judge must know.
    """

    least: int
    instruction: str
    told: str
    examples: Examples
    asks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What a label column shows before anything is trained.

    `problems` end the job; `untrainable` says why no small model can learn from the labels.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    untrainable: str | None = None


class InvalidAnswer(ValueError):
    """Raised when a judge's answer is not of the task's form; the text tells the judge why."""


class NeedsItem(InvalidAnswer):
    """Raised when a label may be one and only its item can tell."""


class Task(Protocol):
    """One task type. It is made from the definitions and the Arrow type of the label column."""

    name: str
    inputs: Literal["text", "image"]
    """What its items are: `data.text`, or `data.image`."""
    cells: CellsOf
    """How the labels stand in a file; asked of the type, before there is a task."""
    starter: Starter
    """A first page of definitions; asked of the type, too."""
    template: str
    """The prompt template: a file of `prompts/`, or a whole path."""
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    """Every value but `none`, kind after kind: the order of all that is counted by label."""
    measure: Measure
    """How good labels are against gold."""
    widget: Literal["choices", "spans", "boxes"]
    """How people give a label: they choose among the names, mark spans of the text, or draw boxes
    on the picture."""
    policy: str
    """What `decide.policy: auto` stands for where a language model judges."""
    careful: float
    """How much the evidence must believe in a unit's new value before it takes the place of a given
    one, in 0..1, where no spot-check has been made; 0: more than in any other."""
    proves_changes: bool
    """Whether spot-checks hold back changes that they do not prove to be better, or only choose
    the policy, keeping all labels among them. `decide.min_precision` holds back in any case."""
    label_parts: LabelParts | None
    """How a long text is parted into passages, each a question of its own; None: of a long text the
    judge sees head and tail."""
    answer_forms: tuple[str, ...]
    """What a template may set `answer` to: other forms of a judge's answer than the usual one."""
    answer_tokens: int
    """About how many tokens a judge's answer has."""
    unit_note: str | None
    """What a reader of a report must know of units and of a row that is right; None: a row is one
    choice."""
    weighs_sides: bool
    """Whether models of the given labels and of the verdicts say which side the texts vouch for
    (`evidence/views.py`)."""
    embedded_judge: str | None
    """`module:Class` of the judge that needs no LLM, made from (task, definitions); None:
    there is none."""

    def __init__(self, definitions: LabelDefinitions, label_type: pa.DataType) -> None: ...

    # Labels

    def read(self, labels: pa.ChunkedArray) -> Labels:
        """An Arrow label column as label values; None where the label is missing."""
        ...

    def to_arrow(self, labels: Labels) -> pa.Array:
        """A whole column of label values as an Arrow array, null where missing.

        The inverse of `read`, of the label column's type: what a cell is written from.
        """
        ...

    def check(self, value: Any, item: Item | None = None) -> LabelValue:
        """A JSON value as a label value; the inverse of `label_json`.

        With the `item`, also that it fits it. Raises InvalidAnswer; never guesses.
        """
        ...

    def findings(self, dataset: Dataset) -> Findings:
        """Problems and warnings of the label and gold columns, all at once."""
        ...

    def show(self, label: LabelValue) -> str:
        """A label in words, as prompts, pages and messages write it."""
        ...

    def show_unit(self, key: str, value: Any) -> str:
        """One unit's JSON value in words, as lists of changes write it."""
        ...

    def example(self, item: Item, key: str) -> str:
        """How an item stands in a definition as an example of what its unit `key` is."""
        ...

    # Units

    def units(self, columns: Mapping[str, Labels], predictions: Predictions | None = None) -> Units:
        """The units that these label columns (rows,), by source, speak of together.

        With `predictions`, also those that a small model holds possible, though it predicts others.
        What a column called `gold` speaks of may be matched to the others' units, as boxes are.
        """
        ...

    def codes(self, units: Units, labels: Labels) -> Codes:
        """(units,) what one label column says of these units."""
        ...

    def labels(
        self, units: Units, codes: Codes, belief: NDArray[np.float32] | None = None
    ) -> Labels:
        """(rows,) the labels that codes (units,) make; None where all are silent.

        Where codes of several units cannot stand side by side, those stay that `belief` (units,)
        in them is highest of together.
        """
        ...

    def values(self, label: LabelValue, given: LabelValue) -> dict[str, Any]:
        """One item's label by unit: key -> JSON value, in the units' order; empty for None.

        `given` is the item's given label, which keys may be anchored on.
        """
        ...

    def assemble(self, old: LabelValue, decided: Mapping[str, Any]) -> LabelValue:
        """The label after the units of these keys took these JSON values."""
        ...

    def kinds_between(self, old: LabelValue, new: LabelValue) -> Counter[tuple[str, str]]:
        """How two labels of one item differ, as counts of (kind of difference, name); empty where
        a task has no kinds of difference."""
        ...

    def decoy(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        """A wrong label that is like `avoid[0]` and none of `avoid`; None if there is no other."""
        ...

    # The small model

    def model(
        self, section: ModelSection, dataset: Dataset, *, seed: int, cache: Path, folder: Path,
        progress: Any,
    ) -> SmallModel:  # fmt: skip
        """The small model of this task, which reads nothing heavy before it is asked."""
        ...

    def own_predictions(self, path: Path, dataset: Dataset) -> Predictions:
        """The user's own out-of-sample predictions, in the data's order. Raises DataError."""
        ...

    def beliefs(self, units: Units, predictions: Predictions) -> NDArray[np.float32]:
        """(units, K) the small model's belief in each value, out of fold; 0 beyond a kind's own."""
        ...

    # The question and its answer

    def asked(self, candidates: Sequence[LabelValue]) -> frozenset[str] | None:
        """The units that a judge speaks of who was shown these candidates; None: of all."""
        ...

    def settled(self, label: LabelValue, candidates: Sequence[LabelValue]) -> LabelValue:
        """A label by somebody who did not see the candidates, as if made from them."""
        ...

    def anchored(self, label: LabelValue, known: Sequence[LabelValue]) -> LabelValue:
        """A label that a person drew, in the places of `known` labels where it means the same."""
        ...

    def posed(self, item: Item, candidates: Sequence[LabelValue]) -> Item:
        """The item with what its question asks by number, where there is such a thing."""
        ...

    def told_without(self, item: Item) -> LabelValue:
        """The label of a posed item in which there is nothing to ask; None: there is."""
        ...

    def images(self, item: Item) -> tuple[ImagePart, ...]:
        """The pictures of a posed item's question. Raises DataError where it has none to show."""
        ...

    def about(self, item: Item | None) -> dict[str, Any]:
        """What the template's item part is rendered with beside the fields; None: any item."""
        ...

    def question(self) -> dict[str, Any]:
        """What the template's stable part is rendered with; `instruction` at least."""
        ...

    def answer_schema(self, *, full: bool = False, form: str | None = None) -> dict[str, Any]:
        """The JSON schema of a judge's answer; `full` names every label, however many there are.

        `form` is one of `answer_forms`, which a template asks for; `parse` reads all of them.
        """
        ...

    def parse(self, text: str, item: Item | None = None) -> Answer:
        """A judge's JSON text as an Answer. Raises InvalidAnswer; never guesses a label."""
        ...


def is_one_choice(task: Task) -> bool:
    """Whether an item of this task is one unit: one choice from one list."""
    return one_choice(task.kinds)


def whole_item(task: Task) -> str:
    """The key of a decision on an item as a whole."""
    return item_unit(task.kinds)


def labels_of(task: Task, units: Units, beliefs: NDArray[np.float32]) -> Labels:
    """(rows,) the labels that are believed most; `beliefs` (units, K)."""
    return task.labels(units, best(beliefs), beliefs.max(axis=1))


def labels_carefully(
    task: Task, units: Units, beliefs: NDArray[np.float32], given: Codes
) -> Labels:
    """(rows,) the labels that are believed most, but for units with a `given` code (units,) whose
    best other value is not believed more than the task's `careful`."""
    codes = best(beliefs)
    kept = (given != SILENT) & (beliefs.max(axis=1) <= task.careful)
    codes = np.where(kept, given, codes).astype(np.int32)
    return task.labels(units, codes, beliefs[np.arange(len(codes)), codes])


def by_name(task: Task, label: LabelValue) -> Any:
    """A label as forms and labeling tools take it: the one choice by its name, else its JSON."""
    if label is None or not is_one_choice(task):
        return label_json(label)
    kind = task.kinds[0]
    return kind.names[kind.values.index(task.values(label, label)[kind.name])]


def from_name(task: Task, said: Any, item: Item | None = None) -> LabelValue:
    """A label out of a file or form, which may know text only: the inverse of `by_name`, or JSON.

    Raises InvalidAnswer.
    """
    if is_one_choice(task) and isinstance(said, str | int | float):
        kind, name = task.kinds[0], said
        if isinstance(said, bool):
            name = str(said).lower()
        elif not isinstance(said, str):
            name = f"{said:.0f}" if said == said // 1 else str(said)
        if name in kind.names:
            return task.assemble(None, {kind.name: kind.values[kind.names.index(str(name))]})
    return task.check(said, item)


def units_between(
    task: Task, given: LabelValue, old: LabelValue, answered: LabelValue, predicted: LabelValue
) -> list[Unit]:
    """What can be decided apart about one answered item; at least one unit.

    Where nothing was there to keep, the label is one decision, not one for each unit.
    """
    if old is None and not is_one_choice(task):
        return [Unit(ITEM, None, label_json(answered), label_json(predicted))]
    each = [task.values(label, given) for label in (old, answered, predicted)]
    found = list(open_units(task.kinds, *each))
    kept = label_json(old)
    return found or [Unit(whole_item(task), kept, kept, kept)]


def assembled(task: Task, old: LabelValue, decided: Mapping[str, Any]) -> LabelValue:
    """The label after `decided`, of which the item as a whole comes first."""
    if ITEM in decided and not is_one_choice(task):
        whole = decided[ITEM]
        old = None if whole is None else task.check(whole)
        decided = {key: value for key, value in decided.items() if key != ITEM}
    return task.assemble(old, decided) if decided else old
