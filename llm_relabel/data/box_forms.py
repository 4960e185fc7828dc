"""How files write boxes: what they call class and corners, and what their four numbers mean.

Four numbers alone do not tell whether the last two are a corner or a size. What their names say
counts; else each reading is tried on all boxes, and one is taken only if no other fits as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.job import BOX_CONVENTIONS
from llm_relabel.data.boxes import Corners, Floats

NORMALIZED = "normalized"
# A reading fits if so many boxes at most leave their picture by more than SLACK pixels: some tools
# count from 1, and people draw over the edge.
MOST_STRAYS = 0.01
SLACK = 2.0

CLASS = ("label", "labels", "cls", "class", "category", "category_name", "category_id", "name",
         "type", "class_id")  # fmt: skip
BOX = (
    "box",
    "bbox",
    "bounding_box",
    "boxes",
    "bboxes",
    "xyxy",
    "xywh",
    "cxcywh, normalized",
    "bndbox",
    "points",
)
NAMED: Mapping[tuple[str, ...], str] = {
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("x_min", "y_min", "x_max", "y_max"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("left", "top", "right", "bottom"): "xyxy",
    ("x", "y", "width", "height"): "xywh",
    ("x", "y", "w", "h"): "xywh",
    ("left", "top", "width", "height"): "xywh",
}
# What says that nobody decides about a box.
FIXED = ("iscrowd", "is_crowd", "difficult", "locked", "ignore")


@dataclass(frozen=True, slots=True)
class Written:
    """One box as written: its class, its numbers, and what their names say of them."""

    kind: Any
    numbers: tuple[float, float, float, float]
    told: str | None
    fixed: bool


def boxes_in(cell: Any) -> list[Written]:
    """The boxes of a cell: a list of mappings, or a mapping of lists as Hugging Face has it.

    Raises ValueError with what is wrong with one.
    """
    return [_box(each) for each in each_of(cell)]


def each_of(cell: Any) -> list[Mapping[str, Any]]:
    """The cell as a list of mappings. Raises ValueError."""
    if isinstance(cell, Mapping):
        lists = {name: value for name, value in cell.items() if isinstance(value, list | tuple)}
        if len({len(value) for value in lists.values()}) > 1:
            raise ValueError(f"its lists differ in length: {', '.join(lists)}")
        count = len(next(iter(lists.values()), ()))
        return [{name: value[place] for name, value in lists.items()} for place in range(count)]
    if not isinstance(cell, list | tuple):
        raise ValueError(f"{cell!r:.60} is no list of boxes")
    for each in cell:
        if not isinstance(each, Mapping):
            raise ValueError(f"{each!r:.60} is no box with a class")
    return list(cell)


def _box(each: Mapping[str, Any]) -> Written:
    if each.get("rotation") or each.get("angle"):
        raise ValueError("a rotated box has no four sides that could be kept; make it upright")
    name = class_name_of(each)
    told, numbers = numbers_of(each)
    fixed = any(bool(each.get(word)) for word in FIXED)
    kind = each[name]
    if isinstance(kind, list | tuple) and len(kind) == 1:
        kind = kind[0]
    return Written(kind, numbers, told, fixed)


def class_name_of(each: Mapping[str, Any]) -> str:
    """What a box calls its class. Raises ValueError."""
    name = next((name for name in CLASS if each.get(name) is not None), None)
    if name is None:
        raise ValueError(f"a box has no class among {', '.join(map(str, each)) or 'nothing'}")
    return name


def place_of(each: Mapping[str, Any]) -> tuple[str, ...]:
    """What a box calls its place: one name, or four. Raises ValueError."""
    for names in NAMED:
        if all(name in each for name in names):
            return names
    for name in BOX:
        if isinstance(each.get(name), list | tuple | Mapping):
            return (name,)
    raise ValueError(f"a box has no place among {', '.join(map(str, each))}")


def numbers_of(each: Mapping[str, Any]) -> tuple[str | None, tuple[float, float, float, float]]:
    """What the names say of a box's four numbers, and the numbers. Raises ValueError."""
    names = place_of(each)
    if len(names) == 1:
        within = each[names[0]]
        if isinstance(within, Mapping):
            return numbers_of(within)
        form = names[0].partition(", ")[0]
        told, values = (names[0] if form in BOX_CONVENTIONS else None), list(within)
    else:
        told, values = NAMED[names], [each[name] for name in names]
    if len(values) != 4 or not all(_is_number(value) for value in values):
        raise ValueError(f"{values!r:.60} are no four numbers")
    found = tuple(float(value) for value in values)
    if not all(np.isfinite(found)):
        raise ValueError(f"{values!r:.60} are no four numbers")
    return told, (found[0], found[1], found[2], found[3])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def corners(numbers: Floats, convention: str, sizes: Floats | None) -> Floats:
    """(n, 4) left, top, right, bottom in pixels; `sizes` (n, 2) width and height of the pictures,
    which only normalized numbers need."""
    form, _, scaled = convention.partition(", ")
    a, b, c, d = numbers.T
    found = {
        "xyxy": lambda: (a, b, c, d),
        "yxyx": lambda: (b, a, d, c),
        "xywh": lambda: (a, b, a + c, b + d),
        "cxcywh": lambda: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    }[form]()
    made = np.stack(found, axis=1)
    if scaled:
        assert sizes is not None
        made = made * np.tile(sizes, 2)
    return np.asarray(made)


