"""Spans of a text: what tagging's labels are made of, and how a judge's words find their place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from llm_relabel.data.offsets import cuts_a_word
from llm_relabel.data.spans import Span
from llm_relabel.records import Item
from llm_relabel.spellings import visible_name
from llm_relabel.tasks.task import InvalidAnswer


def ordered(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans as a label value. Raises InvalidAnswer where two overlap."""
    found = tuple(sorted(set(spans)))
    for one, other in pairwise(found):
        if other.start < one.end:
            raise InvalidAnswer(
                f"{one.text!r:.60} ({one.type}) and {other.text!r:.60} ({other.type}) overlap; "
                "give each part of the text to one entity"
            )
    return found


def shown(span: Span) -> str:
    """A span in words."""
    return f"{visible_name(span.type)} {shown_text(span.text)}"


def shown_text(text: str) -> str:
    """The words of a span between quotes, on one line."""
    return f'"{visible_name(" ".join(text.split()))}"'


def best_apart(spans: Sequence[Span], weights: Sequence[float]) -> tuple[Span, ...]:
    """Those of `spans` that do not overlap and have the largest sum of weights (above 0).

    Weighted interval scheduling (Kleinberg and Tardos, Algorithm Design, section 6.1).
    """
    order = sorted(range(len(spans)), key=lambda place: spans[place].end)
    ends = [spans[place].end for place in order]
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for number, place in enumerate(order):
        before = best[bisect_right(ends, spans[place].start, 0, number)]
        taken = (before[0] + weights[place], (*before[1], place))
        best.append(max(best[-1], taken, key=lambda pair: pair[0]))
    return tuple(sorted(spans[place] for place in best[-1][1]))


def kinds_between(old: Sequence[Span], new: Sequence[Span]) -> Counter[tuple[str, str]]:
    """What is wrong with `old` if `new` is right: (kind, type) and how often.

    A span that is not in `new` and overlaps one that is there has other borders (or, at the same
    place, another type); it and that one are one error.
    """
    found: Counter[tuple[str, str]] = Counter()
    lost, came = [s for s in old if s not in new], [s for s in new if s not in old]
    for span in lost:
        beside = [s for s in came if s.start < span.end and span.start < s.end]
        same = [s for s in beside if (s.start, s.end) == (span.start, span.end)]
        if not beside:
            found["spurious", span.type] += 1
            continue
        other = (same or beside)[0]
        came.remove(other)
        found["another type" if same else "other borders", other.type] += 1
    found.update(("missing", span.type) for span in came)
    return found


def text_of(item: Item) -> str:
    """The text that spans of an item are of."""
    return next(iter(item.fields.values()))


def on_borders(item: Item, start: int, end: int) -> bool:
    """Whether a span keeps to the words of its item."""
    if item.words is not None:
        return any(start == a for a, _ in item.words) and any(end == b for _, b in item.words)
    text = text_of(item)
    return not cuts_a_word(text, start) and not cuts_a_word(text, end)


class SpanParts:
    """Spans where their text is parted."""

    def within(self, label: Any, start: int, end: int) -> tuple[Span, ...]:
        return tuple(
            _moved(span, -start) for span in label or () if start <= span.start and span.end <= end
        )

    def joined(self, starts: Sequence[int], labels: Sequence[Any]) -> tuple[Span, ...]:
        pairs = zip(starts, labels, strict=True)
        return tuple(_moved(span, start) for start, label in pairs for span in label or ())


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by, span.type, span.text)


def marked_spans(item: Item, marked: str, types: Mapping[str, str]) -> tuple[list[Span], bool]:
    """The spans of a text that an answer wrote once more with tags; and if white space differed.

    `types` holds the type behind each name that a tag may have. What looks like a tag and stands in
    the text itself is text. Raises InvalidAnswer where the words are not those of the text.
    """
    text = text_of(item)
    tags = {f"<{name}>": kind for name, kind in types.items()}
    closing = {f"</{name}>": kind for name, kind in types.items()}
    tag = re.compile("|".join(map(re.escape, sorted([*tags, *closing], key=len, reverse=True))))
    found, opened, at, place, repaired = list[Span](), "", 0, 0, False
    start = 0
    while place < len(marked):
        match = tag.match(marked, place)
        if match and not text.startswith(match[0], _past_space(text, at)):
            kind = tags.get(match[0], "")
            if bool(kind) == bool(opened) or (opened and closing[match[0]] != opened):
                raise InvalidAnswer(
                    f"the tag {match[0]!r:.60} is not where one can be: each entity has one that "
                    "opens and then one of the same type that closes, and none lies in another"
                )
            if kind:
                opened, start = kind, _past_space(text, at)
            else:
                words = text[start:at].rstrip()
                span = Span(start, start + len(words), opened, words)
                if not words or not on_borders(item, start, span.end):
                    raise InvalidAnswer(f"{span.text!r:.60} begins or ends inside a word")
                found.append(span)
                opened = ""
            place = match.end()
        elif at < len(text) and marked[place] == text[at]:
            at, place = at + 1, place + 1
        elif marked[place].isspace() or (at < len(text) and text[at].isspace()):
            repaired = True
            place += marked[place].isspace()
            at = _past_space(text, at)
        else:
            raise InvalidAnswer(
                f"`marked` goes on with {marked[place : place + 40]!r}, where the text has "
                f"{text[at : at + 40]!r}; copy the text exactly"
            )
    if opened or text[at:].strip():
        raise InvalidAnswer(
            f"`marked` ends before {text[at : at + 40]!r}; copy the whole text"
            if text[at:].strip()
            else f"the tag <{opened:.60}> is not closed"
        )
    return found, repaired


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def occurrences(item: Item, words: str) -> tuple[list[tuple[int, int]], bool]:
    """Where these words stand in an item, in order; and whether only white space differed.

    Inside a longer word they count only where they stand nowhere else, and never where the text
    came as words.
    """
    text = text_of(item)
    bare = "".join(words.split())
    if not bare:
        return [], False
    loose = r"\s*".join(map(re.escape, bare))
    for pattern, repaired in ((re.escape(words.strip()), words != words.strip()), (loose, True)):
        found = [match.span(1) for match in re.finditer(f"(?=({pattern}))", text)]
        inside = [place for place in found if on_borders(item, *place)]
        if inside:
            return inside, repaired
        if found and item.words is None:
            return found, repaired
    return [], False
