"""A light head on frozen maps that finds boxes: a heat of object centres, and four distances.

Centres as in CenterNet (Zhou et al., 2019) with its focal loss; distances to the four sides as in
FCOS (Tian et al., 2019) with a generalised IoU loss (Rezatofighi et al., 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_relabel.models.parts.lite0 import CHANNELS, STRIDES

STRIDE = STRIDES[0]
WIDTH = 64
BATCH = 8
RATE = 4e-3
DECAY = 1e-3
BOX_WEIGHT = 1.0
START_HEAT = -3.0  # of every cell: centres are few
SPREAD = 0.13  # of a centre's heat, in shares of the box's side
POSITIVE = 0.4  # from so much heat on, a cell learns the sides
MOST_PEAKS = 150
LEAST_SCORE = 0.02
ONE_OBJECT = 0.6  # of two boxes of a class that overlap more, the likelier stays

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """Boxes (n, 4) in pixels of the canvas, their scores (n,) and classes (n,), best first."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]


class Head(nn.Module):
    """Three maps to the heat (n, classes, h, w) and the distances (n, 4, h, w) in cells."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, WIDTH, 1) for inputs in CHANNELS)
        self.norms = nn.ModuleList(nn.GroupNorm(8, WIDTH) for _ in CHANNELS)
        self.joined = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GroupNorm(8, WIDTH), nn.ReLU()
        )
        self.heat = _branch(classes)
        self.sides = _branch(4)
        nn.init.constant_(self.heat[-1].bias, START_HEAT)  # type: ignore[arg-type]
        nn.init.constant_(self.sides[-1].bias, 1.0)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        levels = [
            norm(conv(each))
            for conv, norm, each in zip(self.lateral, self.norms, maps, strict=True)
        ]
        x = levels[-1]
        for level in levels[-2::-1]:
            x = level + F.interpolate(x, size=level.shape[2:], mode="nearest")
        x = self.joined(F.relu(x))
        return self.heat(x), F.softplus(self.sides(x))


def _branch(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        nn.GroupNorm(8, WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, outputs, 1),
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What one picture's maps should be: `heat` (classes, h, w), and for the cells `at` (k,) of the
    flat map the `boxes` (k, 4) on the canvas and their `weights` (k,). `ignored` (h, w): cells that
    nothing is learned from."""

    heat: Tensor
    at: Tensor
    boxes: Tensor
    weights: Tensor
    ignored: Tensor


def target(
    boxes: NDArray[np.float64], classes: NDArray[np.int64], count: int, size: tuple[int, int],
    ignored: NDArray[np.float64],
) -> Target:  # fmt: skip
    """The target of boxes (n, 4) on a map of `size` (h, w); `ignored` (m, 4) are left out."""
    high, wide = size
    heat = np.zeros((count, high, wide), dtype=np.float32)
    best = np.zeros((high, wide), dtype=np.float32)
    owner = np.full((high, wide), -1, dtype=np.int64)
    rows, columns = np.mgrid[:high, :wide] + 0.5
    for number, (box, code) in enumerate(zip(boxes / STRIDE, classes.tolist(), strict=True)):
        middle = (box[:2] + box[2:]) / 2
        sides = np.maximum(box[2:] - box[:2], 0.5)
        near = ((columns - middle[0]) / np.maximum(SPREAD * sides[0], 0.4)) ** 2 + (
            (rows - middle[1]) / np.maximum(SPREAD * sides[1], 0.4)
        ) ** 2
        own = np.exp(-near / 2).astype(np.float32)
        column = int(np.clip(middle[0], 0, wide - 1))
        row = int(np.clip(middle[1], 0, high - 1))
        own[row, column] = 1.0
        heat[code] = np.maximum(heat[code], own)
        closer = own > best
        best[closer], owner[closer] = own[closer], number
    at = np.flatnonzero(best.ravel() >= POSITIVE)
    out = np.zeros((high, wide), dtype=bool)
    for left, top, right, bottom in ignored / STRIDE:
        out[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    out &= best < POSITIVE
    return Target(
        torch.from_numpy(heat), torch.from_numpy(at),
        torch.from_numpy(boxes[owner.ravel()[at]].astype(np.float32).reshape(-1, 4)),
        torch.from_numpy(best.ravel()[at]), torch.from_numpy(out),
    )  # fmt: skip


def loss(heat: Tensor, sides: Tensor, targets: Sequence[Target]) -> Tensor:
    """The loss of one batch, a picture's worth."""
    wanted = torch.stack([each.heat for each in targets])
    kept = ~torch.stack([each.ignored for each in targets])[:, None]
    believed = torch.sigmoid(heat).clamp(1e-4, 1 - 1e-4)
    centres = wanted == 1
    hit = -torch.log(believed) * (1 - believed) ** 2 * centres
    miss = -torch.log(1 - believed) * believed**2 * (1 - wanted) ** 4 * ~centres
    count = max(int(centres.sum()), 1)
    found = ((hit + miss) * kept).sum() / count
    flat = sides.flatten(2)
    places = [
        _corners(flat[n][:, each.at].T, each.at, sides.shape[3]) for n, each in enumerate(targets)
    ]
    boxes, truth = torch.cat(places), torch.cat([each.boxes for each in targets])
    weights = torch.cat([each.weights for each in targets])
    if len(boxes):
        found = found + BOX_WEIGHT * ((1 - _giou(boxes, truth)) * weights).sum() / weights.sum()
    return found


def _corners(sides: Tensor, at: Tensor, wide: int) -> Tensor:
    """(k, 4) boxes on the canvas from distances (k, 4) in cells at cells (k,)."""
    x, y = (at % wide + 0.5) * STRIDE, (at // wide + 0.5) * STRIDE
    left, top, right, bottom = (sides * STRIDE).unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)


def _giou(one: Tensor, other: Tensor) -> Tensor:
    areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(1) for each in (one, other)]
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = areas[0] + areas[1] - shared + 1e-6
    low, high = torch.minimum(one[:, :2], other[:, :2]), torch.maximum(one[:, 2:], other[:, 2:])
    hull = (high - low).clamp(min=0).prod(1) + 1e-6
    return shared / union - (hull - union) / hull


def peaks(heat: Tensor, sides: Tensor) -> Found:
    """The boxes of one picture, from its believed heat (classes, h, w) and its distances."""
    high = F.max_pool2d(heat[None], 3, 1, 1)[0]
    scores = torch.where(heat == high, heat, torch.zeros_like(heat)).flatten()
    best, order = scores.topk(min(MOST_PEAKS, len(scores)))
    order = order[best > LEAST_SCORE]
    size = heat.shape[1] * heat.shape[2]
    at, classes = order % size, order // size
    boxes = _corners(sides.flatten(1)[:, at].T, at, heat.shape[2]).numpy()
    return _suppressed(boxes, scores[order].numpy(), classes.numpy())


def _suppressed(boxes: Floats, scores: Floats, classes: NDArray[np.int64]) -> Found:
    from llm_relabel.data.boxes import overlaps

    shared = overlaps(boxes.astype(np.float64), boxes.astype(np.float64))
    shared[classes[:, None] != classes[None]] = 0
    kept: list[int] = []
    for place in range(len(boxes)):
        if not kept or shared[place, kept].max() <= ONE_OBJECT:
            kept.append(place)
    return Found(boxes[kept], scores[kept], classes[kept])
