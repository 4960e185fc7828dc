"""Files that survive a kill: append-only JSON lines, and whole files swapped in at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from llm_relabel.errors import RunError

# Made once: `json.dumps` with settings of its own builds an encoder at every call.
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Journal:
    """An append-only JSONL file. A line is in the file when `append` returns.

    Each line goes to the operating system in one write, so a killed process can lose nothing
    it had appended; `sync` asks the disk as well, against a power cut. A last line torn by a
    kill is cut off on opening, and an empty one that only lacks its newline is completed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        self._file = path.open("ab", buffering=0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        self._file.write(_line(record))

    def append_json(self, text: str) -> None:
        """Add one line that is JSON already, of one object and ASCII only."""
        self._file.write(text.encode() + b"\n")

    def extend(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add many lines in one write."""
        data = b"".join(_line(record) for record in records)
        if data:
            self._file.write(data)

    def sync(self) -> None:
        """Wait until the disk has what was appended."""
        os.fsync(self._file.fileno())

    def empty(self) -> None:
        """Forget every line; the file stays open."""
        self._file.truncate(0)

    def close(self) -> None:
        """Sync and close; nothing more can be appended."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal in order; a missing file has none, a torn last line is skipped.

    Raises RunError on damage anywhere else, naming file and line.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and _parse(line) is None:
                return
            record = _parse(line)
            if record is None:
                raise RunError(
                    f"{str(path)!r} line {number} is damaged: {line[:80]!r}; restore the file, or "
                    "start afresh with another `output` (paid verdicts come from the cache)"
                )
            yield record


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once: written beside it, synced, renamed. A kill leaves old or new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSONL file at once."""
    write_whole(path, b"".join(_line(record) for record in records))


def _line(record: Mapping[str, Any]) -> bytes:
    # ASCII only: a lone surrogate from a dataset is legal JSON that way, and not in UTF-8.
    return _encode(record).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode())
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _mend(path: Path) -> None:
    """Cut off a torn last line, or give a whole one its newline."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        tail_start, tail = size, b""
        while tail_start > 0 and b"\n" not in tail:
            step = min(65536, tail_start)
            tail_start -= step
            file.seek(tail_start)
            tail = file.read(step) + tail
        newline = tail.rfind(b"\n")
        last = tail[newline + 1 :]
        if not last:
            return
        if _parse(last) is not None:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            file.truncate(tail_start + newline + 1)
