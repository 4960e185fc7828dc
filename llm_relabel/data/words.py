"""Texts that come as words: shown with one space between, and always these same words again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llm_relabel.data.offsets import parts_words
from llm_relabel.records import Item

_SPACE = re.compile(r"\s")
# A space that parts no words, and what stands for a word without any character.
_INSIDE, _EMPTY = "\xa0", "\u2423"

_WORD = re.compile(r"\w+|[^\w\s]")

Range = tuple[int, int]


def joined(words: Sequence[str]) -> str:
    """The words as one text. White space inside a word is shown as one that parts no words."""
    return " ".join(_SPACE.sub(_INSIDE, word) or _EMPTY for word in words)


def ranges(text: str) -> tuple[Range, ...]:
    """Where each word of a joined text begins and ends, in characters."""
    found, start = [], 0
    if not text:
        return ()
    for word in text.split(" "):
        found.append((start, start + len(word)))
        start += len(word) + 1
    return tuple(found)


def words_in(text: str) -> tuple[Range, ...]:
    """Words and signs of a text; letters of scripts without spaces stand alone."""
    found: list[Range] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        if text[start:end].isascii() or all(map(parts_words, text[start:end])):
            found.append((start, end))
        else:
            found += [(place, place + 1) for place in range(start, end)]
    return tuple(found)


def words_of(item: Item) -> tuple[Range, ...]:
    """The words of an item's first field: those that it came as, or those found in it."""
    return item.words if item.words is not None else words_in(next(iter(item.fields.values())))
