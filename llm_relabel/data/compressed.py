"""Files inside gzip or Zstandard: their content as a stream, and a stream back into a file."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from llm_relabel.config.job import COMPRESSIONS
from llm_relabel.data.saving import changed_since_read, new_file
from llm_relabel.errors import DataError

GZIP, ZSTD = "gzip", "zstd"
_MAGIC = {GZIP: (b"\x1f\x8b",), ZSTD: (b"\x28\xb5\x2f\xfd", *(bytes([n]) + b"\x2a\x4d\x18"
          for n in range(0x50, 0x60)))}  # fmt: skip
_BUFFER = 1 << 20


def compression_of(path: Path) -> str | None:
    """What the last ending of a name says the file is packed with, if anything."""
    return COMPRESSIONS.get(path.suffix.lower())


def suffix_of(path: Path) -> str:
    """The ending that tells the format, with that of a compression: `.csv.gz` of `a.b.csv.gz`."""
    return "".join(path.suffixes[-2:]) if compression_of(path) else path.suffix


def format_of(path: Path) -> str:
    """The ending that tells the format, in small letters: `.csv` of `a.CSV.gz`."""
    return Path(path.stem).suffix.lower() if compression_of(path) else path.suffix.lower()


def stem_of(path: Path) -> str:
    """The file's name without its ending: `a.b` of `a.b.csv.gz`."""
    return path.name.removesuffix(suffix_of(path))


@contextmanager
def open_content(path: Path, what: str = "the dataset") -> Iterator[BinaryIO]:
    """The file's bytes, unpacked where its name says that it is packed; never held whole.

    `what` is what the file holds, for messages. DataError, also while reading, where the content
    is not what the name says or breaks off.
    """
    kind = compression_of(path)
    with path.open("rb") as file:
        if kind is None:
            yield cast(BinaryIO, file)
            return
        head = file.read(4)
        file.seek(0)
        if head and not head.startswith(_MAGIC[kind]):
            raise DataError(
                f"{what} {path.name!r} is not packed with {kind}, though its name says so; "
                f"take {path.suffix!r} off the name if it is plain text"
            )
        packed: Any = gzip.GzipFile(fileobj=file) if kind == GZIP else None
        if packed is None:
            packed = pa.input_stream(file, compression=kind)
        with packed, io.BufferedReader(_Unpacked(packed, f"{what} {path.name!r}", kind),
                                       _BUFFER) as content:  # fmt: skip
            yield cast(BinaryIO, content)


def content_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, unpacked and streamed, as hex."""
    with open_content(path) as content:
        return hashlib.file_digest(cast(Any, content), "sha256").hexdigest()


def copy_content(source: Path, target: Path, sha256: str) -> None:
    """Copy a file byte for byte, packed as it is; DataError if its content is not `sha256`."""
    if content_sha256(source) != sha256:
        raise changed_since_read(source)
    with source.open("rb") as old, new_file(target) as new:
        shutil.copyfileobj(old, new)


@contextmanager
def new_content(target: Path) -> Iterator[BinaryIO]:
    """A file that becomes `target`, as `new_file`; what is written is packed as its name says.

    The same content gives the same bytes: no time and no name is kept inside.
    """
    kind = compression_of(target)
    with new_file(target) as file:
        if kind is None:
            yield file
        elif kind == GZIP:
            with gzip.GzipFile(
                filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0
            ) as to:
                yield cast(BinaryIO, to)
        else:
            # Arrow closes what it wrote to; the file is still to be flushed.
            with pa.CompressedOutputStream(pa.PythonFile(_LeftOpen(file), "w"), kind) as to:
                yield to


class _LeftOpen(io.RawIOBase):
    """Writes to `file`, and leaves it open when it is itself closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        return self._file.write(part)


class _Unpacked(io.RawIOBase):
    """The unpacked bytes; what the libraries raise of a damaged file becomes a DataError."""

    def __init__(self, packed: Any, name: str, kind: str) -> None:
        self._packed, self._name, self._kind = packed, name, kind

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._packed.read(len(buffer))
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise DataError(
                f"{self._name} is damaged or cut off: its {self._kind} cannot be unpacked to the "
                f"end ({error}); fetch or pack it again"
            ) from error
        buffer[: len(part)] = part
        return len(part)
