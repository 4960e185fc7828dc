"""Names and texts that differ and look alike: how to find them, and how to show the difference."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

SHOWN = 10
_NUMBER = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
_JOINTS = re.compile(r"[\s_\-‐‑‒–—]+")
_OUTER = re.compile(r"\A\s+|\s+\Z|\s{2,}")
_NO_WORD = re.compile(r"[\W_]+")
_DASHES_AND_QUOTES = str.maketrans("’‘“”`´", "''\"\"''")


def alike_key(name: str) -> str:
    """What spellings of one name share: neither case, Unicode form, white space, hyphens nor
    invisible characters count, and 1, 01 and 1.0 are one number."""
    plain = unicodedata.normalize("NFKC", name).translate(_DASHES_AND_QUOTES)
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf").casefold().strip()
    if number := _NUMBER.fullmatch(plain):
        return number[1].replace("+", "") + number[2]
    # A name of nothing but such characters is no spelling of the empty name.
    return _JOINTS.sub(" ", unicodedata.normalize("NFKC", plain)).strip() or name


def text_key(text: str) -> str:
    """What copies of one text share: neither case, white space nor punctuation counts."""
    return _NO_WORD.sub(" ", text.casefold()).strip() or text.strip()


def item_keys(fields: Iterable[str]) -> set[str]:
    """The keys of an item's texts: each of its fields, and the first ones of them joined."""
    parts = [text for text in fields if text.strip()]
    joined = ["\n".join(parts[:end]) for end in range(2, len(parts) + 1)]
    return {text_key(text) for text in (*parts, *joined)}


def look_alikes(counts: Mapping[str, int]) -> list[list[str]]:
    """The groups of two names or more that look alike, the most frequent name of each first."""
    groups: dict[str, list[str]] = {}
    for name in counts:
        groups.setdefault(alike_key(name), []).append(name)
    return [
        sorted(names, key=lambda name: (-counts[name], name))
        for names in groups.values()
        if len(names) > 1
    ]


def told_look_alikes(groups: Iterable[list[str]], counts: Mapping[str, int]) -> str:
    """The groups in words, each name with its count and what cannot be seen made visible."""
    told = [
        ", ".join(f"'{visible_name(name)}' ({counts[name]:,})" for name in names)
        for names in groups
    ]
    more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return "; ".join(told[:SHOWN]) + more


def visible_name(name: str) -> str:
    """`name` with what nobody can see written out: outer and double spaces as ␣, other white
    space, invisible characters and an unusual Unicode form as \\uXXXX."""
    if name.isascii() and not _OUTER.search(name):
        return name
    shown = _OUTER.sub(lambda found: found[0].replace(" ", "␣"), name)
    decomposed = unicodedata.normalize("NFC", name) != name
    return "".join(_code(c) if _is_unseen(c, decomposed) else c for c in shown)


def _is_unseen(character: str, decomposed: bool) -> bool:
    if character == " ":
        return False
    if decomposed and unicodedata.combining(character):
        return True
    # Joiners belong to some scripts and emoji, and are seen there.
    return unicodedata.category(character) in ("Cf", "Zs", "Zl", "Zp", "Cc") and character not in (
        "\u200c",
        "\u200d",
    )


def _code(character: str) -> str:
    return f"\\u{ord(character):04x}"