def numbers_from(box: Corners, convention: str, size: tuple[int, int] | None) -> list[float]:
    """The inverse of `corners` for one box."""
    form, _, scaled = convention.partition(", ")
    left, top, right, bottom = box
    if scaled:
        assert size is not None
        left, right, top, bottom = left / size[0], right / size[0], top / size[1], bottom / size[1]
    return {
        "xyxy": [left, top, right, bottom],
        "yxyx": [top, left, bottom, right],
        "xywh": [left, top, right - left, bottom - top],
        "cxcywh": [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
    }[form]


@dataclass
class Reading:
    """Learns from all boxes what their numbers mean; `sizes` are 0 where they are not known."""

    numbers: list[tuple[float, float, float, float]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def see(self, box: Written, size: tuple[int, int]) -> None:
        """One more box."""
        self.numbers.append(box.numbers)
        self.sizes.append(size)

    def fitting(self) -> list[str]:
        """The readings under which the boxes lie in their pictures."""
        numbers = np.array(self.numbers, dtype=np.float64).reshape(-1, 4)
        sizes = np.array(self.sizes, dtype=np.float64).reshape(-1, 2)
        if not len(numbers):
            return []
        scaled = bool((np.abs(numbers) <= 1.001).all())
        if scaled and not (sizes > 0).all():
            return [f"{each}, {NORMALIZED}" for each in BOX_CONVENTIONS[:3]]
        readings = (
            [f"{each}, {NORMALIZED}" for each in BOX_CONVENTIONS] if scaled else BOX_CONVENTIONS
        )
        found = [each for each in readings if _fits(corners(numbers, each, sizes), sizes)]
        # Nearly nobody writes y first: it is believed where nothing else fits, or where it is told.
        return [each for each in found if not each.startswith("yxyx")] or found


def _fits(boxes: Floats, sizes: Floats) -> bool:
    low, high = boxes[:, :2], boxes[:, 2:]
    known = (sizes > 0).all(axis=1)
    stray: NDArray[np.bool_] = np.asarray((high < low).any(axis=1))
    out = (low < -SLACK).any(axis=1) | ((high > sizes + SLACK).any(axis=1) & known)
    return bool(np.mean(stray | out) <= MOST_STRAYS)


def shown_readings(readings: Sequence[str], numbers: Sequence[float], size: Any) -> str:
    """What the first box is under each reading, for a person who must choose."""
    values = np.array([numbers], dtype=np.float64)
    known = np.array([size if size and size[0] else (1, 1)], dtype=np.float64)
    told = []
    for each in readings:
        left, top, right, bottom = corners(values, each, known)[0].tolist()
        told.append(f"{each!r} would make it {right - left:g} wide and {bottom - top:g} high "
                    f"at ({left:g}, {top:g})")  # fmt: skip
    return "; ".join(told)
