"""The verdict cache: what a provider answered to one exact request, for every run and round.

Only usable answers come here; refusals, failures and invalid answers never do. Values are
JSON bytes, nothing is ever pickled or unpickled, and nothing is evicted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llm_relabel.records import Tokens
from llm_relabel.store import open_store


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
