"""Labels of every source, as codes over one flat table of units. Knows no task.

A label value is what one row's label is, in the task's own form: any Python value that can be
hashed, None where the label is missing. `Labels` is one column of them, an object array (rows,).

A unit is the smallest thing that is decided, `(row, kind, key)`: one choice from the values of
its kind. What a source says of a unit is the place of a value in its kind, a code; -1 where the
source said nothing of that item. A source that spoke of the item and does not name the unit says
the kind's `none`, a value like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

LabelValue: TypeAlias = Any
Labels: TypeAlias = NDArray[np.object_]
Codes: TypeAlias = NDArray[np.int32]
Mask: TypeAlias = NDArray[np.bool_]

SILENT = -1
# The unit of a decision on an item as a whole, where items have units of their own.
ITEM = "item"


@dataclass(frozen=True, slots=True)
class Kind:
    """The values that a unit may have.

    `values` are JSON values in the order of their codes; `none` is the code of "it is not there",
    None where every item has the unit. `names` are what reports call each value, "" for `none`.
    """

    name: str
    values: tuple[Any, ...]
    names: tuple[str, ...]
    none: int | None = None


@dataclass(frozen=True)
class Units:
    """A table of units, ordered by row, then kind, then key.

    `rows` counts the items; `row`, `kind` (units,) place each unit, `key` (units,) names it: stable
    over rounds and judges. `unseen` (kinds,) is how many possible units of a kind nobody named: of
    them all sources say `none`, and a fusion that forgot it would misread everybody's `none`.
    """

    kinds: tuple[Kind, ...]
    rows: int
    row: NDArray[np.int64]
    kind: NDArray[np.int32]
    key: NDArray[np.object_]
    unseen: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def width(self) -> int:
        """The most values that a kind has."""
        return max(len(kind.values) for kind in self.kinds)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(rows + 1,) where each item's units begin."""
        return np.searchsorted(self.row, np.arange(self.rows + 1)).astype(np.int64)

    def of_row(self, row: int) -> slice:
        """The units of one item."""
        return slice(int(self.starts[row]), int(self.starts[row + 1]))

    def of_kind(self, kind: int) -> Any:
        """What selects the units of one kind, in order."""
        if len(self.kinds) == 1:
            return slice(None)
        return np.flatnonzero(self.kind == kind)

    def least(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(rows,) the least of `values` (units,) over each item's units; 1 of an item without."""
        found = np.ones(self.rows, dtype=np.float32)
        if len(self) == self.rows and len(self.kinds) == 1 and self.kinds[0].none is None:
            found[:] = values
        elif len(self):
            some = self.starts[:-1] < self.starts[1:]
            found[some] = np.minimum.reduceat(values, self.starts[:-1][some])
        return found


def one_choice(kinds: Sequence[Kind]) -> bool:
    """Whether every item is one unit: one choice from one list of values."""
    return len(kinds) == 1 and kinds[0].none is None


def item_unit(kinds: Sequence[Kind]) -> str:
    """The unit of what is decided of an item as a whole."""
    return kinds[0].name if one_choice(kinds) else ITEM


def names_of(kinds: Sequence[Kind]) -> tuple[str, ...]:
    """The names that reports count by: every value but `none`, kind after kind."""
    return tuple(name for kind in kinds for c, name in enumerate(kind.names) if c != kind.none)


# Columns of labels


def column(values: Iterable[LabelValue]) -> Labels:
    """Label values as a column."""
    listed = list(values)
    found = np.empty(len(listed), dtype=object)
    found[:] = listed if not any(isinstance(each, tuple) for each in listed) else None
    for place, value in enumerate(listed):
        if isinstance(value, tuple):
            found[place] = value
    return found


def no_labels(rows: int) -> Labels:
    """A column without any label."""
    return np.full(rows, None, dtype=object)


def column_of(rows: int, labels: Mapping[int, LabelValue]) -> Labels:
    """A column with the labels of some rows, by row; None elsewhere."""
    found = no_labels(rows)
    for row, label in labels.items():
        found[row] = label
    return found


def has_label(labels: Labels) -> Mask:
    """(rows,) whether there is a label."""
    return np.asarray(labels != None, dtype=np.bool_)  # noqa: E711 - for each element


def differs(one: Labels, other: Labels) -> Mask:
    """(rows,) whether two columns differ; a missing label differs from any label."""
    return np.asarray(one != other, dtype=np.bool_)


def label_json(label: LabelValue) -> Any:
    """A label value as journals write it: tuples as lists, records as mappings."""
    if isinstance(label, tuple):
        return [label_json(part) for part in label]
    if is_dataclass(label):
        return {field.name: label_json(getattr(label, field.name)) for field in fields(label)}
    return label


def hashable(value: Any) -> Any:
    """A JSON value in a form that can be counted."""
    if isinstance(value, list):
        return tuple(hashable(part) for part in value)
    if isinstance(value, dict):
        return tuple((name, hashable(part)) for name, part in value.items())
    return value


# What codes say


def best(beliefs: NDArray[np.float32]) -> Codes:
    """(units,) the most believed code of `beliefs` (units, K); the first of equals."""
    return np.asarray(beliefs.argmax(axis=1), dtype=np.int32)


def belief_in(units: Units, beliefs: NDArray[np.float32], codes: Codes) -> NDArray[np.float32]:
    """(rows,) the least belief in an item's own codes, in 0..1; 0 where it has none.

    LOWER is worse: an item is as doubtful as its most doubtful unit.
    """
    own = beliefs[np.arange(len(codes)), codes]
    found = np.clip(units.least(np.where(codes == SILENT, 0, own)), 0, 1)
    return found.astype(np.float32)


def counts_by_name(units: Units, codes: Codes) -> NDArray[np.int64]:
    """(rows, names) how many units of each item have each value but `none`; see `names_of`."""
    first = np.cumsum([0, *(len(names_of([kind])) for kind in units.kinds)])
    place = np.full((len(units.kinds), units.width), -1, dtype=np.int64)
    for number, kind in enumerate(units.kinds):
        named = [code for code in range(len(kind.values)) if code != kind.none]
        place[number, named] = first[number] + np.arange(len(named))
    at = np.where(codes == SILENT, -1, place[units.kind, codes])
    counted = at >= 0
    flat = units.row[counted] * first[-1] + at[counted]
    found = np.bincount(flat, minlength=units.rows * int(first[-1]))
    return np.asarray(found.reshape(units.rows, -1), dtype=np.int64)


def labels_sha256(units: Units, codes: Codes) -> str:
    """A hash of one column of labels, to tell whether predictions belong to it.

    One bit for each value but `none` of each unit, then one for each item: whether it has a
    label. Where items differ in their units, the units are hashed too.
    """
    known = np.zeros(units.rows, dtype=np.bool_)
    known[units.row[codes != SILENT]] = True
    # float32 bits of (units, K) would be as large as the beliefs; these are a byte each.
    chosen = codes[:, None] == np.arange(units.width)
    open_ = np.ones((len(units.kinds), units.width), dtype=np.bool_)
    for number, kind in enumerate(units.kinds):
        open_[number, len(kind.values) :] = False
        if kind.none is not None:
            open_[number, kind.none] = False
    bits = chosen.reshape(-1)[open_[units.kind].reshape(-1)]
    digest = hashlib.sha256(np.packbits(bits).tobytes())
    digest.update(np.packbits(known).tobytes())
    sizes = np.diff(units.starts)
    if units.rows and len(units) != units.rows * len(units.kinds):
        digest.update(sizes.tobytes())
        for key in units.key.tolist():
            digest.update(key.encode() + b"\0")
    return digest.hexdigest()


# One item


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of one item: its key, and what three sources say of it (JSON values)."""

    key: str
    old: Any
    answered: Any
    predicted: Any


def open_units(
    kinds: Sequence[Kind],
    old: Mapping[str, Any],
    answered: Mapping[str, Any],
    predicted: Mapping[str, Any],
) -> Iterator[Unit]:
    """The units on which three labels of one item, each by key, do not all say the same.

    Where an item is one unit, that one in any case.
    """
    one = one_choice(kinds)
    for key in dict.fromkeys([*old, *answered, *predicted]):
        values = old.get(key), answered.get(key), predicted.get(key)
        if one or not values[0] == values[1] == values[2]:
            yield Unit(key, *values)
