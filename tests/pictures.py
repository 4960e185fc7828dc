"""Images made by hand: whole small PNGs, and files of any size that are a header and padding."""

from __future__ import annotations

import struct
import zlib


def png(width: int = 4, height: int = 3, shade: int = 128) -> bytes:
    """A grey PNG that any reader opens."""
    rows = b"".join(b"\0" + bytes([shade]) * width for _ in range(height))
    return png_header(width, height) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def png_header(width: int, height: int, padding: int = 0) -> bytes:
    """The beginning of a PNG, then `padding` bytes of nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + bytes(padding)


def jpeg(width: int, height: int, frame: int = 0xC2) -> bytes:
    """The segments of a JPEG up to its scan: a thumbnail's size in EXIF, fill bytes, a table."""
    thumbnail = b"Exif\0\0" + b"\xff\xd8\xff\xc0" + _size(1, 2)
    return (
        b"\xff\xd8"
        + _segment(0xE1, thumbnail)
        + b"\xff\xff"  # fill
        + _segment(0xC4, b"\0" * 20)
        + _segment(frame, _size(width, height))
        + _segment(0xDA, b"\0" * 6)
        + b"\x12\x34\xff\xd9"
    )


def _size(width: int, height: int) -> bytes:
    return struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check
