"""Text classification: one class an item, or any number of them (multi-label).

Units: the item where classes exclude each other; each class on its own in multi-label data.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import ModelSection
from llm_relabel.data import Dataset
from llm_relabel.data.one_hot import class_cells
from llm_relabel.errors import nearest
from llm_relabel.measure import Accuracy
from llm_relabel.models.model import Predictions
from llm_relabel.models.targets import ClassLabels
from llm_relabel.models.text_classifier import TextClassifier, class_predictions
from llm_relabel.records import Item
from llm_relabel.spellings import visible_name
from llm_relabel.tasks.answers import SHOWN, LabelText, LabelTexts, Reply, named, parsed
from llm_relabel.tasks.checks import class_findings
from llm_relabel.tasks.exemplars import chosen_examples
from llm_relabel.tasks.task import Answer, Findings, InvalidAnswer, Starter
from llm_relabel.tasks.whole_items import WholeItems
from llm_relabel.units import SILENT, Codes, Kind, Labels, LabelValue, Units, has_label, names_of

# Providers refuse very large enums (some at 100 values); above this the schema only says
# "string", the prompt still lists every label, and the answer is checked here as always.
ENUM_LIMIT = 100

# No class is called so: classes have this before their name where they are units of their own.
CLASS = "class:"


class _OneLabel(Reply):
    label: LabelText


class _ManyLabels(Reply):
    verdict: str = "decided"
    labels: LabelTexts


class Classification(WholeItems):
    """The classification task; multi-label follows from the label column holding lists."""

    name = "classification"
    cells = staticmethod(class_cells)
    starter = Starter(
        least=2,
        instruction="Decide which label the text has.",
        told="what makes an item {name!r}, and how it differs from its neighbours.",
        examples=chosen_examples,
    )
    template = "classification.jinja"
    measure = Accuracy()
    widget: Literal["choices", "spans"] = "choices"
    weighs_sides = True
    careful = 0.0
    proves_changes = True
    label_parts = None
    answer_forms = ("label_first", "label_only")
    answer_tokens = 80  # a short rationale, a label, a confidence
    embedded_judge = "llm_relabel.judge.without_llm.embedded:EmbeddedJudge"

    def __init__(self, definitions: LabelDefinitions, label_type: pa.DataType) -> None:
        self.definitions = definitions
        classes = definitions.names
        self.multi_label = pa.types.is_list(label_type)
        self.kinds = (
            tuple(Kind(CLASS + name, (False, True), ("", name), none=0) for name in classes)
            if self.multi_label
            else (Kind("label", classes, classes),)
        )
        self.unit_note = (
            "A row may have several labels: a change adds one class to a row or takes one away, "
            "and a row is right only with exactly its set."
            if self.multi_label
            else None
        )
        self.names = names_of(self.kinds)
        self._classes = ClassLabels(classes, exclusive=not self.multi_label)
        # A candidate is shown with its unseen characters written out, and may come back so.
        shown = {visible_name(name): name for name in classes}
        self._spelled = shown | definitions.aliases | {name: name for name in classes}
        self._column = {name: index for index, name in enumerate(classes)}
        self._table: Units | None = None
        self._none = self._free_word("NONE_OF_THESE")
        self._unsure = self._free_word("CANNOT_TELL")

    def _free_word(self, word: str) -> str:
        """`word`, made longer until no class is called so."""
        while word in self._column:
            word += "_"
        return word

    # Labels

    def read(self, labels: pa.ChunkedArray) -> Labels:
        if self.multi_label:
            return self._classes.column(self._matrix(labels), ~_nulls(labels))
        names = np.array([*self.names, None], dtype=object)
        codes = pc.fill_null(pc.index_in(labels, value_set=pa.array(self.names)), len(self.names))
        return np.asarray(names[np.asarray(codes.combine_chunks())])

    def _matrix(self, labels: pa.ChunkedArray) -> NDArray[np.bool_]:
        flat = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
        matrix = np.zeros((len(flat), len(self.names)), dtype=np.bool_)
        parents = np.asarray(pc.list_parent_indices(flat))
        names = pa.array(self.names)
        matrix[parents, np.asarray(pc.index_in(pc.list_flatten(flat), value_set=names))] = True
        return matrix

    def to_arrow(self, labels: Labels) -> pa.Array:
        kind = pa.list_(pa.string()) if self.multi_label else pa.string()
        return pa.array(labels.tolist(), kind)

    def check(self, value: Any, item: Item | None = None) -> LabelValue:  # noqa: ARG002
        if not self.multi_label:
            return self._check_name(value)
        if not isinstance(value, list | tuple):
            raise InvalidAnswer(f"{value!r:.{SHOWN}} is not a list of labels")
        found = {self._check_name(name) for name in value}
        return tuple(name for name in self.names if name in found)

    def _check_name(self, name: Any) -> str:
        name = self._spelled.get(name, name) if isinstance(name, str) else name
        if not isinstance(name, str) or name not in self._column:
            hint = nearest(str(name)[:SHOWN], self.names)
            raise InvalidAnswer(
                f"the label {name!r:.{SHOWN}} is not one of the defined labels{hint}"
            )
        return name

    def findings(self, dataset: Dataset) -> Findings:
        return class_findings(self.names, dataset)

    def show(self, label: LabelValue) -> str:
        if label is None:
            return "(no label)"
        if isinstance(label, str):
            return visible_name(label)
        return "{" + ", ".join(map(visible_name, label)) + "}" if label else "{} (no label applies)"

    def show_unit(self, key: str, value: Any) -> str:
        if isinstance(value, bool):
            return f"{'with' if value else 'without'} {visible_name(key.removeprefix(CLASS))}"
        if isinstance(value, list):
            return ", ".join(map(visible_name, value)) or "(none applies)"
        return self.show(value)

    def example(self, item: Item, key: str) -> str:  # noqa: ARG002 - an item is an example whole
        return "\n".join(text for text in item.fields.values() if text.strip())

    # Units

    def units(
        self,
        columns: Mapping[str, Labels],
        predictions: Predictions | None = None,  # noqa: ARG002 - every source has the same units
    ) -> Units:
        rows = len(next(iter(columns.values())))
        if self._table is None or self._table.rows != rows:  # every source has the same units
            each, names = len(self.kinds), [kind.name for kind in self.kinds]
            self._table = Units(
                kinds=self.kinds,
                rows=rows,
                row=np.repeat(np.arange(rows), each),
                kind=np.tile(np.arange(each, dtype=np.int32), rows),
                key=np.tile(np.array(names, dtype=object), rows),
                unseen=np.zeros(each),
            )
        return self._table

    def codes(self, units: Units, labels: Labels) -> Codes:  # noqa: ARG002 - all rows are alike
        if not self.multi_label:
            place = self._column
            listed = labels.tolist()
            return np.fromiter((place.get(name, SILENT) for name in listed), np.int32, len(listed))
        found = self._classes.matrix(labels).astype(np.int32)
        found[~has_label(labels)] = SILENT
        return found.reshape(-1)

    def labels(
        self,
        units: Units,
        codes: Codes,
        belief: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> Labels:
        if not self.multi_label:
            return np.array([*self.names, None], dtype=object)[codes]
        matrix = codes.reshape(units.rows, len(self.kinds))
        return self._classes.column(matrix == 1, (matrix != SILENT).any(axis=1))

    def values(self, label: LabelValue, given: LabelValue) -> dict[str, Any]:  # noqa: ARG002
        if label is None:
            return {}
        if not self.multi_label:
            return {"label": label}
        members = set(label)
        return {CLASS + name: name in members for name in self.names}

    def assemble(self, old: LabelValue, decided: Mapping[str, Any]) -> LabelValue:
        if not self.multi_label:
            return decided.get("label", old)
        members = {name for name in old or () if decided.get(CLASS + name, True)}
        members |= {key.removeprefix(CLASS) for key, present in decided.items() if present}
        return tuple(name for name in self.names if name in members)

    def kinds_between(self, old: LabelValue, new: LabelValue) -> Counter[tuple[str, str]]:  # noqa: ARG002
        return Counter()

    def decoy(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        if not self.multi_label:
            others = [name for name in self.names if name not in avoid]
            return rng.choice(others) if others else None
        members = set(avoid[0] or ())
        for name in rng.sample(self.names, len(self.names)):
            flipped = members ^ {name}
            label = tuple(each for each in self.names if each in flipped)
            if label not in avoid:
                return label
        return None

    # The small model

    def model(
        self, section: ModelSection, dataset: Dataset, *, seed: int, cache: Path, folder: Path,
        progress: Any,
    ) -> TextClassifier:  # fmt: skip
        return TextClassifier(
            section, dataset.text, dataset.groups, self._classes, seed=seed, cache=cache,
            folder=folder, progress=progress,
        )  # fmt: skip

    def own_predictions(self, path: Path, dataset: Dataset) -> Predictions:
        from llm_relabel.models.own_predictions import load_predictions

        probs = load_predictions(path, dataset.ids, self.names, exclusive=not self.multi_label)
        return class_predictions(self._classes, probs)

    def beliefs(self, units: Units, predictions: Predictions) -> NDArray[np.float32]:  # noqa: ARG002
        flat = predictions.scores["pred_probs"].flatten()
        probs = np.asarray(flat, dtype=np.float32).reshape(len(predictions.labels), -1)
        if predictions.names != self.names:  # of the same definitions, written in another order
            probs = probs[:, [predictions.names.index(name) for name in self.names]]
        if not self.multi_label:
            return probs
        each = np.clip(probs, 0, 1)
        return np.stack([1 - each, each], axis=2).reshape(-1, 2)

    # The question and its answer

    def question(self) -> dict[str, Any]:
        several = "Decide which labels apply to the text."
        return {
            **self.definitions.as_asked(several if self.multi_label else self.starter.instruction),
            "multi_label": self.multi_label,
            "none_word": self._none,
            "unsure_word": self._unsure,
        }

    def answer_schema(self, *, full: bool = False, form: str | None = None) -> dict[str, Any]:
        label: dict[str, Any] = {"type": "string"}
        if full or len(self.names) <= ENUM_LIMIT:
            words = () if self.multi_label else (self._none, self._unsure)
            label["enum"] = [*self.names, *words]
        answer: dict[str, Any] = {"label": label}
        if self.multi_label:
            answer = {
                "verdict": {"type": "string", "enum": ["decided", self._unsure]},
                "labels": {"type": "array", "items": label},
            }
        confidence = {"type": "number", "minimum": 0, "maximum": 1}
        # The rationale comes first: what is written before the answer can inform it.
        properties = {"rationale": {"type": "string"}, **answer, "confidence": confidence}
        if form == "label_first":
            properties = {**answer, "confidence": confidence, "rationale": {"type": "string"}}
        if form == "label_only":
            properties = {**answer, "confidence": confidence}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def parse(self, text: str, item: Item | None = None) -> Answer:
        if not self.multi_label:
            one = parsed(_OneLabel, text, item)
            words = {self._none: self._none, self._unsure: self._unsure}
            said = named(one.label, self._spelled | words) or one.label
            abstained = {self._none: "none_fits", self._unsure: "unsure"}.get(said)
            label = None if abstained else self.check(said, item)
            repaired = one.repaired or said != self._spelled.get(one.label, one.label)
            return Answer(label, abstained, one.confidence, one.rationale, repaired)
        many = parsed(_ManyLabels, text, item)
        verdict = named(many.verdict, {word: word for word in ("decided", self._unsure)})
        if verdict == self._unsure:
            return Answer(None, "unsure", many.confidence, many.rationale, many.repaired)
        if verdict != "decided":
            raise InvalidAnswer(f"the verdict {many.verdict!r:.{SHOWN}} is not one of the allowed")
        all_said = [named(label, self._spelled) or label for label in many.labels]
        written = [self._spelled.get(label, label) for label in many.labels]
        repaired = many.repaired or all_said != written
        labels = self.check(all_said, item)
        return Answer(labels, None, many.confidence, many.rationale, repaired)


def _nulls(labels: pa.ChunkedArray) -> NDArray[np.bool_]:
    found = pc.is_null(labels)
    return np.asarray(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)
