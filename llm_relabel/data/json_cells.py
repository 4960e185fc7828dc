"""Finds one value inside JSON text and replaces it, leaving every other character alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from json.decoder import WHITESPACE, scanstring  # type: ignore[attr-defined]
from typing import Any

_decoder = json.JSONDecoder()


def skip_space(text: str, at: int) -> int:
    """The first position at or after `at` that is not JSON white space."""
    found = WHITESPACE.match(text, at)
    return int(found.end())


def elements(text: str) -> Iterator[tuple[int, int, Any]]:
    """(start, end, value) of each element of the array that `text` is.

    Raises json.JSONDecodeError where the text is not an array or breaks off.
    """
    at = skip_space(text, 0)
    if not text.startswith("[", at):
        raise json.JSONDecodeError("Expecting '['", text, at)
    at = skip_space(text, at + 1)
    if not text.startswith("]", at):
        while True:
            value, end = _decoder.raw_decode(text, at)
            yield at, end, value
            at = skip_space(text, end)
            if not text.startswith(",", at):
                break
            at = skip_space(text, at + 1)
    if not text.startswith("]", at):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    at = skip_space(text, at + 1)
    if at != len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def replace_value(
    text: str, path: Sequence[str], value: Any, encodes: Callable[[str], bool]
) -> str:
    """The JSON object `text` with the value at the end of `path` replaced, parsed to be sure.

    `path` is a key, then those inside its object. Of a key that stands twice the last counts, as
    it does for a reader. A missing key is added at the end, spaced like its neighbours, and with
    it what is missing on the way. Pure ASCII text stays pure ASCII, and so does a value that the
    file's encoding lacks (`encodes`).
    """
    key, *inner = path
    if inner:
        for name, _, _, start, end in reversed(list(members(text))):
            if name == key and text.startswith("{", start):
                return (
                    text[:start]
                    + replace_value(text[start:end], inner, value, encodes)
                    + (text[end:])
                )
        for part in reversed(inner):
            value = {part: value}
    new = _replaced(text, key, value, encodes)
    expected = _parsed(text) | {key: value}
    assert list(_parsed(new).items()) == list(expected.items()), f"{text!r} became {new!r}"
    return new


def _parsed(text: str) -> dict[str, Any]:
    # NaN is not equal to itself; its name is.
    found: dict[str, Any] = json.loads(text, parse_constant=str)
    return found


def _replaced(text: str, key: str, value: Any, encodes: Callable[[str], bool]) -> str:
    listed = list(members(text))
    if listed:
        first_key_end, first_value = listed[0][2], listed[0][3]
        colon = text[first_key_end:first_value]
    else:
        colon = ": "
    compact = colon == ":"
    separators = (",", ":") if compact else (", ", ": ")
    written = json.dumps(value, ensure_ascii=text.isascii(), separators=separators)
    if not encodes(written):
        written = json.dumps(value, separators=separators)
    for name, _, _, start, end in reversed(listed):
        if name == key:
            return text[:start] + written + text[end:]
    name = json.dumps(key, ensure_ascii=text.isascii())
    added = (name if encodes(name) else json.dumps(key)) + colon + written
    if not listed:
        inside = text.index("{") + 1
        return text[:inside] + added + text[inside:]
    end = listed[-1][4]
    if len(listed) > 1:
        between = text[listed[0][4] : listed[1][1]]
    else:
        opening = text[text.index("{") + 1 : listed[0][1]]
        between = "," + (opening or ("" if compact else " "))
    return text[:end] + between + added + text[end:]


def members(text: str) -> Iterator[tuple[str, int, int, int, int]]:
    """(key, key start, key end, value start, value end) of a valid JSON object's members."""
    at = skip_space(text, skip_space(text, 0) + 1)
    while not text.startswith("}", at):
        key, key_end = scanstring(text, at + 1)
        start = skip_space(text, skip_space(text, key_end) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield key, at, key_end, start, end
        at = skip_space(text, end)
        if text.startswith(",", at):
            at = skip_space(text, at + 1)
