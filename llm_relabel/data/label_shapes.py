"""What a label column may be that nobody said: lists written as text, values for "no label"."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llm_relabel.config.job import DataSection
from llm_relabel.data.written_lists import LIST, likely_separator

_NO_LABEL = frozenset(
    ("n/a", "na", "#n/a", "n.a.", "nan", "<na>", "null", "none", "nil", "-", "--", "?", "unknown",
     "unlabeled", "unlabelled", "missing", "undefined", "tbd", "todo", "not available", "no label",
     "not labeled", "not labelled", "unspecified", "k.a.")
)  # fmt: skip
SHOWN = 5


def list_hint(section: DataSection, counts: Mapping[str, int]) -> str | None:
    """What to say where single labels look like lists; `counts` holds the rows of each value."""
    if section.label_separator is not None or not isinstance(section.label, str):
        return None
    found = likely_separator(counts)
    if found is None:
        return None
    separator, cell = found
    told = (
        "lists in brackets" if separator == LIST else f"several labels with {separator!r} between"
    )
    return (
        f"the cells of {section.label!r} look like {told}, such as {cell[:60]!r}; set "
        f"data.label_separator: {separator!r} (`init --label-separator {separator!r}`) to read "
        "them as lists, or `none` where each cell is one label"
    )


def missing_hint(
    section: DataSection, counts: Mapping[str, int], defined: Collection[str] = ()
) -> str | None:
    """What to say where a value may mean "no label" and is not one of the `defined` labels."""
    if section.missing is not None:
        return None
    found = [
        name for name in counts
        if name not in defined and (name.strip().casefold() in _NO_LABEL or not name.strip())
    ]  # fmt: skip
    if "-1" in counts and "-1" not in defined:
        others = [name for name in counts if name != "-1"]
        # Of class numbers -1 is none; -1 and 1 are two classes.
        if "0" in others and all(name.isdecimal() for name in others):
            found.append("-1")
    if not found:
        return None
    shown = ", ".join(f"{name!r} ({counts[name]:,} rows)" for name in found[:SHOWN])
    listed = ", ".join(map(repr, found[:SHOWN]))
    flags = " ".join(f"--missing {name!r}" for name in found[:SHOWN])
    return (
        f"{shown} of {', '.join(section.label_columns)!r} may mean that there is no label; set "
        f"data.missing: [{listed}] (`init {flags}`) if so, or `data.missing: []` "
        "(`init --missing ''`) where each is a label like the others"
    )
