"""Any source becomes a Dataset: batches of cells into Arrow, all problems in one message."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from llm_relabel.config.job import DataSection
from llm_relabel.data.cells import Aliases, CellsOf
from llm_relabel.data.dataset import Dataset
from llm_relabel.data.label_cells import without_surrogates
from llm_relabel.data.locate import open_source
from llm_relabel.data.one_hot import class_cells
from llm_relabel.data.pictures import Pictures, pictures_of
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import BATCH_ROWS, Batch, Cell, Source, is_missing
from llm_relabel.data.words import joined
from llm_relabel.errors import DataError, nearest

_NO_ALIASES: Aliases = MappingProxyType({})
# White space, and characters that nobody sees.
_BLANK = (
    string.whitespace
    + "\x85\xa0\xad\u1680\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
    + "".join(map(chr, range(0x2000, 0x2010)))
)
_NO_TEXT = "no text, so it stays as it is: neither learned from nor asked about"
_NO_PICTURE = "no picture that can be read, so it stays as it is"
_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


def read_dataset(
    section: DataSection,
    resolve: Callable[[str], Path],
    aliases: Aliases = _NO_ALIASES,
    cells_of: CellsOf = class_cells,
) -> Dataset:
    """Read the dataset that a job's `data` section names; `resolve` makes its paths absolute.

    `aliases` holds the class behind each other spelling of a label; the file keeps its own.
    `cells_of` says what kind of labels they are. Raises DataError with every problem found, each
    with its count and first places.
    """
    source = open_source(section, resolve)
    # Pictures are looked for beside the data.
    folder = section.image_folder
    whole = None if folder is None else str(resolve(folder))
    section = section.model_copy(update={"path": str(resolve(section.path)), "image_folder": whole})
    return _Reader(section, source, aliases, cells_of).read()


def read_labeled(
    section: DataSection,
    path: str,
    resolve: Callable[[str], Path],
    aliases: Aliases = _NO_ALIASES,
    cells_of: CellsOf = class_cells,
) -> Dataset:
    """Another file with the same text and label columns, such as `data.dev`."""
    plain = {"id": None, "gold": None, "locked": None, "group": None, "context": (), "dev": None}
    section = section.model_copy(update={"path": path, **plain})
    return read_dataset(section, resolve, aliases, cells_of)


@dataclass
class _Columns:
    """Arrow arrays per column, one for each batch."""

    ids: list[pa.Array] = field(default_factory=list)
    digests: list[NDArray[np.uint64]] = field(default_factory=list)
    text: list[pa.Array] = field(default_factory=list)
    fields: dict[str, list[pa.Array]] = field(default_factory=dict)
    labels: list[pa.Array] = field(default_factory=list)
    gold: list[pa.Array] = field(default_factory=list)
    text_keys: list[NDArray[np.int64]] = field(default_factory=list)
    group_keys: list[NDArray[np.int64]] = field(default_factory=list)
    locked: list[NDArray[np.bool_]] = field(default_factory=list)
    places: list[NDArray[np.int64]] = field(default_factory=list)


class _Reader:
    def __init__(
        self, section: DataSection, source: Source, aliases: Aliases, cells_of: CellsOf
    ) -> None:
        self._section, self._source = section, source
        self._problems = Problems(source.unit)
        self._columns = _Columns()
        self._texts_seen = 0
        self._shown = list(dict.fromkeys([*section.read_columns, *section.context]))
        extra = [section.id, section.group, section.locked, section.gold]
        named = [
            *self._shown,
            *section.label_columns,
            *(name for name in extra if name is not None),
        ]
        self._wanted = list(dict.fromkeys(named))
        self._label = cells_of(section, source, section.label_columns, aliases)
        self._gold = None
        if section.gold is not None:
            self._gold = cells_of(section, source, (section.gold,), aliases)
        self._as_words = False
        self._pictures: Pictures | None = None
        if section.image is not None:
            self._pictures = pictures_of(section)
        # Where a picture cannot be opened, and why.
        self._unseen: list[tuple[int, str] | None] = []

    def read(self) -> Dataset:
        for batch in self._source.batches(self._wanted, self._problems):
            self._take(batch)
        self._check()
        columns = self._columns
        labels = self._label.joined(columns.labels)
        gold = None if self._gold is None else self._gold.joined(columns.gold)
        fields = pa.table({name: pa.chunked_array(columns.fields[name]) for name in self._shown})
        ids = pa.chunked_array(columns.ids) if columns.ids else _ids_of(columns.digests)
        locked = np.concatenate(columns.locked)
        if self._pictures is not None:
            locked |= self._without_picture()
        content = self._source.sha256() or _content_sha256(fields, labels, ids)
        return Dataset(
            ids=ids,
            text=pa.chunked_array(columns.text),
            fields=fields,
            labels=labels,
            gold=gold,
            groups=self._groups(),
            locked=locked,
            class_names=self._label.class_names,
            sha256=content,
            source=self._source,
            label_cells=self._label,
            words=self._as_words,
            notes=self._problems.notes(),
            pictures=self._pictures,
        )

    def _take(self, batch: Batch) -> None:
        section, columns, cells, places = self._section, self._columns, batch.cells, batch.places
        shown = {name: self._texts(name, cells[name], places) for name in self._shown}
        if len(section.read_columns) == 1:
            joined_texts = shown[section.read_columns[0]]
        else:
            joined_texts = [
                "\n".join(part for part in parts if part)
                for parts in zip(*(shown[name] for name in section.read_columns), strict=True)
            ]
        blank = np.array([not text.strip(_BLANK) for text in joined_texts], dtype=np.bool_)
        for row in np.flatnonzero(blank).tolist():
            self._problems.note(_NO_TEXT, places[row])
        self._texts_seen += int((~blank).sum())
        for name, texts in shown.items():
            columns.fields.setdefault(name, []).append(pa.array(texts, pa.string()))
        first = columns.fields[section.read_columns[0]][-1]
        one = len(section.read_columns) == 1
        columns.text.append(first if one else pa.array(joined_texts, pa.string()))
        each = [cells[name] for name in section.label_columns]
        told = each[0] if len(each) == 1 else list(zip(*each, strict=True))
        given = self._label.read(told, places, self._problems, joined_texts)
        columns.labels.append(self._label.array(_unless(blank, given)))
        if section.gold is not None and self._gold is not None:
            gold = self._gold.read(cells[section.gold], places, self._problems, joined_texts)
            columns.gold.append(self._gold.array(_unless(blank, gold)))
        columns.text_keys.append(_keys(self._sameness(joined_texts, places)))
        if section.group is not None:
            columns.group_keys.append(_group_keys(cells[section.group]))
        columns.locked.append(self._locked(cells, places) | blank)
        if section.id is not None:
            columns.ids.append(pa.array(self._ids(section.id, cells, places), pa.string()))
        else:
            columns.digests.append(_digests(zip(*shown.values(), strict=True)))
        columns.places.append(np.asarray(places, dtype=np.int64))

    def _sameness(self, texts: Sequence[str], places: Sequence[int]) -> list[str]:
        """What rows that must not vouch for each other have in common: the text, case and white
        space aside, or the picture's content, whatever its name."""
        if self._pictures is None:
            return [" ".join(text.casefold().split()) for text in texts]
        found = []
        for text, place in zip(texts, places, strict=True):
            try:
                self._pictures.size(text)
                found.append(self._pictures.digest(text))
                self._unseen.append(None)
            except DataError as error:
                found.append(text)
                self._unseen.append((place, str(error)))
        return found

    def _without_picture(self) -> NDArray[np.bool_]:
        """(rows,) whether a picture is missing where others are there; all may be missing, as where
        the user brings predictions and verdicts."""
        if all(self._unseen):
            return np.zeros(len(self._unseen), dtype=np.bool_)
        for missing in self._unseen:
            if missing is not None:
                self._problems.note(_NO_PICTURE, missing[0], detail=missing[1])
        return np.array([missing is not None for missing in self._unseen], dtype=np.bool_)

    def _texts(self, name: str, cells: Sequence[Cell], places: Sequence[int]) -> list[str]:
        texts = []
        for cell, place in zip(cells, places, strict=True):
            if is_missing(cell):
                texts.append("")
            elif isinstance(cell, str):
                texts.append(cell if cell.isascii() else without_surrogates(cell))
            elif isinstance(cell, int | float) and not isinstance(cell, bool):
                texts.append(str(cell))
            elif self._takes_words(name) and _are_words(cell):
                self._as_words = True
                texts.append(without_surrogates(joined(cell)))
            else:
                detail = f"found {type(cell).__name__}"
                if isinstance(cell, dict) and cell:
                    detail = (
                        f"found an object; name a field of it, such as {name}.{next(iter(cell))}"
                    )
                self._problems.row(f"{name!r} is not text", place, about=name, detail=detail)
                texts.append("?")
        return texts

    def _takes_words(self, name: str) -> bool:
        return self._label.takes_words and name == self._section.read_columns[0]

    def _locked(self, cells: Any, places: Sequence[int]) -> NDArray[np.bool_]:
        locked = np.zeros(len(places), dtype=np.bool_)
        name = self._section.locked
        if name is None:
            return locked
        for index, (cell, place) in enumerate(zip(cells[name], places, strict=True)):
            word = "" if is_missing(cell) else str(cell).strip().lower()
            if word in _TRUE:
                locked[index] = True
            elif word not in _FALSE:
                message = f"{name!r} is neither true nor false"
                self._problems.row(message, place, about=name, detail=repr(cell)[:40])
        return locked

    def _ids(self, name: str, cells: Any, places: Sequence[int]) -> list[str | None]:
        ids: list[str | None] = []
        for cell, place in zip(cells[name], places, strict=True):
            if is_missing(cell):
                self._problems.row(f"{name!r} is empty", place, about=name)
                ids.append(None)
            elif isinstance(cell, list | dict):
                detail = f"found {type(cell).__name__}"
                self._problems.row(f"{name!r} is no id", place, about=name, detail=detail)
                ids.append(None)
            else:
                ids.append(without_surrogates(str(cell)))
        return ids

    def _check(self) -> None:
        problems, source = self._problems, self._source
        present = list(source.columns())
        absent = [name for name in self._wanted if name not in present]
        if self._columns.places:
            for name in absent:
                problems.forget(name)
                shown = ", ".join(present[:30]) + (", ..." if len(present) > 30 else "")
                problems.whole(f"no column {name!r}{nearest(name, present)}; it has {shown}")
            if not self._texts_seen and not set(self._section.read_columns) & set(absent):
                shown = ", ".join(map(repr, self._section.read_columns))
                problems.whole(f"no row has a text in {shown}")
            self._label.check(problems)
            if self._gold is not None:
                self._gold.check(problems)
                known = any(len(part) - part.null_count for part in self._columns.gold)
                if known and self._gold.kind != self._label.kind:
                    kinds = " or both hold ".join(sorted((self._gold.kind, self._label.kind)))
                    problems.whole(
                        f"{self._gold.column!r} and {self._label.column!r} must both hold {kinds}"
                    )
            if self._section.id is not None and self._section.id not in absent:
                self._check_unique(self._section.id)
        elif not problems:
            problems.whole("it has no rows")
        problems.check(source.name)

    def _check_unique(self, name: str) -> None:
        ids = pa.chunked_array(self._columns.ids).combine_chunks()
        known = np.flatnonzero(np.asarray(pc.is_valid(ids)))
        codes = np.asarray(ids.drop_null().dictionary_encode().indices)
        _, first = np.unique(codes, return_index=True)
        repeated = np.delete(known, first)
        places = np.concatenate(self._columns.places)[repeated]
        message = f"{name!r} repeats an id that an earlier row has (without data.id, ids are made)"
        self._problems.rows(message, places.tolist(), about=name)

    def _groups(self) -> NDArray[np.int64]:
        """Connected rows: equal text (case and white space aside), or the same group."""
        _, texts = np.unique(np.concatenate(self._columns.text_keys), return_inverse=True)
        if not self._columns.group_keys:
            return np.asarray(texts, dtype=np.int64)
        keys = np.concatenate(self._columns.group_keys)
        known = np.flatnonzero(keys != _NO_GROUP)
        _, groups = np.unique(keys[known], return_inverse=True)
        size = int(texts.max()) + 1 + len(known)
        edges = (texts[known], texts.max() + 1 + groups)
        graph = coo_matrix((np.ones(len(known), dtype=np.int8), edges), shape=(size, size))
        _, component = connected_components(graph, directed=False)
        return np.asarray(component[texts], dtype=np.int64)


