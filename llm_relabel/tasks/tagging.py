"""Sequence tagging: the entities of a text, each with its place and type.

A label is the spans of one text, none of which overlap. Units are the places that any source named,
and those that the small model holds possible: without these, everybody's silence on what nobody
named would be unknown, and a fusion would misread it. Each is of one type, or no entity. Every item
has one more unit, the text, which has one value: so an item without any span is spoken of, too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import ModelSection
from llm_relabel.data import Dataset
from llm_relabel.data.span_cells import TYPE, span_cells
from llm_relabel.data.spans import Span, span_of
from llm_relabel.data.tags import spans_of
from llm_relabel.errors import nearest
from llm_relabel.models.model import Predictions
from llm_relabel.models.own_spans import load_spans
from llm_relabel.models.text_tagger import TextTagger, beliefs_in, spans_over
from llm_relabel.records import Item
from llm_relabel.spellings import visible_name
from llm_relabel.tasks.answers import SHOWN, LabelText, Reply, named, object_schema, parsed
from llm_relabel.tasks.checks import span_findings
from llm_relabel.tasks.exemplars import span_examples
from llm_relabel.tasks.span_f1 import SpanF1
from llm_relabel.tasks.spans import (
    SpanParts,
    best_apart,
    kinds_between,
    marked_spans,
    occurrences,
    on_borders,
    ordered,
    shown,
    shown_text,
    text_of,
)
from llm_relabel.tasks.task import Answer, Findings, InvalidAnswer, NeedsItem, Starter
from llm_relabel.tasks.whole_items import WholeItems
from llm_relabel.units import SILENT, Codes, Kind, Labels, LabelValue, Units, column, has_label

# The unit of the text itself.
TEXT = "text"
# What the small model believes at least of a place that is a unit, though no source named it.
# Of .02, .05 and .15 the best on finer_ord, seed 0, with its recorded judges (evals/tagging.py).
POSSIBLE = 0.02


def _as_place(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class _Entity(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str
    type: LabelText
    occurrence: Annotated[int | None, BeforeValidator(_as_place)] = None


class _Entities(Reply):
    verdict: str = "decided"
    entities: list[_Entity]


class _Marked(Reply):
    verdict: str = "decided"
    marked: str


class Tagging(WholeItems):
    """The tagging task; the types are the defined labels."""

    name = "tagging"
    cells = staticmethod(span_cells)
    starter = Starter(
        least=1,
        instruction="Find every entity of the text.",
        told="what is a {name!r}, where it begins and ends, and what looks like one and is none.",
        examples=span_examples,
    )
    template = "tagging.jinja"
    measure = SpanF1()
    widget: Literal["choices", "spans"] = "spans"
    unit_note = (
        "A change is of one entity: it is added, taken away, or given another type; other borders "
        "are two changes. A row is right only with exactly its entities."
    )
    # A judge and a model that learned from other texts' labels err alike more often than a fusion
    # knows, and where the labels are good that does harm. Chosen on finer_ord, seed 0, with its own
    # labels and with ones that are better; see evals/tagging.py.
    careful = 0.85
    # Of 60 spot-checks a dozen lie on changed sentences, which prove nothing, though the labels
    # gain; the choice of the policy, keeping all among them, has little to lose.
    proves_changes = False
    label_parts = SpanParts()
    answer_forms = ("inline",)
    answer_tokens = 160  # a short rationale, a few entities, a confidence
    embedded_judge = None
    # On both sets that it was tried on the labels were better without (evals/tagging.py).
    weighs_sides = False

    def __init__(self, definitions: LabelDefinitions, label_type: pa.DataType) -> None:  # noqa: ARG002
        self.definitions = definitions
        self.names = definitions.names
        self.kinds = (
            Kind(TEXT, (None,), ("",), none=0),
            Kind("entity", (None, *self.names), ("", *self.names), none=0),
        )
        shown_as = {visible_name(name): name for name in self.names}
        self._spelled = shown_as | definitions.aliases | {name: name for name in self.names}
        self._code = {name: code for code, name in enumerate(self.names, start=1)}
        self._unsure = "CANNOT_TELL"

    # Labels

    def read(self, labels: pa.ChunkedArray) -> Labels:
        return column(
            None if spans is None else tuple(Span(**each) for each in spans)
            for spans in labels.to_pylist()
        )

    def to_arrow(self, labels: Labels) -> pa.Array:
        def cell(label: LabelValue) -> Any:
            if label is None:
                return None
            return [{"start": s.start, "end": s.end, "type": s.type, "text": s.text} for s in label]

        return pa.array(map(cell, labels.tolist()), TYPE)

    def check(self, value: Any, item: Item | None = None) -> LabelValue:
        if not isinstance(value, list | tuple):
            raise InvalidAnswer(f"{value!r:.{SHOWN}} is not a list of spans")
        if value and all(isinstance(each, str) for each in value):
            return self._from_tags(value, item)
        return ordered(self._span(each, item) for each in value)

    def _from_tags(self, tags: Sequence[str], item: Item | None) -> LabelValue:
        if item is None:
            raise NeedsItem("tags are of words, and no item was given with them")
        if item.words is None:
            raise InvalidAnswer(f"{tags[0]!r:.{SHOWN}} is a tag, and the text has no words")
        if len(tags) != len(item.words):
            raise InvalidAnswer(f"{len(tags)} tags are given for {len(item.words)} words")
        text, words = text_of(item), item.words
        places = [(words[a][0], words[b - 1][1], kind) for a, b, kind in spans_of(tags)]
        return ordered(Span(a, b, self._type(kind), text[a:b]) for a, b, kind in places)

    def _span(self, value: Any, item: Item | None) -> Span:
        if isinstance(value, list | tuple) and len(value) == 3:
            value = dict(zip(("start", "end", "type"), value, strict=True))
        if not isinstance(value, Mapping) or not {"start", "end", "type"} <= value.keys():
            raise InvalidAnswer(f"{value!r:.{SHOWN}} is no span with start, end and type")
        start, end, words = value["start"], value["end"], value.get("text")
        if type(start) is not int or type(end) is not int or not 0 <= start < end:
            raise InvalidAnswer(f"{start!r:.20} to {end!r:.20} is no place in a text")
        if item is not None:
            found = text_of(item)[start:end]
            if len(found) < end - start or words not in (None, found):
                raise InvalidAnswer(
                    f"{start}-{end} is {found!r:.{SHOWN}} in the text, not {words!r:.{SHOWN}}"
                )
            if item.words is not None and not on_borders(item, start, end):
                raise InvalidAnswer(f"{found!r:.{SHOWN}} begins or ends inside a word")
            words = found
        if not isinstance(words, str) or len(words) != end - start:
            raise InvalidAnswer(f"{start}-{end} does not tell its text, {words!r:.{SHOWN}}")
        return Span(start, end, self._type(value["type"]), words)

    def _type(self, name: Any) -> str:
        name = self._spelled.get(name, name) if isinstance(name, str) else name
        if not isinstance(name, str) or name not in self._code:
            raise InvalidAnswer(
                f"the type {name!r:.{SHOWN}} is not one of the defined ones"
                f"{nearest(str(name)[:SHOWN], self.names)}"
            )
        return name

    def findings(self, dataset: Dataset) -> Findings:
        return span_findings(self.names, dataset)

    def show(self, label: LabelValue) -> str:
        if label is None:
            return "(no label)"
        return "; ".join(map(shown, label)) or "(no entity)"

    def show_unit(self, key: str, value: Any) -> str:
        if isinstance(value, list):
            return self.show(self.check(value))
        if value is None:
            return (
                f"no entity {shown_text(key.partition(' ')[2])}"
                if key[:1].isdecimal()
                else ("(no label)")
            )
        return shown(span_of(key, value))

    def example(self, item: Item, key: str) -> str:
        span, text = span_of(key, ""), text_of(item)
        return f"{text[: span.start]}[[{span.text}]]{text[span.end :]}"

    # Units

    def units(self, columns: Mapping[str, Labels], predictions: Predictions | None = None) -> Units:
        listed = [labels.tolist() for labels in columns.values()]
        possible = spans_over(POSSIBLE, predictions)
        rows, row, key = len(listed[0]), list[int](), list[str]()
        for number, labels in enumerate(zip(*listed, strict=True)):
            found = {span.key for label in labels if label for span in label}
            found.update(possible.get(number, ()))
            row += [number] * (len(found) + 1)
            key += [TEXT, *sorted(found)]
        keys = np.array(key, dtype=object)
        return Units(
            kinds=self.kinds,
            rows=rows,
            row=np.array(row, dtype=np.int64),
            kind=np.asarray(keys != TEXT, dtype=np.int32),
            key=keys,
            unseen=np.zeros(len(self.kinds)),
        )

    def codes(self, units: Units, labels: Labels) -> Codes:
        starts, keys = units.starts.tolist(), units.key
        found = np.where(has_label(labels)[units.row], 0, SILENT).astype(np.int32)
        for row, label in enumerate(labels.tolist()):
            if label:
                own = {span.key: self._code[span.type] for span in label}
                first, last = starts[row], starts[row + 1]
                for place, key in enumerate(keys[first:last].tolist(), start=first):
                    if key in own:
                        found[place] = own[key]
        return found

    def labels(
        self, units: Units, codes: Codes, belief: NDArray[np.float32] | None = None
    ) -> Labels:
        starts = units.starts.tolist()
        found: list[LabelValue] = []
        for row in range(units.rows):
            here = slice(starts[row], starts[row + 1])
            if (codes[here] == SILENT).all():
                found.append(None)
                continue
            places = np.flatnonzero(codes[here] > 0) + here.start
            spans = [span_of(units.key[p], self.names[codes[p] - 1]) for p in places.tolist()]
            weights = np.ones(len(places)) if belief is None else np.asarray(belief[places])
            found.append(best_apart(spans, (weights + 1e-6).tolist()))
        return column(found)

    def values(self, label: LabelValue, given: LabelValue) -> dict[str, Any]:  # noqa: ARG002
        return {span.key: span.type for span in sorted(label or (), key=lambda span: span.key)}

    def assemble(self, old: LabelValue, decided: Mapping[str, Any]) -> LabelValue:
        new = [span_of(key, kind) for key, kind in decided.items() if kind is not None]
        kept = [
            span for span in old or ()
            if span.key not in decided
            and not any(span.start < other.end and other.start < span.end for other in new)
        ]  # fmt: skip
        return tuple(sorted([*kept, *new]))

    def kinds_between(self, old: LabelValue, new: LabelValue) -> Counter[tuple[str, str]]:
        return kinds_between(old or (), new or ())

    def decoy(self, avoid: Sequence[LabelValue], rng: random.Random) -> LabelValue:
        label = avoid[0] or ()
        for place in rng.sample(range(len(label)), len(label)):
            rest = (*label[:place], *label[place + 1 :])
            span = label[place]
            others = [name for name in self.names if name != span.type]
            wrong = [tuple(sorted([*rest, Span(span.start, span.end, name, span.text)]))
                     for name in rng.sample(others, len(others))]  # fmt: skip
            for each in (*wrong, rest):
                if each not in avoid:
                    return each
        return None

    # The small model

    def model(
        self, section: ModelSection, dataset: Dataset, *, seed: int, cache: Path, folder: Path,
        progress: Any,
    ) -> TextTagger:  # fmt: skip
        return TextTagger(
            section, dataset.text, dataset.groups, self.names, as_words=dataset.words, seed=seed,
            cache=cache, folder=folder, progress=progress,
        )  # fmt: skip

    def own_predictions(self, path: Path, dataset: Dataset) -> Predictions:
        return load_spans(path, dataset, self.names)

    def beliefs(self, units: Units, predictions: Predictions) -> NDArray[np.float32]:
        return beliefs_in(units, predictions, self.names)

    # The question and its answer

    def question(self) -> dict[str, Any]:
        return {
            **self.definitions.as_asked(self.starter.instruction),
            "unsure_word": self._unsure,
        }

    def answer_schema(self, *, full: bool = False, form: str | None = None) -> dict[str, Any]:  # noqa: ARG002 - types are few
        entity = {
            "text": {"type": "string"},
            "occurrence": {"type": "integer"},
            "type": {"type": "string", "enum": list(self.names)},
        }
        properties = {
            "rationale": {"type": "string"},
            "verdict": {"type": "string", "enum": ["decided", self._unsure]},
            "entities": {"type": "array", "items": object_schema(entity)},
            "marked": {"type": "string"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        }
        del properties["entities" if form == "inline" else "marked"]
        return object_schema(properties)

    def parse(self, text: str, item: Item | None = None) -> Answer:
        said: _Entities | _Marked
        try:
            said = parsed(_Entities, text, item)
        except InvalidAnswer:
            if '"marked"' not in text:
                raise
            said = parsed(_Marked, text, item)
        verdict = named(said.verdict, {word: word for word in ("decided", self._unsure)})
        if verdict == self._unsure:
            return Answer(None, "unsure", said.confidence, said.rationale, said.repaired)
        if verdict != "decided":
            raise InvalidAnswer(f"the verdict {said.verdict!r:.{SHOWN}} is not one of the allowed")
        if item is None:
            raise InvalidAnswer("without its item the places of an answer cannot be found")
        if isinstance(said, _Marked):
            marked, mended = marked_spans(item, said.marked, self._spelled)
            repaired = said.repaired or mended
            return Answer(ordered(marked), None, said.confidence, said.rationale, repaired)
        found, repaired = list[Span](), said.repaired
        for entity in said.entities:
            span, mended = self._placed(entity, item)
            found.append(span)
            repaired |= mended
        return Answer(ordered(found), None, said.confidence, said.rationale, repaired)

    def _placed(self, entity: _Entity, item: Item) -> tuple[Span, bool]:
        """Where an entity of an answer stands; and whether it was written otherwise there."""
        places, mended = occurrences(item, entity.text)
        if not places:
            raise InvalidAnswer(
                f"{entity.text!r:.{SHOWN}} does not stand in the text as whole words; copy the "
                "words of the text exactly"
            )
        number = entity.occurrence
        if number is None:
            if len(places) > 1:
                raise InvalidAnswer(
                    f"{entity.text!r:.{SHOWN}} stands {len(places)} times in the text; say which "
                    "`occurrence` is meant, counted from 1"
                )
            number = 1
        if not 1 <= number <= len(places):
            raise InvalidAnswer(
                f"`occurrence` {number} of {entity.text!r:.{SHOWN}} is not there; it stands "
                f"{len(places)} times in the text, counted from 1"
            )
        start, end = places[number - 1]
        kind = named(entity.type, self._spelled) or entity.type
        mended |= kind != self._spelled.get(entity.type, entity.type)
        return Span(start, end, self._type(kind), text_of(item)[start:end]), mended
