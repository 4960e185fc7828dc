"""Spans as labeling tools write them: lists or mappings with offsets into the text.

doccano writes `[start, end, type]`; spaCy, Prodigy, Label Studio and Hugging Face write mappings
that call the three by several names. Where a span tells its words too, they are held against the
offsets: a browser counts UTF-16 units, in which an emoji is two.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

Placed = tuple[int, int, str]
"""Start and end in characters, type."""

_START = ("start", "start_offset", "start_char", "begin", "start_index")
_END = ("end", "end_offset", "end_char", "stop", "end_index")
_TYPE = ("label", "labels", "type", "entity_type", "entity_group", "tag", "class", "category",
         "entity")  # fmt: skip
_WORDS = ("text", "word", "words", "value", "surface", "mention", "entity_text")
_UTF16 = "utf16"
_JOINERS = ("\u200d", "\ufe0e", "\ufe0f")


class Offsets:
    """Reads the spans of one column and writes them in the form of the first one.

    `told` is `data.offsets`: what offsets count, None where the spans' own words must tell.
    """

    def __init__(self, told: str | None) -> None:
        self._utf16 = told == _UTF16
        self._told = told
        self._form: Any = None
        self._names: dict[str, str] = {}
        # The cells whose mappings say more than the four, by row, so that it is not lost.
        self._kept: dict[int, str] = {}

    def read(self, row: int, cell: Sequence[Any], text: str) -> list[Placed]:
        """The spans of a cell. Raises ValueError with what is wrong with one."""
        found = [self._one(each, text) for each in cell]
        if any(isinstance(e, Mapping) and e.keys() - self._names.values() for e in cell):
            self._kept[row] = json.dumps(list(cell))
        return found

    def _one(self, span: Any, text: str) -> Placed:
        words = None
        if isinstance(span, Mapping):
            names = _names_in(span)
            start, end, kind = (span.get(names[part]) for part in ("start", "end", "type"))
            words = span.get(names["words"]) if "words" in names else None
            if isinstance(kind, list | tuple):
                if len(kind) != 1:
                    raise ValueError(f"it has {len(kind)} types, {kind!r:.60}; one is needed")
                kind = kind[0]
        elif isinstance(span, list | tuple) and len(span) == 3:
            names, (start, end, kind) = {}, span
        else:
            raise ValueError(f"{span!r:.80} is neither [start, end, type] nor a mapping of them")
        if type(start) is not int or type(end) is not int:
            raise ValueError(f"its offsets are no whole numbers in {span!r:.80}")
        if not isinstance(kind, str) or not kind:
            raise ValueError(f"it has no type in {span!r:.80}")
        if self._form is None:
            self._form, self._names = span, names
        start, end = self._in_characters(start, end, words, text)
        if not 0 <= start < end <= len(text):
            raise ValueError(f"{start}-{end} is outside of the text of {len(text)} characters")
        return start, end, kind

    def _in_characters(self, start: int, end: int, words: Any, text: str) -> tuple[int, int]:
        if not isinstance(words, str):
            return _from_utf16(text, start, end) if self._utf16 else (start, end)
        if self._told != _UTF16 and text[start:end] == words:
            return start, end
        if self._told in (None, _UTF16):
            found = _from_utf16(text, start, end)
            if text[found[0] : found[1]] == words:
                self._utf16 |= found != (start, end)
                return found
        raise ValueError(
            f"{start}-{end} is {text[start:end]!r:.40} in the text, and the span says "
            f"{words!r:.40}; line ends or other characters were changed since it was marked"
        )

    def cell(self, row: int, spans: Sequence[Placed], text: str) -> list[Any]:
        """The cell of these spans; what the row's own mappings say of a span that stays, stays."""
        own = json.loads(self._kept[row]) if row in self._kept else []
        kept: dict[tuple[int, int], Any] = {}
        for each in own:
            start, end, _ = self._one(each, text)
            kept[start, end] = each
        return [self._written(span, text, kept.get(span[:2])) for span in sorted(spans)]

    def _written(self, span: Placed, text: str, own: Any) -> Any:
        start, end, kind = span
        if isinstance(own, Mapping):
            name = _names_in(own)["type"]
            return {**own, name: [kind] if isinstance(own[name], list) else kind}
        told = _in_utf16(text, start, end) if self._utf16 else (start, end)
        if not isinstance(self._form, Mapping):
            return [*told, kind]
        values = {"start": told[0], "end": told[1], "type": kind, "words": text[start:end]}
        part_of = {name: part for part, name in self._names.items()}
        found = {name: values[part_of[name]] for name in self._form if name in part_of}
        name = self._names["type"]
        if isinstance(self._form[name], list):
            found[name] = [kind]
        return found


def _names_in(span: Mapping[str, Any]) -> dict[str, str]:
    """What a mapping calls start, end, type and, perhaps, the words."""
    found: dict[str, str] = {}
    for part, names in (("start", _START), ("end", _END), ("type", _TYPE), ("words", _WORDS)):
        name = next((name for name in names if name in span and name not in found.values()), None)
        if name is not None:
            found[part] = name
        elif part != "words":
            raise ValueError(f"it has no {part} among {', '.join(map(str, span))}")
    return found


def _from_utf16(text: str, start: int, end: int) -> tuple[int, int]:
    """Offsets in UTF-16 units as offsets in characters; -1 where one is inside a character."""
    if text.isascii():
        return start, end
    places, units = {}, 0
    for place, character in enumerate(text):
        places[units] = place
        units += 2 if ord(character) > 0xFFFF else 1
    places[units] = len(text)
    return places.get(start, -1), places.get(end, -1)


def _in_utf16(text: str, start: int, end: int) -> tuple[int, int]:
    """The inverse of `_from_utf16`."""
    first = sum(2 if ord(each) > 0xFFFF else 1 for each in text[:start])
    return first, first + sum(2 if ord(each) > 0xFFFF else 1 for each in text[start:end])


def cuts_a_character(text: str, at: int) -> bool:
    """Whether what a reader sees as one character lies on both sides of a place."""
    if not 0 < at < len(text) or text.isascii():
        return False
    after = text[at]
    return (
        after in _JOINERS or unicodedata.category(after) in ("Mn", "Me") or text[at - 1] == "\u200d"
    )


def cuts_a_word(text: str, at: int) -> bool:
    """Whether letters of a script that parts its words lie on both sides of a place."""
    if not 0 < at < len(text):
        return False
    return all(each.isalnum() and parts_words(each) for each in text[at - 1 : at + 1])


def parts_words(character: str) -> bool:
    """Whether a letter is of a script that puts spaces between words (not Chinese, Thai, ...)."""
    code = ord(character)
    return not (0x0E00 <= code < 0x1100 or 0x1780 <= code < 0x1800 or 0x2E80 <= code < 0xAC00
                or 0xF900 <= code < 0xFB00 or code >= 0x20000)  # fmt: skip
