"""Looks at the same gold, counted beside it and for ever: each pays with a part of alpha.

Ten tunings on one gold, each tested at 5%, accept a useless one in a fifth of all cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_relabel.files.journal import Journal, read_lines
from llm_relabel.provenance import now


class Looks:
    """The looks at one gold file: `GOLD.looks.jsonl`, a line a look and one its outcome."""

    def __init__(self, gold: Path) -> None:
        self.path = gold.with_name(f"{gold.name}.looks.jsonl")

    def number(self, ids: Sequence[str], tested: str) -> int:
        """Which look at these items the test of `tested` is, from 1.

        Looks at none of these items do not count, and the same test is the same look.
        """
        mine, number = set(map(_short, ids)), 0
        for line in self._lines():
            if not mine & set(line["items"]):
                continue
            number += 1
            if line["tested"] == tested:
                return number
        return number + 1

    def begin(self, ids: Sequence[str], tested: str, alpha: float) -> int:
        """Put the look down, before anything is asked; its number."""
        number = self.number(ids, tested)
        if not any(line["tested"] == tested for line in self._lines()):
            with Journal(self.path) as journal:
                journal.append({
                    "at": now(), "tested": tested, "look": number, "alpha": alpha,
                    "items": sorted(map(_short, ids)),
                })  # fmt: skip
        return number

    def _lines(self) -> list[dict[str, Any]]:
        return list(read_lines(self.path)) if self.path.exists() else []


def _short(item_id: str) -> str:
    return hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
