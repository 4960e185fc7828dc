"""Pascal VOC folders: an XML file of boxes for each picture, under `Annotations`.

A corrected folder holds all XML files; the pictures stay where they are. Of a changed file all but
the objects that changed is the same characters.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import changed_since_read, new_folder
from llm_relabel.data.source import BATCH_ROWS, Batch, Edits
from llm_relabel.errors import DataError

ANNOTATIONS, PICTURES = "Annotations", "JPEGImages"
ID, IMAGE, BOXES, NUMBER = "id", "image", "boxes", "object"
SIDES = ("xmin", "ymin", "xmax", "ymax")
_OBJECT = re.compile(r"[ \t]*<object>.*?</object>[ \t]*\r?\n?", re.DOTALL)
_NAME = re.compile(r"(<name>)(.*?)(</name>)", re.DOTALL)


class VocFolder:
    """All annotated pictures of a VOC folder. Raises DataError where there are none."""

    suffix = ""
    unit = "row"

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._folder = folder
        self._files = sorted((folder / ANNOTATIONS).glob("*.xml"))
        if not self._files:
            raise DataError(f"the folder {str(folder / ANNOTATIONS)!r} has no .xml file")

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        for start in range(0, len(self._files), BATCH_ROWS):
            part = self._files[start : start + BATCH_ROWS]
            places, rows = list[int](), list[dict[str, Any]]()
            for place, path in enumerate(part, start=start + 1):
                try:
                    rows.append(_row(path))
                except (ElementTree.ParseError, ValueError, UnicodeDecodeError) as error:
                    problems.row("an annotation cannot be read", place,
                                 detail=f"{path.name}: {error}")  # fmt: skip
                    continue
                places.append(place)
            yield Batch(places, {name: [row.get(name) for row in rows] for name in wanted})

    def columns(self) -> Sequence[str]:
        return ID, IMAGE, BOXES

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - names stand in the files
        return None

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if self.sha256() != sha256:
            raise changed_since_read(self._folder)
        with new_folder(target) as made:
            (made / ANNOTATIONS).mkdir(parents=True)
            for row, path in enumerate(self._files):
                new = made / ANNOTATIONS / path.name
                if row not in cells:
                    shutil.copyfile(path, new)
                    continue
                text = path.read_bytes().decode("utf-8")
                new.write_bytes(_edited(text, cells[row][BOXES] or ()).encode("utf-8"))


def _row(path: Path) -> dict[str, Any]:
    root = ElementTree.fromstring(path.read_bytes())
    boxes = []
    for number, each in enumerate(root.iter("object")):
        place = each.find("bndbox")
        if place is None or (name := each.findtext("name")) is None:
            raise ValueError(f"its object {number + 1} has no name or no bndbox")
        sides = {side: _number(place.findtext(side)) for side in SIDES}
        boxes.append({
            "name": name.strip(), "bndbox": sides, NUMBER: number,
            "difficult": _number(each.findtext("difficult") or "0"),
        })  # fmt: skip
    named = (root.findtext("filename") or f"{path.stem}.jpg").strip()
    return {ID: path.stem, IMAGE: f"{PICTURES}/{Path(named).name}", BOXES: boxes}


def _number(text: str | None) -> int | float:
    value = float(text or "")
    return int(value) if value == int(value) else value


def _edited(text: str, boxes: Sequence[Mapping[str, Any]]) -> str:
    """An annotation with these boxes."""
    kept = {box[NUMBER]: box["name"] for box in boxes if NUMBER in box}
    blocks = list(_OBJECT.finditer(text))
    parts, at = list[str](), 0
    for number, block in enumerate(blocks):
        parts.append(text[at : block.start()])
        if number in kept:
            parts.append(_named(block[0], kept[number]))
        at = block.end()
    end = at if blocks else text.rindex("</annotation>")
    parts.append(text[at:end])
    parts += [_new(box) for box in boxes if NUMBER not in box]
    return "".join([*parts, text[end:]])


def _named(block: str, name: str) -> str:
    # The first name is the object's own; its parts, which come later, have others.
    match = _NAME.search(block)
    if match is None or match[2].strip() == escape(name):
        return block
    return f"{block[: match.start(2)]}{escape(name)}{block[match.end(2) :]}"


def _new(box: Mapping[str, Any]) -> str:
    sides = "".join(f"<{side}>{box['bndbox'][side]:g}</{side}>" for side in SIDES)
    return (
        f"\t<object>\n\t\t<name>{escape(box['name'])}</name>\n\t\t<difficult>0</difficult>\n"
        f"\t\t<bndbox>{sides}</bndbox>\n\t</object>\n"
    )
