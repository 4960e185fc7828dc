"""What the frozen network sees of each picture and of its mirror images, kept on disk.

All maps of a dataset are one file of half floats, so that memory does not grow with it: a picture
of 256 x 192 takes 540 kB in its four flips. It is named by what the maps depend on, and another
run on the same pictures reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_relabel.data.pictures import Pictures
from llm_relabel.errors import DataError
from llm_relabel.models.parts.lite0 import CHANNELS, STRIDES, WEIGHTS_SHA256, open_lite0

if TYPE_CHECKING:
    from llm_relabel.models.parts.detection_head import Found

FLIPS = 4  # none, left to right, upside down, both
# Of more pictures fewer flips are kept: the file stays below some two gigabytes.
MANY, VERY_MANY = 4_000, 15_000
VERSION = "1"

Report = Callable[[int, int], None]


class Canvas:
    """The frame that every picture is drawn on, its own proportions kept: width and height."""

    def __init__(self, sizes: Sequence[tuple[int, int]], longest: int) -> None:
        ratio = float(np.median([height / width for width, height in sizes]))
        wide, high = (longest, longest * ratio) if ratio <= 1 else (longest / ratio, longest)
        step = STRIDES[-1]
        self.width, self.height = (max(step, round(side / step) * step) for side in (wide, high))

    def scale(self, size: tuple[int, int]) -> float:
        """Pixels of the canvas for one of the picture."""
        return min(self.width / size[0], self.height / size[1])


class PictureMaps:
    """The maps of the pictures of these names, in their order."""

    def __init__(
        self, pictures: Pictures, names: Sequence[str], canvas: Canvas, *, cache: Path,
        report: Report | None = None,
    ) -> None:  # fmt: skip
        self.canvas = canvas
        self._pictures, self._names = pictures, names
        self.flips = FLIPS if len(names) <= MANY else 2 if len(names) <= VERY_MANY else 1
        self._shapes = [
            (count, -(-canvas.height // stride), -(-canvas.width // stride))
            for count, stride in zip(CHANNELS, STRIDES, strict=True)
        ]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._kept = self._open(cache / "pictures", report)

    def _open(self, folder: Path, report: Report | None) -> NDArray[np.float16]:
        size = (self.canvas.width, self.canvas.height, self.flips)
        digests = [self._pictures.digest(name) for name in self._names]
        about = [VERSION, WEIGHTS_SHA256, *map(str, size), *digests]
        key = hashlib.sha256("\n".join(about).encode()).hexdigest()
        path = folder / f"{key[:32]}.npy"
        shape = (len(self._names), self.flips, sum(self._sizes))
        if path.exists():
            kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
            if kept.shape == shape:
                return kept
        folder.mkdir(parents=True, exist_ok=True)
        started = path.with_suffix(".tmp.npy")
        made: Any = np.lib.format.open_memmap(started, mode="w+", dtype=np.float16, shape=shape)
        network = open_lite0()
        with torch.inference_mode():
            for row, name in enumerate(self._names):
                try:
                    maps = network(self._drawn(name))
                except DataError:  # a picture that breaks off behind its header: see `readable`
                    made[row] = 0
                    continue
                flat = torch.cat([each.flatten(1) for each in maps], dim=1)
                made[row] = flat.half().numpy()
                if report is not None:
                    report(row + 1, len(self._names))
        made.flush()
        del made
        started.replace(path)
        found: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return found

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """(pictures,) whether anything was seen of a picture."""
        return np.array([bool(self._kept[row, 0, ::97].any()) for row in range(len(self._kept))])

    def _drawn(self, name: str) -> Tensor:
        """(flips, 3, height, width) a picture on the canvas and its mirror images."""
        from PIL import Image

        image = self._pictures.upright(name)
        scale = self.canvas.scale(image.size)
        small = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.BILINEAR,
        )
        sheet = Image.new("RGB", (self.canvas.width, self.canvas.height), (127, 127, 127))
        sheet.paste(small, (0, 0))
        plain = torch.from_numpy(np.array(sheet)).permute(2, 0, 1)[None].float()
        flips = [plain, plain.flip(3), plain.flip(2), plain.flip(2).flip(3)]
        return torch.cat(flips[: self.flips])

    def of(self, rows: Sequence[int], flips: Sequence[int]) -> list[Tensor]:
        """The three maps (n, channels, h, w) of pictures, each in one of its flips."""
        flat = np.stack([self._kept[row, flip] for row, flip in zip(rows, flips, strict=True)])
        parts = torch.split(torch.from_numpy(flat.astype(np.float32)), self._sizes, dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def within(self, row: int, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, d) the mean and the middle of each map within boxes (n, 4) on the canvas."""
        parts = self.of([row], [0])
        found = []
        for part, stride in zip(parts, STRIDES, strict=True):
            seen = part[0].numpy()
            high, wide = seen.shape[1:]
            # Sums over any rectangle of cells come of the running sums.
            sums = np.pad(seen.astype(np.float64).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
            cells = boxes / stride
            left, top = (np.clip(np.floor(cells[:, n]).astype(int), 0, (wide, high)[n] - 1)
                         for n in (0, 1))  # fmt: skip
            right, bottom = (np.clip(np.ceil(cells[:, n]).astype(int), 1, (wide, high)[n - 2])
                             for n in (2, 3))  # fmt: skip
            right, bottom = np.maximum(right, left + 1), np.maximum(bottom, top + 1)
            area = (right - left) * (bottom - top)
            inner = (sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left]
                     + sums[:, top, left]) / area  # fmt: skip
            middle = seen[:, np.minimum((top + bottom) // 2, high - 1),
                          np.minimum((left + right) // 2, wide - 1)]  # fmt: skip
            found += [inner.T, middle.T]
        return np.concatenate(found, axis=1)

    def flipped(self, boxes: NDArray[np.float64], flip: int) -> NDArray[np.float64]:
        """Boxes (n, 4) on the canvas where the picture is flipped."""
        left, top, right, bottom = boxes.T
        if flip in (1, 3):
            left, right = self.canvas.width - right, self.canvas.width - left
        if flip in (2, 3):
            top, bottom = self.canvas.height - bottom, self.canvas.height - top
        return np.stack([left, top, right, bottom], axis=1)


def unflipped(heat: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of what a head says of a picture's flips, (flips, c, h, w) each, turned back."""
    heats, distances = [], []
    for flip, (own, away) in enumerate(zip(heat, sides, strict=True)):
        axes = [axis for axis, flips in ((2, (1, 3)), (1, (2, 3))) if flip in flips]
        turned = [2, 1, 0, 3] if flip == 1 else [0, 3, 2, 1] if flip == 2 else [2, 3, 0, 1]
        heats.append(own.flip(axes))
        distances.append(away.flip(axes)[turned] if flip else away)
    return torch.stack(heats).mean(0), torch.stack(distances).mean(0)


def on_picture(found: Found, scale: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """(n, 4) found boxes in pixels of their picture, cut at its edges."""
    boxes = found.boxes.astype(np.float64) / scale
    return np.clip(boxes, 0, np.tile(np.array(size, dtype=np.float64), 2))
