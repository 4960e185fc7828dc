"""Results appear whole or not at all: written beside the target, flushed, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llm_relabel.errors import DataError


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `target` when the block ends well, and vanishes otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """The path of a folder that becomes `target`, in place of an older one, likewise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        if target.exists():
            # A folder cannot be renamed over a full one.
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old)
        else:
            temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_unchanged(source: Path, target: Path, sha256: str) -> None:
    """Copy a file byte for byte; DataError if its hash is no longer `sha256`."""
    check_unchanged(source, sha256)
    with source.open("rb") as old, new_file(target) as new:
        shutil.copyfileobj(old, new)


def check_unchanged(source: Path, sha256: str) -> None:
    """DataError unless the file still has the hash it was read with."""
    if hash_file(source) != sha256:
        raise changed_since_read(source)


def changed_since_read(source: Path) -> DataError:
    """The error for a dataset that was altered under a run."""
    return DataError(
        f"the dataset {source.name!r} is no longer what was read: it changed meanwhile; "
        "nothing was written"
    )


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, streamed, as hex."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(target: Path) -> Path:
    # Not tempfile: its files are private to the user, and a dataset is meant to be shared.
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _sync_folder(folder: Path) -> None:
    # Makes the rename itself durable; only POSIX can open a folder.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
