"""Images of a prompt: their bytes, and what the header says of them. No image is decoded here."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from llm_relabel.errors import DataError

PNG, JPEG = "image/png", "image/jpeg"

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"
# The markers of a frame: they tell its size. C4, C8 and CC in between are something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One image of a message, as its file: PNG or JPEG, which every provider takes.

    `media_type`, `width` and `height` (pixels as stored, before any turn that EXIF asks for) are
    read off the bytes, since a provider refuses a type that does not match them. Two images are
    equal where their `sha256` is: that of the bytes or, of a drawing, of `drawn_from`, which says
    all that it shows, since an encoder's next version writes other bytes. Raises DataError for
    bytes that are no such image.
    """

    data: bytes = field(repr=False, compare=False)
    drawn_from: str | None = field(default=None, repr=False, compare=False)
    sha256: str = field(init=False)
    media_type: str = field(init=False, compare=False)
    width: int = field(init=False, compare=False)
    height: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        media_type, (width, height) = _read(self.data)
        for name, value in (
            ("sha256", hashlib.sha256((self.drawn_from or "").encode() or self.data).hexdigest()),
            ("media_type", media_type), ("width", width), ("height", height),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        """What stands for the image where text is shown."""
        size = f"{self.width}x{self.height}"
        return f"[image {size}, {self.media_type}, sha256 {self.sha256}]"

    @property
    def base64(self) -> str:
        """The bytes as every wire carries them."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def base64_bytes(self) -> int:
        """The length of `base64`, which is what providers limit."""
        return -(-len(self.data) // 3) * 4


def _read(data: bytes) -> tuple[str, tuple[int, int]]:
    """Media type and (width, height) of an image file. Raises DataError."""
    if data.startswith(_PNG_START):
        media_type, size = PNG, _png_size(data)
    elif data.startswith(_JPEG_START):
        media_type, size = JPEG, _jpeg_size(data)
    else:
        raise DataError(
            f"an image of {len(data):,} bytes that begins with {data[:8]!r} is neither PNG nor "
            "JPEG; convert it to one of them"
        )
    if size is None or 0 in size:
        raise DataError(
            f"an image of {len(data):,} bytes calls itself {media_type} and its header tells no "
            "width and height; it is cut off or damaged"
        )
    return media_type, size


def _png_size(data: bytes) -> tuple[int, int] | None:
    """From the header chunk, which comes first (https://www.w3.org/TR/png-3/#11IHDR)."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the first frame's header (ITU-T T.81, B.2.2): segments are skipped by their length."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        elif marker in (_JPEG_SCAN, _JPEG_END):
            return None
        elif marker in _JPEG_FRAMES:
            if at + 9 > len(data):
                return None
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return int.from_bytes(width), int.from_bytes(height)
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None