_NO_GROUP = np.iinfo(np.int64).min


def _digests(rows: Iterable[Sequence[str]]) -> NDArray[np.uint64]:
    """What each row's id is made from: the hash of everything shown of it."""
    digests = b"".join(hashlib.sha256("\x00".join(parts).encode()).digest()[:8] for parts in rows)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _ids_of(parts: Sequence[NDArray[np.uint64]]) -> pa.ChunkedArray:
    """Hashes as ids; of equal rows the second is called `...-2`, the third `...-3`."""
    digests = np.concatenate(parts)
    order = np.argsort(digests, kind="stable")
    new = np.diff(digests[order], prepend=~digests[order[:1]]) != 0
    place = np.arange(len(order))
    count = np.empty_like(place)
    count[order] = place - np.maximum.accumulate(np.where(new, place, 0)) + 1
    return pa.chunked_array(
        pa.array(
            [
                f"{digest:016x}" if nth == 1 else f"{digest:016x}-{nth}"
                for digest, nth in zip(
                    digests[start : start + BATCH_ROWS].tolist(),
                    count[start : start + BATCH_ROWS].tolist(),
                    strict=True,
                )
            ]
        )
        for start in range(0, len(digests), BATCH_ROWS)
    )


def _keys(texts: Any) -> NDArray[np.int64]:
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(digests, dtype=np.int64)


def _group_keys(cells: Sequence[Cell]) -> NDArray[np.int64]:
    keys = _keys(str(cell) for cell in cells).copy()
    keys[[is_missing(cell) for cell in cells]] = _NO_GROUP
    return keys


def _unless(blank: NDArray[np.bool_], values: list[Any]) -> list[Any]:
    """`values` but where a row is blank: nothing can be learned, told or measured of its label."""
    if not blank.any():
        return values
    return [None if empty else value for value, empty in zip(values, blank, strict=True)]


def _are_words(cell: Cell) -> bool:
    return isinstance(cell, list) and all(isinstance(word, str) for word in cell)


def _content_sha256(fields: pa.Table, labels: pa.ChunkedArray, ids: pa.ChunkedArray) -> str:
    digest = hashlib.sha256()
    for column in (*fields.columns, labels, ids):
        for start in range(0, len(column), 50_000):
            part = pc.cast(column.slice(start, 50_000), column.type)
            digest.update(repr(part.to_pylist()).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
