"""Texts that come as words: shown with one space between, and always these same words again."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPACE = re.compile(r"\s")
# A space that parts no words, and what stands for a word without any character.
_INSIDE, _EMPTY = "\xa0", "\u2423"

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
