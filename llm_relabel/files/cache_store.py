"""The store on disk behind every cache: bytes under text keys, never pickled, never evicted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import diskcache
import platformdirs

from llm_relabel.errors import RunError

_NO_LIMIT = 1 << 62


def cache_folder() -> Path:
    """`LLM_RELABEL_CACHE`, or the platform's own folder for caches."""
    named = os.environ.get("LLM_RELABEL_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("llm_relabel"))


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
