"""Text classification: one class an item, or any number of them (multi-label).

Units: the item where classes exclude each other; each class on its own in multi-label data.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_relabel.definitions import LabelDefinitions
from llm_relabel.errors import nearest
from llm_relabel.records import LabelValue, Targets
from llm_relabel.tasks import Answer, InvalidAnswer, Unit

# Providers refuse very large enums (some at 100 values); above this the schema only says
# "string", the prompt still lists every label, and the answer is checked here as always.
ENUM_LIMIT = 100

# Characters of an unusable answer that a message repeats. They may be the item's own words, and
# the message goes back to the judge.
SHOWN = 100

_CODE_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class _OneLabel(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    rationale: str = ""
    label: str
    confidence: float | None = Field(default=None, ge=0, le=1)


class _ManyLabels(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    rationale: str = ""
    verdict: str = "decided"
    labels: list[str]
    confidence: float | None = Field(default=None, ge=0, le=1)


class Classification:
    """The classification task; `multi_label` follows from the label column holding lists."""

    name = "classification"
    template = "classification.jinja"
    whole = "label"

    def __init__(self, definitions: LabelDefinitions, *, multi_label: bool) -> None:
        self.definitions = definitions
        self.class_names = definitions.names
        self.multi_label = multi_label
        self.exclusive = not multi_label
        self._column = {name: index for index, name in enumerate(self.class_names)}
        self._none = self._free_word("NONE_OF_THESE")
        self._unsure = self._free_word("CANNOT_TELL")

    def _free_word(self, word: str) -> str:
        """`word`, made longer until no class is called so."""
        while word in self._column:
            word += "_"
        return word

    # Labels as arrays

    def encode(self, labels: pa.ChunkedArray) -> Targets:
        rows, width = len(labels), len(self.class_names)
        matrix = np.zeros((rows, width), dtype=np.bool_)
        known = ~np.asarray(pc.is_null(labels).combine_chunks())
        names = pa.array(self.class_names)
        if self.multi_label:
            flat = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
            parents = np.asarray(pc.list_parent_indices(flat))
            codes = np.asarray(pc.index_in(pc.list_flatten(flat), value_set=names))
            matrix[parents, codes] = True
        else:
            codes = pc.fill_null(pc.index_in(labels, value_set=names), -1)
            column = np.asarray(codes.combine_chunks())
            known = known & (column >= 0)
            matrix[np.flatnonzero(known), column[known]] = True
        return Targets(matrix=matrix, known=known, exclusive=not self.multi_label)

    def decode(self, targets: Targets, row: int) -> LabelValue:
        if not targets.known[row]:
            return None
        present = targets.matrix[row]
        if self.multi_label:
            return tuple(self.class_names[column] for column in np.flatnonzero(present))
        return self.class_names[int(present.argmax())]

    def to_arrow(self, targets: Targets) -> pa.Array:
        names = pa.array(self.class_names)
        if not self.multi_label:
            codes = pa.array(targets.matrix.argmax(axis=1), mask=~targets.known)
            return names.take(codes)
        counts = np.where(targets.known, targets.matrix.sum(axis=1), 0)
        columns = np.nonzero(targets.matrix & targets.known[:, None])[1]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets), names.take(pa.array(columns)), mask=pa.array(~targets.known)
        )

    def put(self, targets: Targets, row: int, value: LabelValue) -> None:
        targets.matrix[row] = False
        targets.known[row] = value is not None
        for name in (value,) if isinstance(value, str) else value or ():
            targets.matrix[row, self._column[name]] = True

    def predicted(self, probs: NDArray[np.float32]) -> Targets:
        rows = len(probs)
        if self.multi_label:
            matrix = probs > 0.5
        else:
            matrix = np.zeros(probs.shape, dtype=np.bool_)
            matrix[np.arange(rows), probs.argmax(axis=1)] = True
        return Targets(matrix, np.ones(rows, dtype=np.bool_), exclusive=not self.multi_label)

    def runner_up(self, probs: NDArray[np.float32]) -> LabelValue:
        if self.multi_label:
            # The least certain class decided the other way.
            matrix = probs > 0.5
            matrix[int(np.abs(probs - 0.5).argmin())] ^= True
            return tuple(self.class_names[column] for column in np.flatnonzero(matrix))
        return self.class_names[int(np.argsort(-probs, kind="stable")[1])]

    def other_label(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        if not self.multi_label:
            others = [name for name in self.class_names if name not in avoid]
            return rng.choice(others) if others else None
        members = set(avoid[0] or ())
        for name in rng.sample(self.class_names, len(self.class_names)):
            flipped = members ^ {name}
            label = tuple(each for each in self.class_names if each in flipped)
            if label not in avoid:
                return label
        return None

    def label_quality(self, targets: Targets, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.multi_label:
            # The worst unit: an item is as doubtful as its most doubtful class.
            quality = np.where(targets.matrix, probs, 1 - probs).min(axis=1)
        else:
            quality = np.where(targets.matrix, probs, 0).sum(axis=1)
        return np.where(targets.known, np.clip(quality, 0, 1), 0).astype(np.float32)

    def differs(self, one: Targets, other: Targets) -> NDArray[np.bool_]:
        differs = (one.matrix != other.matrix).any(axis=1) | (one.known != other.known)
        return np.asarray(differs & (one.known | other.known), dtype=np.bool_)

    # Prompt and answer

    def prompt_constants(self) -> dict[str, Any]:
        instruction = self.definitions.instruction or (
            "Decide which labels apply to the text."
            if self.multi_label
            else "Decide which label the text has."
        )
        return {
            "instruction": " ".join(instruction.split()),
            "labels": [
                {"name": name, **definition.model_dump()}
                for name, definition in self.definitions.labels.items()
            ],
            "multi_label": self.multi_label,
            "none_word": self._none,
            "unsure_word": self._unsure,
        }

    def show_label(self, label: LabelValue) -> str:
        if label is None:
            return "(no label)"
        if isinstance(label, str):
            return label
        return "{" + ", ".join(label) + "}" if label else "{} (no label applies)"

    def answer_schema(self, *, full: bool = False) -> dict[str, Any]:
        label: dict[str, Any] = {"type": "string"}
        if full or len(self.class_names) <= ENUM_LIMIT:
            words = () if self.multi_label else (self._none, self._unsure)
            label["enum"] = [*self.class_names, *words]
        answer: dict[str, Any] = {"label": label}
        if self.multi_label:
            answer = {
                "verdict": {"type": "string", "enum": ["decided", self._unsure]},
                "labels": {"type": "array", "items": label},
            }
        # The rationale comes first: what is written before the answer can inform it.
        properties = {
            "rationale": {"type": "string"},
            **answer,
            "confidence": {"type": "number"},
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def parse_answer(self, text: str) -> Answer:
        text = _THINKING.sub("", text)
        if fenced := _CODE_FENCE.match(text):
            text = fenced[1]
        try:
            if self.multi_label:
                many = _ManyLabels.model_validate_json(text)
                if many.verdict == self._unsure:
                    return Answer(None, "unsure", many.confidence, many.rationale)
                if many.verdict != "decided":
                    raise InvalidAnswer(
                        f"the verdict {many.verdict!r:.{SHOWN}} is not one of the allowed"
                    )
                return Answer(self.check_label(many.labels), None, many.confidence, many.rationale)
            one = _OneLabel.model_validate_json(text)
        except ValidationError as error:
            found = error.errors()[0]
            place = ".".join(str(part) for part in found["loc"])
            raise InvalidAnswer(f"{place + ': ' if place else ''}{found['msg'][:SHOWN]}") from None
        abstained = {self._none: "none_fits", self._unsure: "unsure"}.get(one.label)
        label = None if abstained else self.check_label(one.label)
        return Answer(label, abstained, one.confidence, one.rationale)

    def check_label(self, value: Any) -> LabelValue:
        if self.multi_label:
            if not isinstance(value, list | tuple):
                raise InvalidAnswer(f"{value!r:.{SHOWN}} is not a list of labels")
            for name in value:
                self._check_name(name)
            return tuple(name for name in self.class_names if name in set(value))
        return self._check_name(value)

    def _check_name(self, name: Any) -> str:
        if not isinstance(name, str) or name not in self._column:
            hint = nearest(str(name)[:SHOWN], self.class_names)
            raise InvalidAnswer(
                f"the label {name!r:.{SHOWN}} is not one of the defined labels{hint}"
            )
        return name

    # Units

    def units(self, old: LabelValue, answered: LabelValue, predicted: LabelValue) -> list[Unit]:
        if not self.multi_label:
            return [Unit(self.whole, old, answered, predicted)]
        sets = [set(value or ()) for value in (old, answered, predicted)]
        if old is None:
            # Nothing was there to keep: the label is one decision, not one for each class.
            return [Unit(self.whole, None, list(answered or ()), list(predicted or ()))]
        open_names = [
            name for name in self.class_names if len({name in members for members in sets}) > 1
        ]
        if not open_names:
            return [Unit(self.whole, list(old), list(old), list(old))]
        return [Unit(name, *(name in members for members in sets)) for name in open_names]

    def assemble(self, old: LabelValue, units: Mapping[str, Any]) -> LabelValue:
        if self.whole in units:
            value = units[self.whole]
            return tuple(value) if isinstance(value, list) else value
        members = {name for name in old or () if units.get(name, True)}
        members |= {name for name, present in units.items() if present}
        return tuple(name for name in self.class_names if name in members)
