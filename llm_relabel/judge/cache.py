"""The verdict cache: what a provider answered to one exact request, for every run and round.

Only usable answers come here; refusals, failures and invalid answers never do. Values are
JSON bytes, nothing is ever pickled or unpickled, and nothing is evicted.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache
import platformdirs

from llm_relabel.errors import RunError
from llm_relabel.records import Tokens

_NO_LIMIT = 1 << 62


def cache_folder() -> Path:
    """`LLM_RELABEL_CACHE`, or the platform's own folder for caches."""
    named = os.environ.get("LLM_RELABEL_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("llm_relabel"))


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One stored answer: the accepted JSON text and what it once took."""

    text: str
    tokens: Tokens
    cost: float | None


class _BytesOnly(diskcache.Disk):  # type: ignore[misc]
    """A diskcache disk that stores bytes under text keys and refuses everything pickled."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if not isinstance(value, bytes) or read:
            raise TypeError(f"only bytes are cached, not {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == diskcache.core.MODE_PICKLE:
            raise RunError("the cache holds a pickled value, which is never opened")
        return super().fetch(mode, filename, value, read)

    def put(self, key: Any) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"cache keys are text, not {type(key).__name__}")
        return super().put(key)


def open_store(folder: Path) -> Any:
    """A diskcache of bytes that evicts nothing, created when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return diskcache.Cache(
        str(folder),
        disk=_BytesOnly,
        disk_min_file_size=1 << 20,
        eviction_policy="none",
        size_limit=_NO_LIMIT,
        cull_limit=0,
        statistics=0,
    )


class VerdictCache:
    """Answers by request key (a SHA-256 in hex)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "verdicts"
        self._store = open_store(self.folder)

    def get(self, key: str) -> CachedAnswer | None:
        """The stored answer, or None; a value that cannot be read counts as absent."""
        data = self._store.get(key)
        if data is None:
            return None
        try:
            raw = json.loads(data)
            return CachedAnswer(raw["text"], Tokens(**raw["tokens"]), raw["cost"])
        except (ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Store an accepted answer."""
        tokens = answer.tokens
        record = {
            "text": answer.text,
            "tokens": {"input": tokens.input, "output": tokens.output, "cached": tokens.cached},
            "cost": answer.cost,
        }
        self._store.set(key, json.dumps(record, ensure_ascii=True).encode())

    def __len__(self) -> int:
        return len(self._store)

    def volume(self) -> int:
        """Bytes on disk."""
        return int(self._store.volume())

    def clear(self) -> int:
        """Forget everything; the number of answers forgotten."""
        return int(self._store.clear())

    def close(self) -> None:
        """Close the files."""
        self._store.close()
