"""A guideline that is worked on: what may change in it, within which limits, and what did.

The label set never changes: names are the data's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llm_relabel.config.definitions import LabelDefinition, LabelDefinitions
from llm_relabel.prompts.fit import estimated_tokens

FIELDS = ("definition", "examples", "not")
INSTRUCTION, FORM = "instruction", "form"
# What stands in the place of a label's name for what belongs to none.
OF_ALL = {INSTRUCTION: "(instruction)", FORM: "(form)"}
# A prompt that grows without end is dearer with every item.
MOST_WORDS, MOST_EXAMPLES, MOST_NOT = 60, 4, 3
LONGEST_EXAMPLE = 300  # characters
COPIED = 5  # words in a row that are no coincidence


@dataclass(frozen=True, slots=True)
class Proposal:
    """New words for one label, and what they are to mend; or for the instruction, `label` then
    being its place in OF_ALL and `definition` holding nothing but its words.

    `pair` is (gold, answered) of the confusion behind it, `evidence` the ids that showed it. `by`
    is who wrote it: `draft`, `errors` or the writer's model.
    """

    label: str
    definition: LabelDefinition
    why: str
    by: str
    pair: tuple[str, str] | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one label before and after; of what is no label's, see OF_ALL."""

    label: str
    field: str
    old: Any
    new: Any

    def as_json(self) -> dict[str, Any]:
        """As `proposals.jsonl` holds it."""
        return {"label": self.label, "field": self.field, "old": self.old, "new": self.new}


def within_limits(
    proposed: LabelDefinition, before: LabelDefinition, forbidden: Collection[str] = ()
) -> LabelDefinition:
    """The proposal cut to the limits; what holds COPIED words of a `forbidden` text is left out."""
    definition = _cut_words(proposed.definition, MOST_WORDS)
    if not definition or _copies(definition, forbidden):
        definition = before.definition
    return before.model_copy(update={
        "definition": definition,
        "examples": _texts(proposed.examples, before.examples, forbidden, MOST_EXAMPLES),
        "counterexamples": _texts(
            proposed.counterexamples, before.counterexamples, forbidden, MOST_NOT
        ),
    })  # fmt: skip


def _texts(
    texts: Iterable[str], before: Collection[str], forbidden: Collection[str], most: int
) -> tuple[str, ...]:
    kept = [
        text for text in dict.fromkeys(each.strip() for each in texts)
        if text and (text in before or (
            len(text) <= LONGEST_EXAMPLE and not _copies(text, forbidden)
        ))
    ]  # fmt: skip
    return tuple(kept[: max(most, len(before))])


def _cut_words(text: str, most: int) -> str:
    words = text.split()
    return " ".join(words) if len(words) <= most else " ".join(words[:most]) + " ..."


def _copies(text: str, forbidden: Collection[str]) -> bool:
    return bool(forbidden) and not shingles([text]).isdisjoint(forbidden)


def shingles(texts: Iterable[str]) -> set[str]:
    """All runs of COPIED words of the texts; a shorter text is one run."""
    found = set()
    for text in texts:
        words = re.findall(r"\w+", text.casefold())
        for start in range(max(1, len(words) - COPIED + 1)):
            found.add(" ".join(words[start : start + COPIED]))
    return found - {""}


def changed(
    definitions: LabelDefinitions, labels: Mapping[str, LabelDefinition]
) -> LabelDefinitions:
    """The guideline with these labels' entries, and the instruction if it is among them."""
    entries = {name: each for name, each in labels.items() if name in definitions.labels}
    update: dict[str, Any] = {"labels": {**definitions.labels, **entries}}
    if (instruction := labels.get(OF_ALL[INSTRUCTION])) is not None:
        update["instruction"] = instruction.definition
    return definitions.model_copy(update=update)


def entry_of(definitions: LabelDefinitions, name: str) -> LabelDefinition | None:
    """What a proposal for `name` would replace."""
    if name == OF_ALL[INSTRUCTION]:
        return LabelDefinition(definition=definitions.instruction or "-")
    return definitions.labels.get(name)


def differences(old: LabelDefinitions, new: LabelDefinitions) -> list[Difference]:
    """What differs, field by field, in the order of the labels."""
    found = []
    if old.instruction != new.instruction:
        name = OF_ALL[INSTRUCTION]
        found.append(Difference(name, INSTRUCTION, old.instruction, new.instruction))
    for name, before in old.labels.items():
        one, other = (each.model_dump(by_alias=True) for each in (before, new.labels[name]))
        found += [
            Difference(name, field, _plain(one[field]), _plain(other[field]))
            for field in FIELDS
            if one[field] != other[field]
        ]
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def size(definitions: LabelDefinitions) -> float:
    """About how many tokens the guideline adds to each question."""
    return estimated_tokens(definitions.to_yaml())


def only(proposal: Proposal, fields: Collection[str], before: LabelDefinition) -> Proposal:
    """The proposal in these fields alone."""
    kept = {
        "definition": proposal.definition.definition if "definition" in fields else None,
        "examples": proposal.definition.examples if "examples" in fields else None,
        "counterexamples": proposal.definition.counterexamples if "not" in fields else None,
    }
    update = {name: value for name, value in kept.items() if value is not None}
    return replace(proposal, definition=before.model_copy(update=update))
