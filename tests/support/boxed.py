"""A small detection job: pictures of discs and squares, a few of them labeled wrong."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner
from PIL import Image, ImageDraw

from llm_relabel.cli import cli
from llm_relabel.errors import RelabelError

ROWS, SIZE = 12, (160, 120)
NAMES = ("disc", "square")
COLOURS = {"disc": (200, 40, 40), "square": (40, 60, 200)}
CHANGED = [0, 1, 2, 3]  # the rows that are labeled wrong
Placed = tuple[str, tuple[int, int, int, int]]


def truth(row: int) -> list[Placed]:
    """What a picture shows: one shape in each of three of its quarters."""
    rng = random.Random(row)
    found = []
    for quarter in sorted(rng.sample(range(4), 3)):
        side = rng.randint(24, 36)
        left = (quarter % 2) * 80 + rng.randint(4, 40)
        top = (quarter // 2) * 60 + rng.randint(2, 60 - side - 2)
        found.append((rng.choice(NAMES), (left, top, left + side, top + side)))
    return found


def given(row: int) -> list[Placed]:
    """The label: one box in twelve pictures missing, one spurious, one swapped, one misplaced."""
    boxes = truth(row)
    if row == 0:
        return boxes[1:]
    if row == 1:
        return [*boxes, ("disc", (2, 96, 22, 116))]
    if row == 2:
        other = NAMES[1 - NAMES.index(boxes[0][0])]
        return [(other, boxes[0][1]), *boxes[1:]]
    if row == 3:
        name, (left, top, right, bottom) = boxes[0]
        return [(name, (left + 10, top + 8, right + 10, bottom + 8)), *boxes[1:]]
    return boxes


def picture(row: int) -> Image.Image:
    image = Image.new("RGB", SIZE, (235, 235, 225))
    pen = ImageDraw.Draw(image)
    for name, box in truth(row):
        (pen.ellipse if name == "disc" else pen.rectangle)(box, fill=COLOURS[name])
    return image


def cells(boxes: list[Placed]) -> list[dict[str, Any]]:
    """Boxes as the file has them, with a field of their own."""
    return [{"cls": name, "box": list(box), "note": f"n{n}"} for n, (name, box) in enumerate(boxes)]


class Boxed:
    """A folder with pictures, labels, predictions and a job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.run_folder = folder / "data.jsonl", folder / "run"
        self.job = folder / "job.yaml"
        (folder / "images").mkdir()
        for row in range(ROWS):
            picture(row).save(folder / f"images/{row}.png")
        self.write_rows([self.row(row) for row in range(ROWS)])
        self.write_lines(
            "predictions.jsonl",
            [{"id": f"p{row}", "boxes": self.scored(row)} for row in range(ROWS)],
        )
        self.write_lines(
            "recorded.jsonl",
            [{"id": f"p{r}", "label": [{"label": n, "box": b} for n, b in truth(r)]}
             for r in range(ROWS)],
        )  # fmt: skip
        self.write_job()

    @staticmethod
    def row(row: int) -> dict[str, Any]:
        return {"id": f"p{row}", "image": f"images/{row}.png", "label": cells(given(row)),
                "gold": cells(truth(row)), "site": "lab"}  # fmt: skip

    @staticmethod
    def scored(row: int) -> list[dict[str, Any]]:
        """What a good detector says: the truth, a pixel off, and a little noise far below."""
        good = [{"label": n, "box": [v + 0.5 for v in box], "score": 0.9} for n, box in truth(row)]
        return [*good, {"label": "disc", "box": [0, 0, 9, 9], "score": 0.05}]

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        self.write_lines("data.jsonl", rows)

    def write_lines(self, name: str, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / name).write_text(text, encoding="utf-8")

    def write_job(self, **changes: Any) -> None:
        job: dict[str, Any] = {
            "task": "detection",
            "data": {"path": "data.jsonl", "image": "image", "label": "label", "id": "id",
                     "gold": "gold"},
            "labels": {"disc": {"definition": "A round red shape."},
                       "square": {"definition": "A blue shape with four corners."}},
            "model": {"predictions": "predictions.jsonl"},
            "judge": {"model": "recorded/recorded.jsonl"},
            "rounds": 1,
            "output": "run",
        }  # fmt: skip
        for name, value in changes.items():
            merged = isinstance(value, dict) and name in ("data", "judge")
            job[name] = {**job[name], **value} if merged else value
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "llm_relabel", *words]

    def call(self, *words: str, code: int = 0) -> str:
        """What a command prints on both streams; with a `code`, what its error says."""
        result = CliRunner().invoke(cli, words)
        if code and isinstance(result.exception, RelabelError):
            return str(result.exception)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_folder / "summary.json").read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        text = (self.run_folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def labels(self) -> list[list[Placed]]:
        return [
            sorted((box["cls"], tuple(box["box"])) for box in line["label"])
            for line in self.lines("dataset.jsonl")
        ]


def check(work: Boxed) -> None:
    """The four labels are mended, what was right is byte for byte as it came."""
    before = work.data.read_text().splitlines()
    after = (work.run_folder / "dataset.jsonl").read_text().splitlines()
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (old != new) == (row in CHANGED), row
        boxes = json.loads(new)["label"]
        kept = [cell for cell in json.loads(old)["label"] if cell in boxes]
        assert [cell for cell in boxes if cell in kept] == kept
        wanted, found = truth(row), work.labels()[row]
        assert len(found) == len(wanted)
        for name, box in wanted:
            near = [n for n, b in found if n == name and max(map(abs, np.subtract(b, box))) <= 1]
            assert len(near) == 1, (row, name, box, found)
