"""YOLO folders: `data.yaml`, pictures under `images`, and a text file of boxes for each.

A corrected folder holds `data.yaml` and all label files; the pictures stay where they are. Of a
changed file the lines that stay are the same characters.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import changed_since_read, new_folder
from llm_relabel.data.source import BATCH_ROWS, Batch, Edits
from llm_relabel.errors import DataError, nearest

ABOUT = "data.yaml"
ID, IMAGE, BOXES = "id", "image", "boxes"
SHARES, LINE = "cxcywh, normalized", "line"
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"))


class YoloFolder:
    """One split of a YOLO folder. Raises DataError where it is none.

    `pictures` is the folder that the pictures lie under, which may be another one.
    """

    suffix = ""
    unit = "row"

    def __init__(self, folder: Path, split: str, pictures: Path) -> None:
        self.name = folder.name
        self._folder = folder
        try:
            about = yaml.safe_load((folder / ABOUT).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{str(folder / ABOUT)!r} cannot be read: {error}") from error
        names = about.get("names") if isinstance(about, Mapping) else None
        if isinstance(names, Mapping):
            names = [names.get(number) for number in range(len(names))]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{str(folder / ABOUT)!r} names no classes under `names`, from 0 on")
        self._names = tuple(names)
        self._images = self._listed(about, split, pictures)

    def _listed(self, about: Mapping[str, Any], split: str, pictures: Path) -> list[str]:
        """The pictures of a split, relative to their folder."""
        splits = [name for name in ("train", "val", "test") if about.get(name)]
        if split not in splits:
            raise DataError(
                f"{ABOUT} has no split {split!r}{nearest(split, splits)}; it has "
                f"{', '.join(splits) or 'none'} (data.split)"
            )
        places = about[split] if isinstance(about[split], list) else [about[split]]
        found = []
        for place in map(str, places):
            where = (pictures / place).resolve()
            if not where.is_dir():
                where = (pictures / str(about.get("path") or "") / place).resolve()
            if not where.is_dir() or not where.is_relative_to(pictures.resolve()):
                raise DataError(
                    f"{ABOUT} has its pictures in {place!r}, and {str(pictures)!r} has no such "
                    "folder; data.image_folder says where the pictures are"
                )
            found += [each for each in where.rglob("*") if each.suffix.lower() in SUFFIXES]
        root = pictures.resolve()
        return sorted(each.relative_to(root).as_posix() for each in found)

    def _labels(self, image: str) -> Path:
        """Where a picture's boxes stand: under `labels` where it is under `images`."""
        head, mark, rest = f"/{image}".rpartition("/images/")
        beside = f"{head}/labels/{rest}" if mark else f"/{image}"
        return (self._folder / beside.lstrip("/")).with_suffix(".txt")

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        for start in range(0, len(self._images), BATCH_ROWS):
            part = self._images[start : start + BATCH_ROWS]
            places = range(start + 1, start + len(part) + 1)
            rows = [
                {ID: str(Path(image).with_suffix("")), IMAGE: image,
                 BOXES: self._boxes(image, place, problems) if BOXES in wanted else None}
                for image, place in zip(part, places, strict=True)
            ]  # fmt: skip
            yield Batch(places, {name: [row.get(name) for row in rows] for name in wanted})

    def _boxes(self, image: str, place: int, problems: Problems) -> list[dict[str, Any]]:
        path = self._labels(image)
        if not path.is_file():
            return []
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            if not line.strip():
                continue
            try:
                code, *numbers = line.split()
                if len(numbers) != 4:
                    raise ValueError(f"{len(numbers)} numbers are no box")
                name = self._names[int(code)]
                shares = [float(each) for each in numbers]
            except (ValueError, IndexError) as error:
                told = f"{path.name}, line {number + 1}: {error}"
                problems.row("a label file cannot be read as boxes", place, detail=told)
                continue
            found.append({"label": name, SHARES: shares, LINE: number})
        return found

    def columns(self) -> Sequence[str]:
        return ID, IMAGE, BOXES

    def class_names(self, column: str) -> tuple[str, ...] | None:
        return self._names if column == BOXES else None

    def sha256(self) -> str:
        digest = hashlib.sha256((self._folder / ABOUT).read_bytes())
        for image in self._images:
            path = self._labels(image)
            content = path.read_bytes() if path.is_file() else b"-"
            digest.update(f"{image}\n".encode() + hashlib.sha256(content).digest())
        return digest.hexdigest()

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if self.sha256() != sha256:
            raise changed_since_read(self._folder)
        with new_folder(target) as made:
            made.mkdir()
            shutil.copyfile(self._folder / ABOUT, made / ABOUT)
            for row, image in enumerate(self._images):
                path = self._labels(image)
                new = made / path.relative_to(self._folder)
                if row not in cells and not path.is_file():
                    continue
                new.parent.mkdir(parents=True, exist_ok=True)
                if row not in cells:
                    shutil.copyfile(path, new)
                else:
                    new.write_text(self._edited(path, cells[row][BOXES]), encoding="utf-8")

    def _edited(self, path: Path, boxes: Sequence[Mapping[str, Any]] | None) -> str:
        """A label file with these boxes; what stays of its lines stays as it is."""
        old = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        kept = {box[LINE]: box["label"] for box in boxes or () if LINE in box}
        lines = []
        for number, line in enumerate(old):
            if number in kept:
                code, *_ = line.split(maxsplit=1)
                new = str(self._code(kept[number]))
                lines.append(line if code == new else line.replace(code, new, 1))
            elif not line.strip():
                lines.append(line)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        for box in boxes or ():
            if LINE not in box:
                numbers = " ".join(f"{share:.6f}" for share in box[SHARES])
                lines.append(f"{self._code(box['label'])} {numbers}\n")
        return "".join(lines)

    def _code(self, name: str) -> int:
        if name not in self._names:
            raise DataError(f"the class {name!r} cannot be written: {ABOUT} names none such")
        return self._names.index(name)
