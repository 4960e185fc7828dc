"""The verdict cache: what a provider answered to one exact request, for every run and round.

Only usable answers come here; refusals, failures and invalid answers never do. Values are
JSON bytes, nothing is ever pickled or unpickled, and nothing is evicted.

A write is one line in a file of this process's own; many lines become one transaction of the
store. A killed process leaves its file behind, and the next one that opens the cache takes it
in, so a paid answer is never lost.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from llm_relabel.errors import RunError
from llm_relabel.files.cache_store import open_store
from llm_relabel.files.journal import Journal, read_lines
from llm_relabel.records import Tokens

FLUSH_COUNT = 500
FLUSH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One stored answer: the accepted JSON text and what it once took."""

    text: str
    tokens: Tokens
    cost: float | None


class VerdictCache:
    """Answers by request key (a SHA-256 in hex)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "verdicts"
        self._store = open_store(self.folder)
        self._new: dict[str, bytes] = {}
        self._log: Journal | None = None
        self._lock: FileLock | None = None
        self._flushed = time.monotonic()
        self._take_in_leftovers()

    def get(self, key: str) -> CachedAnswer | None:
        """The stored answer, or None; a value that cannot be read counts as absent."""
        try:
            data = self._new.get(key) or self._store.get(key)
            if data is None:
                return None
            raw = json.loads(data)
            return CachedAnswer(raw["text"], Tokens(**raw["tokens"]), raw["cost"])
        except (ValueError, KeyError, TypeError, RecursionError, RunError):
            return None

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Store an accepted answer. It survives a kill of this process once this returns."""
        tokens = answer.tokens
        record = {
            "text": answer.text,
            "tokens": {"input": tokens.input, "output": tokens.output, "cached": tokens.cached,
                       "written": tokens.written},
            "cost": answer.cost,
        }  # fmt: skip
        if self._log is None:
            self._log, self._lock = self._own_log()
        value = json.dumps(record)
        self._log.append_json(f'{{"key":"{key}","value":{value}}}')
        self._new[key] = value.encode()
        if len(self._new) >= FLUSH_COUNT or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Move what was put into the store, in one transaction."""
        if self._new:
            self._store_all(self._new)
            self._new = {}
        if self._log is not None:
            self._log.empty()
        self._flushed = time.monotonic()

    def __len__(self) -> int:
        self.flush()
        return len(self._store)

    def volume(self) -> int:
        """Bytes on disk."""
        self.flush()
        return int(self._store.volume())

    def clear(self) -> int:
        """Forget everything; the number of answers forgotten."""
        self.flush()
        return int(self._store.clear())

    def close(self) -> None:
        """Store what is left and close the files."""
        self.flush()
        if self._log is not None and self._lock is not None:
            self._log.close()
            self._log.path.unlink(missing_ok=True)
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._log = self._lock = None
        self._store.close()

    def _store_all(self, values: dict[str, bytes]) -> None:
        with self._store.transact(retry=True):
            for key, value in values.items():
                self._store.set(key, value, retry=True)

    def _own_log(self) -> tuple[Journal, FileLock]:
        # The lock comes first: an unlocked log is one that a dead process left.
        path = self.folder / f"new-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        lock = FileLock(path.with_suffix(".lock"), timeout=0)
        lock.acquire()
        return Journal(path), lock

    def _take_in_leftovers(self) -> None:
        for path in sorted(self.folder.glob("new-*.jsonl")):
            lock = FileLock(path.with_suffix(".lock"), timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue  # its process lives
            try:
                found = {
                    line["key"]: json.dumps(line["value"], ensure_ascii=True).encode()
                    for line in read_lines(path)
                }
                self._store_all(found)
                path.unlink(missing_ok=True)
            finally:
                lock.release()
                path.with_suffix(".lock").unlink(missing_ok=True)
