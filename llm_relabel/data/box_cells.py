"""Label cells that hold the boxes of a picture, read into pixels and written as they came."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.config.job import BOX_CONVENTIONS, DataSection
from llm_relabel.data.box_forms import (
    NORMALIZED,
    Reading,
    Written,
    boxes_in,
    class_name_of,
    corners,
    each_of,
    numbers_from,
    place_of,
    shown_readings,
)
from llm_relabel.data.boxes import Corners, rounded
from llm_relabel.data.cells import Aliases, Cells
from llm_relabel.data.label_cells import without_surrogates
from llm_relabel.data.pictures import Pictures, pictures_of
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import Cell, Source, is_missing
from llm_relabel.errors import DataError

TYPE = pa.list_(
    pa.struct([("label", pa.string()), ("box", pa.list_(pa.float64())), ("fixed", pa.bool_())])
)


class BoxCells:
    """The boxes of one column. `told` is `data.boxes`; `names` are the classes behind numbers."""

    takes_words = False

    def __init__(
        self, column: str, pictures: Pictures, aliases: Aliases, *, told: str | None,
        names: Sequence[str] | None, missing: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.column = column
        self.class_names = tuple(names) if names is not None else None
        self._pictures, self._aliases, self._missing = pictures, aliases, missing
        self._told = told
        self._reading = Reading()
        self._named: set[str] = set()
        self._fractions = False
        self._sizes: list[tuple[int, int]] = []
        # Each cell as it came, so that what it says of a box that stays is not lost.
        self._cells: list[str] = []
        self._convention = told or BOX_CONVENTIONS[0]

    @property
    def kind(self) -> str:
        """What the cells hold."""
        return "boxes"

    # Reading

    def read(
        self, cells: Sequence[Any], places: Sequence[int], problems: Problems, texts: Sequence[str]
    ) -> list[Any]:
        """The boxes of each row, their numbers still as written; None where it has no label."""
        found = list[Any]()
        for cell, place, name in zip(cells, places, texts, strict=True):
            size = self._size(name)
            self._sizes.append(size)
            self._cells.append(json.dumps(cell, default=str))
            if is_missing(cell) or (isinstance(cell, str | int) and str(cell) in self._missing):
                found.append(None)
                continue
            try:
                boxes = boxes_in(cell)
                found.append([self._plain(box) for box in boxes])
            except ValueError as error:
                problems.row(f"{self.column!r} cannot be read as boxes", place, about=self.column,
                             detail=str(error))  # fmt: skip
                found.append(None)
                continue
            for box in boxes:
                self._fractions |= any(value % 1 for value in box.numbers)
                if box.told is not None:
                    self._named.add(box.told)
                elif self._told is None:
                    self._reading.see(box, size)
        return found

    def _size(self, name: str) -> tuple[int, int]:
        try:
            return self._pictures.size(name)
        except DataError:
            return (0, 0)

    def _plain(self, box: Written) -> dict[str, Any]:
        kind = box.kind
        if isinstance(kind, int) and not isinstance(kind, bool) and self.class_names is not None:
            if not 0 <= kind < len(self.class_names):
                raise ValueError(f"{kind} is not in 0..{len(self.class_names) - 1}")
            kind = self.class_names[kind]
        if isinstance(kind, bool) or not isinstance(kind, str | int):
            raise ValueError(f"the class {kind!r:.40} is no name")
        name = without_surrogates(str(kind))
        return {"label": self._aliases.get(name, name), "box": list(box.numbers),
                "fixed": box.fixed}  # fmt: skip

    def array(self, labels: list[Any]) -> pa.Array:
        """What was read of some rows as Arrow."""
        return pa.array(labels, TYPE)

    def check(self, problems: Problems) -> None:
        """After the last row: what the numbers of all boxes mean."""
        if self._told is not None:
            self._convention = self._told
        elif self._named and not self._reading.numbers:
            self._convention = sorted(self._named)[0]
            if len(self._named) > 1:
                problems.whole(f"{self.column!r} names corners in some boxes and sizes in others")
        elif self._reading.numbers:
            self._guess(problems)
        if NORMALIZED in self._convention and not all(map(all, self._sizes)):
            problems.whole(
                f"{self.column!r} holds shares of a picture's sides, and some pictures are not in "
                f"{str(self._pictures.folder)!r}"
            )

    def _guess(self, problems: Problems) -> None:
        fitting = self._reading.fitting()
        if len(fitting) == 1:
            self._convention = fitting[0]
            return
        first, size = self._reading.numbers[0], self._reading.sizes[0]
        if not fitting:
            problems.whole(
                f"{self.column!r}: under none of {', '.join(BOX_CONVENTIONS)} do the boxes lie in "
                "their pictures; set data.boxes"
            )
            return
        problems.whole(
            f"{self.column!r}: {list(first)} may be read in several ways, and no box tells which; "
            f"set data.boxes ({shown_readings(fitting, first, size)})"
        )

    def joined(self, parts: Sequence[pa.Array]) -> pa.ChunkedArray:
        """All parts as one column, in pixels of the upright pictures."""
        done, rows = [], 0
        for part in parts:
            sizes = self._sizes[rows : rows + len(part)]
            rows += len(part)
            done.append(pa.array(
                [None if cell is None else self._in_pixels(cell, size)
                 for cell, size in zip(part.to_pylist(), sizes, strict=True)],
                TYPE,
            ))  # fmt: skip
        return pa.chunked_array(done, TYPE)

    def _in_pixels(self, cell: Sequence[Any], size: tuple[int, int]) -> list[dict[str, Any]]:
        if not cell:
            return []
        numbers = np.array([each["box"] for each in cell], dtype=np.float64)
        sizes = np.tile(np.array([size], dtype=np.float64), (len(cell), 1))
        found, taken = [], set[Corners]()
        placed = corners(numbers, self._convention, sizes).tolist()
        for each, box in zip(cell, placed, strict=True):
            place = rounded(box)
            # Of two boxes in one place only one can be decided about, and one without area not.
            beside = place in taken or place[2] <= place[0] or place[3] <= place[1]
            taken.add(place)
            found.append({**each, "box": list(place), "fixed": each["fixed"] or beside})
        return found

    def counts(self, labels: pa.ChunkedArray) -> dict[str, int]:
        """How many boxes have each class."""
        names = pc.struct_field(pc.list_flatten(labels), "label")
        return {pair["values"]: pair["counts"] for pair in pc.value_counts(names).to_pylist()}

    # Writing

    def columns(
        self,
        changes: Mapping[int, Any],
        texts: Mapping[int, str],  # noqa: ARG002
    ) -> dict[int, dict[str, Cell]]:
        """The new cells of the rows in `changes`. Raises DataError where one cannot be written."""
        return {row: {self.column: self._cell(row, value)} for row, value in changes.items()}

    def _cell(self, row: int, value: Sequence[Mapping[str, Any]] | None) -> Cell:
        if value is None:
            return None
        old = json.loads(self._cells[row])
        kept = self._by_place(old, self._sizes[row]) if old else {}
        sample = next(iter(kept.values()))[0][1] if kept else self._sample()
        placed = []
        for number, each in enumerate(value):
            own = kept.get(tuple(each["box"]))
            place, mapping = own.pop(0) if own else (len(self._cells[row]) + number, None)
            placed.append((place, self._written(row, each, mapping, sample)))
        found = [box for _, box in sorted(placed, key=lambda pair: pair[0])]
        if isinstance(old, Mapping):
            names = [name for name, cells in old.items() if isinstance(cells, list)]
            return {name: [box.get(name) for box in found] for name in names}
        return found

    def _by_place(
        self, old: Any, size: tuple[int, int]
    ) -> dict[tuple[float, ...], list[tuple[int, dict[str, Any]]]]:
        """The boxes that a cell held with their number in it, by their place in pixels."""
        kept: dict[tuple[float, ...], list[tuple[int, dict[str, Any]]]] = {}
        for number, (each, box) in enumerate(zip(each_of(old), boxes_in(old), strict=True)):
            place = self._in_pixels([self._plain(box)], size)[0]["box"]
            kept.setdefault(tuple(place), []).append((number, dict(each)))
        return kept

    def _sample(self) -> Mapping[str, Any]:
        """A box of any row, whose form a new one takes."""
        for cell in self._cells:
            old = json.loads(cell)
            if old and (each := each_of(old)):
                return each[0]
        return {"label": "", "box": [0, 0, 0, 0]}

    def _written(
        self, row: int, new: Mapping[str, Any], own: dict[str, Any] | None,
        sample: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        """A box as the file has them: its own mapping with its class, or one like the sample."""
        if own is not None:
            name = class_name_of(own)
            if self._plain(boxes_in([own])[0])["label"] == new["label"]:
                return own
            return own | {name: self._class_cell(new["label"], own[name])}
        box: Corners = tuple(new["box"])
        numbers = numbers_from(box, self._convention, self._sizes[row])
        made: dict[str, Any] = {class_name_of(sample): self._class_cell(
            new["label"], sample[class_name_of(sample)])}  # fmt: skip
        places = place_of(sample)
        if len(places) > 1:
            made |= {name: self._as_came(value, sample[name])
                     for name, value in zip(places, numbers, strict=True)}  # fmt: skip
            return {name: made[name] for name in sample if name in made}
        within = sample[places[0]]
        if isinstance(within, Mapping):
            inner = place_of(within)
            made[places[0]] = {name: self._as_came(value, within[name])
                               for name, value in zip(inner, numbers, strict=True)}  # fmt: skip
        else:
            made[places[0]] = [self._as_came(v, w) for v, w in zip(numbers, within, strict=True)]
        return {name: made[name] for name in sample if name in made}

    def _as_came(self, value: float, like: Any) -> Any:
        """A number as the file's others are: whole where all are, or where this one is."""
        whole = not self._fractions or value == round(value)
        return round(value) if isinstance(like, int) and whole else round(value, 6)

    def _class_cell(self, name: str, like: Any) -> Any:
        if isinstance(like, list | tuple):
            return [self._class_cell(name, like[0] if like else "")]
        if isinstance(like, int) and not isinstance(like, bool):
            if self.class_names is not None and name in self.class_names:
                return self.class_names.index(name)
            if name.lstrip("-").isdecimal():
                return int(name)
            raise DataError(
                f"the class {name!r} cannot be written: {self.column!r} holds numbers, and none is "
                "known for it; set data.tag_names"
            )
        return name


def box_cells(
    section: DataSection, source: Source, columns: tuple[str, ...], aliases: Aliases
) -> Cells:
    """Cells that hold boxes. Raises DataError where a label is spread over several columns."""
    if len(columns) > 1:
        raise DataError(
            f"data.label names {len(columns)} columns; the boxes of a picture stand in one: name it"
        )
    names = source.class_names(columns[0]) or section.tag_names
    return BoxCells(
        columns[0], pictures_of(section), aliases, told=section.boxes, names=names,
        missing=frozenset(section.missing or ()),
    )  # fmt: skip
