"""Long items for a judge that must see all of the text: passages, each a question of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from llm_relabel.prompts.fit import cut_to, estimated_tokens
from llm_relabel.records import Item
from llm_relabel.tasks.task import LabelParts, Task
from llm_relabel.units import LabelValue

BEFORE = "the text before it"
# What a passage is shown with: so many characters of what stands before it, and this share of the
# room for the other fields at most.
BEFORE_CHARACTERS = 240
OTHERS = 0.4
# Where a text is best parted, the best first; each matches the whole gap.
_GAPS = tuple(map(re.compile, (r"\n\s*\n\s*", r"\s*\n\s*", r"(?<=[.!?;])\s+", r"\s+")))


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of an item and the candidates in it; `start` is where in the text it begins."""

    item: Item
    start: int
    candidates: tuple[LabelValue, ...]


def passages(task: Task, item: Item, candidates: Sequence[LabelValue], most: int) -> list[Passage]:
    """An item in passages of at most `most` tokens, by an estimate.

    Empty where it fits as it is, or the task's labels cannot be parted. A text is parted where a
    paragraph, a line or a sentence ends, and where no candidate's label would be.
    """
    parts = task.label_parts
    if parts is None or sum(map(estimated_tokens, item.fields.values())) <= most:
        return []
    name, *others = item.fields
    text = item.fields[name]
    shown = cut_to([item.fields[each] for each in others], int(most * OTHERS))
    around = sum(map(estimated_tokens, shown)) + BEFORE_CHARACTERS / 4 + 20
    labels = [label for label in candidates if label is not None]
    words = {start for start, _ in item.words} if item.words is not None else None

    def may_cut(at: int) -> bool:
        return bool(text[at:].strip()) and (words is None or at in words) and all(
            parts.joined((0, at), (parts.within(each, 0, at), parts.within(each, at, len(text))))
            == each
            for each in labels
        )  # fmt: skip

    starts = _starts(text, max(20.0, most - around), may_cut)
    found = []
    for start, end in pairwise((*starts, len(text))):
        fields = {name: text[start:end].rstrip()}
        if start:
            fields[BEFORE] = text[max(0, start - BEFORE_CHARACTERS) : start].strip()
        fields |= dict(zip(others, shown, strict=True))
        within = None
        if item.words is not None:
            within = tuple((a - start, b - start) for a, b in item.words if start <= a < end)
        here = tuple(dict.fromkeys(parts.within(each, start, end) for each in labels))
        found.append(Passage(replace(item, fields=fields, words=within), start, here))
    return found


def joined(parts: LabelParts, found: Sequence[Passage], labels: Sequence[LabelValue]) -> LabelValue:
    """The label of an item whose passages have these labels."""
    return parts.joined([passage.start for passage in found], labels)


def _starts(text: str, most: float, may_cut: Callable[[int], bool]) -> list[int]:
    """Where each passage begins."""
    starts = [0]
    while estimated_tokens(text[starts[-1] :]) > most:
        last = starts[-1] + _longest(text, starts[-1], most)
        # Where there is nothing to part it at: better too long than one entity in two.
        cut = _last_cut(text, starts[-1] + 1, last, may_cut) or _first_cut(text, last, may_cut)
        if cut is None:
            break
        starts.append(cut)
    return starts


def _longest(text: str, start: int, most: float) -> int:
    length = int(most)  # no character is more than a token
    while start + length < len(text) and estimated_tokens(text[start : start + length + 1]) <= most:
        length += 1
    return length


def _last_cut(text: str, first: int, last: int, may_cut: Callable[[int], bool]) -> int | None:
    """The last good place between two; of gaps that part more, only those in the last half."""
    half = (first + last) // 2
    for gap, begin in zip(_GAPS, (half, half, half, first), strict=True):
        for match in reversed(list(gap.finditer(text, begin, last))):
            if may_cut(match.end()):
                return match.end()
    return None


def _first_cut(text: str, begin: int, may_cut: Callable[[int], bool]) -> int | None:
    return next((m.end() for m in _GAPS[-1].finditer(text, begin) if may_cut(m.end())), None)
