"""The small model of pictures: a light head on a frozen network, out of fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_relabel.config.job import ModelSection
from llm_relabel.data.boxes import Floats, corners_of
from llm_relabel.data.pictures import Pictures
from llm_relabel.errors import DataError, JobError
from llm_relabel.models.box_scores import Detected, predictions_of
from llm_relabel.models.model import Predictions
from llm_relabel.models.parts.detection_head import (
    BATCH,
    DECAY,
    RATE,
    STRIDE,
    Head,
    Target,
    loss,
    peaks,
    target,
)
from llm_relabel.models.parts.lite0 import open_lite0
from llm_relabel.models.parts.picture_maps import Canvas, PictureMaps, on_picture, unflipped
from llm_relabel.units import Labels, LabelValue

# How often the head sees each picture. Of very few pictures it must see each more often.
EPOCHS, LEAST_STEPS = 12, 300
LONGEST = 256  # pixels of the longer side of the canvas
WARM_UP = 0.15
CLIP = 5.0


class Detector:
    """Detects in the rows' pictures. A `locked` row that has none is neither learned nor told."""

    def __init__(
        self, section: ModelSection, pictures: Pictures | None, names: Any,
        groups: NDArray[np.int64], locked: NDArray[np.bool_], classes: Sequence[str], *,
        seed: int, cache: Path, folder: Path = Path(),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self._section, self._pictures, self._names = section, pictures, names
        self._groups, self._locked, self._classes = groups, locked, tuple(classes)
        self._seed, self._cache, self._folder, self._progress = seed, cache, folder, progress

    @property
    def description(self) -> str:
        """One line for provenance."""
        return f"head on frozen EfficientNet-lite0, {self._section.folds} folds"

    def open(self) -> None:
        """Open the network, and see that there are pictures. Raises JobError."""
        if self._section.encoder != "embedded":
            raise JobError(
                f"model.encoder {self._section.encoder!r}: of detection there is `embedded` so "
                "far; for another detector give its boxes in model.predictions"
            )
        if not len(self._rows):
            where = "" if self._pictures is None else f" in {str(self._pictures.folder)!r}"
            raise JobError(
                f"no picture of the dataset is there{where}; put them beside the data, or bring "
                "boxes in model.predictions"
            )
        open_lite0()

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """The rows whose picture has a header that can be read."""
        assert self._pictures is not None
        found = []
        for row, name in enumerate(self._names.to_pylist()):
            try:
                self._pictures.size(name)
            except DataError:  # told where the data were read
                continue
            found.append(row)
        return np.array(found, dtype=np.int64)

    @cached_property
    def _maps(self) -> PictureMaps:
        assert self._pictures is not None
        names = self._names.take(self._rows).to_pylist()
        canvas = Canvas([self._pictures.size(name) for name in names], LONGEST)
        return PictureMaps(self._pictures, names, canvas, cache=self._cache, report=self._progress)

    @cached_property
    def _sizes(self) -> list[tuple[int, int]]:
        assert self._pictures is not None
        return [self._pictures.size(name) for name in self._names.take(self._rows).to_pylist()]

    def out_of_fold(self, labels: Labels) -> Predictions:
        """Every picture's boxes from a head that saw neither it nor its group."""
        return predictions_of(self.detected(labels), labels, self._classes, {})

    def detected(self, labels: Labels) -> list[Detected | None]:
        """The same as they are, with the head's own scores; None where there is no picture."""
        own = labels[self._rows]
        groups = self._groups[self._rows]
        fold = _folds(groups, self._section.folds, self._seed)
        found: list[Detected | None] = [None] * len(labels)
        for number in np.unique(fold).tolist():
            held = np.flatnonzero(fold == number)
            head = self._trained(own, np.flatnonzero(fold != number), self._seed + number)
            for at, detected in zip(held.tolist(), self._detect(head, held), strict=True):
                if self._maps.readable[at]:
                    found[int(self._rows[at])] = detected
            if self._progress is not None:
                self._progress(number + 1, int(fold.max()) + 1)
        return found

    # What a judge without an LLM looks with

    def sees(self, row: int) -> bool:
        """Whether a row's picture is there."""
        at = self._at.get(row)
        return at is not None and bool(self._maps.readable[at])

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of a row's picture."""
        return self._sizes[self._at[row]]

    def look(self, row: int, boxes: Floats) -> Floats:
        """(n, d) what the frozen network sees in boxes (n, 4) of a picture, and their form."""
        size = self.size(row)
        scale = self._maps.canvas.scale(size)
        sides = np.clip(boxes[:, 2:] - boxes[:, :2], 1, None)
        form = np.log(np.column_stack([sides, sides.prod(axis=1), sides[:, 0] / sides[:, 1]]))
        return np.concatenate([self._maps.within(self._at[row], boxes * scale), form], axis=1)

    @cached_property
    def _at(self) -> dict[int, int]:
        return {row: at for at, row in enumerate(self._rows.tolist())}

    # Training

    def _trained(self, labels: Labels, rows: NDArray[np.int64], seed: int) -> Head:
        rows = rows[[labels[row] is not None for row in rows.tolist()] & self._maps.readable[rows]]
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        head = Head(len(self._classes))
        if not len(rows):
            return head.eval()
        a_pass = -(-len(rows) // BATCH)
        passes = max(EPOCHS, -(-LEAST_STEPS // a_pass))
        best: Any = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
        pace = torch.optim.lr_scheduler.OneCycleLR(
            best, RATE, total_steps=passes * a_pass, pct_start=WARM_UP
        )
        for _ in range(passes):
            order = rng.permutation(rows)
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH].tolist()
                flips = rng.integers(0, self._maps.flips, len(part)).tolist()
                heat, sides = head(self._maps.of(part, flips))
                wanted = [
                    self._target(labels[row], row, flip)
                    for row, flip in zip(part, flips, strict=True)
                ]
                best.zero_grad()
                loss(heat, sides, wanted).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(head.parameters(), CLIP)
                best.step()
                pace.step()
        return head.eval()

    def _target(self, label: LabelValue, row: int, flip: int) -> Target:
        canvas = self._maps.canvas
        scale = canvas.scale(self._sizes[row])
        free = [box for box in label if not box.fixed]
        boxes, aside = (
            self._maps.flipped(corners_of(part) * scale, flip)
            for part in (free, [box for box in label if box.fixed])
        )
        codes = np.array([self._classes.index(box.label) for box in free], dtype=np.int64)
        size = (canvas.height // STRIDE, canvas.width // STRIDE)
        return target(boxes, codes, len(self._classes), size, aside)

    def _detect(self, head: Head, rows: NDArray[np.int64]) -> list[Detected]:
        found = []
        flips = range(self._maps.flips)
        with torch.inference_mode():
            for row in rows.tolist():
                heat, sides = head(self._maps.of([row] * len(flips), flips))
                seen = peaks(*unflipped(torch.sigmoid(heat), sides))
                size = self._sizes[row]
                boxes = on_picture(seen, self._maps.canvas.scale(size), size)
                whole = (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)
                found.append(Detected(
                    boxes[whole], seen.classes[whole], seen.scores[whole].astype(np.float64)
                ))  # fmt: skip
        return found


def _folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(rows,) the fold of each row; a group lies in one."""
    names, group = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.asarray(order[group] % min(folds, len(names)), dtype=np.int64)
