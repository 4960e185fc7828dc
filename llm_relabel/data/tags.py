"""Tags of words and the spans they mean: IOB1, BIO, BIOES, BILOU, and bare types.

Reading needs no scheme: a span begins at B, S or U, and wherever the type changes; it ends at E, L,
S or U, and where no I, E or L of its type follows. Which scheme a column has shows in its tags and
matters for writing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

Span = tuple[int, int, str]
"""First word, the word after the last, type."""

OUTSIDE: Final = "O"
SCHEMES: Final = ("bio", "iob1", "bioes", "bilou", "io")
_TAG = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_BEGINS, _ENDS = "BSU", "ESLU"
# What each scheme calls the first, a middle, the last word of a span, and a single one.
_WRITTEN: Final[Mapping[str, Sequence[str]]] = {
    "bio": "BIIB", "iob1": "IIII", "bioes": "BIES", "bilou": "BILU",
}  # fmt: skip


def parted(tag: str) -> tuple[str, str]:
    """The prefix and type of a tag; no prefix where it is a bare type, no type where it is O."""
    if tag == OUTSIDE:
        return "", ""
    found = _TAG.fullmatch(tag)
    return (found[1], found[2]) if found else ("", tag)


def spans_of(tags: Sequence[str]) -> tuple[Span, ...]:
    """The spans that tags mean, in order."""
    found: list[Span] = []
    start, kind = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = parted(tag)
        if kind and (own != kind or (prefix and prefix in _BEGINS)):
            found.append((start, place, kind))
            kind = ""
        if own and not kind:
            start, kind = place, own
        if kind and prefix and prefix in _ENDS:
            found.append((start, place + 1, kind))
            kind = ""
    return tuple(found)


def tags_of(spans: Sequence[Span], words: int, scheme: str) -> list[str]:
    """The tags of spans that do not overlap, in a scheme."""
    tags = [OUTSIDE] * words
    before: Span | None = None
    for span in sorted(spans):
        start, end, kind = span
        if scheme == "io":
            tags[start:end] = [kind] * (end - start)
            continue
        first, middle, last, single = _WRITTEN[scheme]
        if scheme == "iob1" and before is not None and before[1] == start and before[2] == kind:
            first = single = "B"
        for place in range(start, end):
            prefix = first if place == start else last if place == end - 1 else middle
            tags[place] = f"{single if end - start == 1 else prefix}-{kind}"
        before = span
    return tags


class Scheme:
    """Learns the scheme of a column from its tags.

    `stray` counts tags I that follow nothing of their type, in a column where B begins spans too.
    """

    def __init__(self) -> None:
        self._prefixes: set[str] = set()
        self._begun = self._inside = 0
        self.first_stray: int | None = None

    def see(self, tags: Sequence[str], place: int) -> None:
        """Learn from one row's tags; `place` is what an error calls the row."""
        before = ""
        for tag in tags:
            prefix, kind = parted(tag)
            if kind:
                self._prefixes.add(prefix)
                if prefix == "B" and before != kind:
                    self._begun += 1
                elif prefix == "I" and before != kind:
                    self._inside += 1
                    if self.first_stray is None:
                        self.first_stray = place
            before = kind

    @property
    def stray(self) -> int:
        """How many tags I follow nothing of their type, where B begins spans."""
        return self._inside if self.name != "iob1" else 0

    @property
    def mixed(self) -> str | None:
        """What is wrong with the tags, if they are of no one scheme."""
        if "" in self._prefixes and len(self._prefixes) > 1:
            return "some tags have a prefix such as B- and some are bare types"
        if self._prefixes & set("ES") and self._prefixes & set("LU"):
            return "tags of BIOES (E, S) stand beside tags of BILOU (L, U)"
        return None

    @property
    def name(self) -> str:
        """The scheme, `bio` where nothing tells."""
        if self._prefixes & set("LU"):
            return "bilou"
        if self._prefixes & set("ES"):
            return "bioes"
        if "" in self._prefixes:
            return "io"
        # In IOB1 a span begins with I, and with B only right after one of its type.
        return "iob1" if self._inside and not self._begun else "bio"
