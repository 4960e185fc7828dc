"""Files that survive a kill: append-only JSON lines, and whole files swapped in at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from llm_relabel.errors import RunError

# Made once: `json.dumps` with settings of its own builds an encoder at every call.
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

Kept = TypeVar("Kept")


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
        self.size = self._file.tell()
        """Bytes: what the file held when it was opened, and what was written here since."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        self._write(_line(record))

    def append_json(self, text: str) -> None:
        """Add one line that is JSON already, of one object and ASCII only."""
        self._write(text.encode() + b"\n")

    def extend(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add many lines in one write."""
        self._write(b"".join(_line(record) for record in records))

    def _write(self, data: bytes) -> None:
        while data:  # a full disk takes a part, and refuses the rest at the next write
            written = self._file.write(data)
            self.size += written
            data = data[written:]

    def sync(self) -> None:
        """Wait until the disk has what was appended."""
        os.fsync(self._file.fileno())

    def empty(self) -> None:
        """Forget every line; the file stays open."""
        self._file.truncate(0)
        self.size = 0

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


class KeptJournal(Generic[Kept]):
    """A journal that is parsed once: what its lines say stays in memory, and so does what is
    appended through here.

    The memory follows the file: lines that others appended since are read when it is asked for,
    and a file that was replaced is read anew.
    """

    def __init__(
        self,
        path: Path,
        kept: Callable[[dict[str, Any]], Kept],
        line_of: Callable[[Kept], Mapping[str, Any]] | None = None,
    ) -> None:
        """`kept` makes of a line what is remembered; `line_of` is its inverse, for a journal that
        is appended to here."""
        self.path = path
        self._kept = kept
        self._line_of = line_of
        self._memory: list[Kept] = []
        self._end = 0  # where the next line begins
        self._seen: tuple[int, ...] | None = None
        self._written: Journal | None = None

    def read(self) -> Sequence[Kept]:
        """All lines in order, and those to come in the same list: not to be changed by a reader.

        A missing file has none. Raises RunError as `read_lines` does.
        """
        if self._written is None:
            self._follow()
        return self._memory

    @contextmanager
    def appending(self) -> Iterator[KeptJournal[Kept]]:
        """Open the file, made where it is missing, for `append`, `extend` and `sync`."""
        assert self._written is None, f"{str(self.path)!r} is being appended to already"
        with Journal(self.path) as written:
            self._written = written
            try:
                self._follow()
                yield self
            finally:
                # Where a write fell short, or somebody else wrote too, the file is read anew.
                found = _identity(self.path)
                self._seen = found if found is not None and found[1] == self._end else None
                self._written = None

    def append(self, one: Kept) -> None:
        """Add one line, inside `appending()`."""
        written, line_of = self._open()
        written.append(line_of(one))
        self._memory.append(one)
        self._end = written.size

    def extend(self, many: Sequence[Kept]) -> None:
        """Add many lines in one write, inside `appending()`."""
        written, line_of = self._open()
        written.extend(map(line_of, many))
        self._memory += many
        self._end = written.size

    def sync(self) -> None:
        """Wait until the disk has what was appended, inside `appending()`."""
        self._open()[0].sync()

    def _open(self) -> tuple[Journal, Callable[[Kept], Mapping[str, Any]]]:
        assert self._written is not None, f"{str(self.path)!r} is not open: use `appending()`"
        assert self._line_of is not None, f"{str(self.path)!r} is only read here"
        return self._written, self._line_of

    def _follow(self) -> None:
        """Read what the memory lacks of the file."""
        found = _identity(self.path)
        if found == self._seen:
            return
        before = self._seen
        grown = before is not None and found is not None and (
            found[0] == before[0] and found[1] != before[1] and found[1] >= self._end
        )  # fmt: skip
        if not grown:
            self._memory, self._end = [], 0
        if found is not None and found[1] > self._end:
            for record, end in _records(self.path, self._end, len(self._memory)):
                self._memory.append(self._kept(record))
                self._end = end
        self._seen = found


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal in order; a missing file has none, a torn last line is skipped.

    Raises RunError on damage anywhere else, naming file and line.
    """
    if path.exists():
        for record, _ in _records(path):
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


def _records(path: Path, start: int = 0, before: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The records from the byte `start` on, which follows `before` lines, each with where the next
    one begins."""
    with path.open("rb") as file:
        file.seek(start)
        for number, line in enumerate(file, start=before + 1):
            record = _parse(line)
            whole = line.endswith(b"\n")
            if record is None:
                if not whole:
                    return
                raise RunError(
                    f"{str(path)!r} line {number} is damaged: {line[:80]!r}; restore the file, or "
                    "start afresh with another `output` (paid verdicts come from the cache)"
                )
            # A last line that only lacks its newline gets it when the journal is next opened.
            start += len(line) + (not whole)
            yield record, start


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Which file this is (inode, bytes, time of the last write), None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


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
