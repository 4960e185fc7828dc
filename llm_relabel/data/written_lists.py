"""Lists of labels that are written as text in one cell: "a|b", "a, b", "['a', 'b']"."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice

from llm_relabel.errors import DataError

LIST, NONE = "list", "none"
SEPARATORS = ("|", ";", ",", "\n", "/", "+", "&")
_QUOTED = r"""(?:'[^']*'|"[^"]*")"""
_WITHOUT_COMMAS = re.compile(rf"\[\s*{_QUOTED}(?:\s+{_QUOTED})+\s*\]")  # as numpy writes arrays
# Enough distinct cells to see the shape of a label column.
_LOOKED_AT = 20_000


class WrittenLists:
    """Reads and writes the lists of one column, in the style of its first list.

    `separator` stands between the labels; `list`: each cell is a list in brackets, as Python,
    numpy or JSON write it.
    """

    def __init__(self, separator: str) -> None:
        self.separator = separator
        self._joint = "" if separator == LIST else separator
        self._learned = False
        self._style = ""

    def parts(self, text: str) -> list[str]:
        """The labels in a cell's text. Raises ValueError where it is not a list as expected."""
        if self.separator == LIST:
            values, style = _parsed(text.strip())
            if values and not self._style:
                self._style = style
            return values
        found = re.search(rf"(\s*){re.escape(self.separator)}(\s*)", text)
        if found and not self._learned:
            self._joint, self._learned = found[0], True
        return [part.strip() for part in text.split(self.separator) if part.strip()]

    def text(self, names: Sequence[str]) -> str:
        """The cell of these labels. Raises DataError where a label holds the separator."""
        if self.separator != LIST:
            for name in names:
                if self.separator in name or name != name.strip():
                    raise DataError(
                        f"the label {name!r} cannot be written between separators "
                        f"{self.separator!r} (data.label_separator)"
                    )
            return self._joint.join(names)
        if self._style == "json":
            return json.dumps(list(names), ensure_ascii=False)
        if self._style == "json,":
            return json.dumps(list(names), ensure_ascii=False, separators=(",", ":"))
        if self._style == "numpy":
            return "[" + " ".join(map(repr, names)) + "]"
        if self._style == "bare":
            return "[" + ", ".join(names) + "]"
        return repr(list(names))


def _parsed(text: str) -> tuple[list[str], str]:
    """The values of a written list, and how it is written."""
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("not a list in brackets")
    if _WITHOUT_COMMAS.fullmatch(text):  # Python would read 'a' 'b' as one text
        return [part[1:-1] for part in re.findall(_QUOTED, text)], "numpy"
    for parse, style in ((json.loads, "json"), (ast.literal_eval, "python")):
        try:
            values = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if any(isinstance(value, list | dict | tuple | set | float) for value in values):
            raise ValueError("the list holds something else than labels")
        names = [str(value) for value in values if value is not None]
        if names != [value for value in values if value is not None]:
            return names, "bare"  # numbers
        return names, "json," if style == "json" and "," in text and ", " not in text else style
    inside = [part.strip() for part in text[1:-1].split(",")]
    if any(part == "" or part[0] in "\"'[{(" for part in inside):
        raise ValueError("the list cannot be read")
    return inside, "bare"


def likely_separator(counts: Mapping[str, int]) -> tuple[str, str] | None:
    """`data.label_separator` of a column that looks like lists, and a cell that shows it; or None.

    `counts` holds the distinct cells. A separator must part cells into labels that come back in
    other cells: "a, b" beside "b, c" and "a" are lists, "Books, music" alone is a name.
    """
    cells = list(islice(counts, _LOOKED_AT))
    lists = [cell for cell in cells if cell.strip().startswith("[") and cell.strip().endswith("]")]
    if len(lists) * 2 > len(cells):
        try:
            sizes = {cell: len(_parsed(cell.strip())[0]) for cell in lists}
        except ValueError:
            sizes = {}
        if sizes:
            return LIST, max(sizes, key=lambda cell: sizes[cell])
    for separator in SEPARATORS:
        split = {cell: {part.strip() for part in cell.split(separator)} - {""} for cell in cells}
        several = {cell: parts for cell, parts in split.items() if len(parts) > 1}
        if len(several) < 2:
            continue
        occurs: dict[str, int] = {}
        for parts in split.values():
            for part in parts:
                occurs[part] = occurs.get(part, 0) + 1
        inside = set().union(*several.values())
        again = sum(occurs[part] > 1 for part in inside)
        if again * 2 > len(inside) and max(map(len, inside)) <= 60:
            return separator, next(iter(several))
    return None
