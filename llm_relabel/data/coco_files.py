"""COCO's JSON of boxes: an image a row, its annotations as the label.

Of a corrected file only the annotations that changed are other characters: those taken away are
missing, a new class is another number, and new ones stand at the end with ids of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.data.json_cells import elements, members, replace_value
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import BATCH_ROWS, Batch, Edits
from llm_relabel.data.text_file import TextFile
from llm_relabel.errors import DataError

ID, IMAGE, BOXES, WIDTH, HEIGHT = "id", "image", "boxes", "width", "height"
NUMBER = "annotation"  # which of the file's annotations a box is
_PARTS = ("images", "annotations", "categories")


def is_coco(path: Path) -> bool:
    """Whether a JSON file is one object with COCO's three lists, as far as its first part tells."""
    with path.open("rb") as file:
        start = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"{") and any(f'"{name}"'.encode() in start for name in _PARTS)


class CocoFile:
    """One COCO file. Raises DataError where it is none."""

    suffix = ".json"
    unit = "row"

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.name = path.name
        self._file = TextFile(path, encoding)
        try:
            self._whole = json.loads(self._file.read())
        except (ValueError, RecursionError) as error:
            raise DataError(f"the dataset {self.name!r} is broken JSON: {error}") from error
        for part in _PARTS:
            if not isinstance(self._whole.get(part), list):
                raise DataError(
                    f"the dataset {self.name!r} begins like COCO and has no list {part!r}; it "
                    f"needs {', '.join(_PARTS)}"
                )
        self._names = {each.get("id"): str(each.get("name")) for each in self._whole["categories"]}
        self._ids = {name: number for number, name in self._names.items()}

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        cells = self._cells(problems)
        rows = [
            {ID: each.get("id"), IMAGE: each.get("file_name"), WIDTH: each.get("width"),
             HEIGHT: each.get("height"), BOXES: cells.get(each.get("id"), [])}
            for each in self._whole["images"]
        ]  # fmt: skip
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            places = range(start + 1, start + len(part) + 1)
            yield Batch(places, {name: [row.get(name) for row in part] for name in wanted})

    def _cells(self, problems: Problems) -> dict[Any, list[dict[str, Any]]]:
        """The boxes of each image, as cells with their class by its name."""
        found: dict[Any, list[dict[str, Any]]] = {each.get("id"): [] for each in
                                                  self._whole["images"]}  # fmt: skip
        for number, each in enumerate(self._whole["annotations"]):
            image, category = each.get("image_id"), each.get("category_id")
            if image not in found or category not in self._names:
                lacks = "image" if image not in found else "category"
                problems.whole(
                    f"annotation {each.get('id')!r} is of {lacks} {each.get(f'{lacks}_id')!r}, "
                    "which the file has not"
                )
                continue
            found[image].append({
                "category": self._names[category], "xywh": each.get("bbox"),
                "iscrowd": each.get("iscrowd", 0), NUMBER: number,
            })  # fmt: skip
        return found

    def columns(self) -> Sequence[str]:
        return ID, IMAGE, BOXES, WIDTH, HEIGHT

    def class_names(self, column: str) -> tuple[str, ...] | None:
        return tuple(self._names.values()) if column == BOXES else None

    def sha256(self) -> str:
        return self._file.sha256()

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            self._file.copy(target, sha256)
            return
        text = self._file.read()
        start, end = next(
            (start, end) for name, _, _, start, end in members(text) if name == "annotations"
        )
        old = text[start:end]
        edited = self._edited(old, {row: edits[BOXES] for row, edits in cells.items()})
        pieces = [(text[:start], text[:start]), (old, edited), (text[end:], text[end:])]
        self._file.rewrite(target, iter(pieces), sha256)

    def _edited(self, old: str, boxes: Mapping[int, Sequence[Mapping[str, Any]] | None]) -> str:
        """The list of annotations where those of some images are other ones."""
        images = self._whole["images"]
        wanted: dict[int, str] = {}
        added: list[dict[str, Any]] = []
        numbers = [e["id"] for e in self._whole["annotations"] if isinstance(e.get("id"), int)]
        free = max(numbers, default=0) + 1
        for row, cell in boxes.items():
            for box in cell or ():
                if (number := box.get(NUMBER)) is not None:
                    wanted[number] = box["category"]
                    continue
                place = box["xywh"]
                added.append({
                    "id": free + len(added), "image_id": images[row].get("id"),
                    "category_id": self._number(box["category"]), "bbox": place,
                    "area": round(place[2] * place[3], 4), "iscrowd": 0, "segmentation": [],
                })  # fmt: skip
        touched = {images[row].get("id") for row in boxes}
        kept: list[str] = []
        found = list(elements(old))
        gap = old[found[0][1] : found[1][0]] if len(found) > 1 else ", "
        for number, (start, end, value) in enumerate(found):
            if value.get("image_id") not in touched:
                kept.append(old[start:end])
            elif number in wanted:
                kept.append(self._with_class(old[start:end], value, wanted[number]))
        shape = found[0][2].keys() if found else added[0].keys() if added else ()
        compact = ": " not in old[found[0][0] : found[0][1]] if found else False
        separators = (",", ":") if compact else (", ", ": ")
        for new in added:
            like = {name: value for name, value in new.items() if name in shape}
            kept.append(json.dumps(like, separators=separators))
        first, last = (found[0][0], found[-1][1]) if found else (1, 1)
        return old[:first] + gap.join(kept) + old[last:]

    def _with_class(self, text: str, value: Mapping[str, Any], name: str) -> str:
        number = self._number(name)
        if value.get("category_id") == number:
            return text
        return replace_value(text, ["category_id"], number, self._file.encodes)

    def _number(self, name: str) -> Any:
        if name not in self._ids:
            raise DataError(
                f"the class {name!r} cannot be written: the categories of {self.name!r} are "
                f"{', '.join(self._ids)}"
            )
        return self._ids[name]
