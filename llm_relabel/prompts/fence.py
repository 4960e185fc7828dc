"""The delimiter around a dataset's text, which that text cannot contain."""

from __future__ import annotations

import hashlib
import re

_SURROGATES = re.compile(r"[\ud800-\udfff]")


_FENCE = re.compile(r"\s*<<<item-[0-9a-f]{16}>>>\s*")


def without_fences(text: str) -> str:
    """What a judge wrote, less the markers that it copied."""
    return _FENCE.sub(" ", text).strip() if "<<<item-" in text else text


def fence_for(text: str) -> str:
    """A marker line that `text` does not contain, derived from it.

    The same text always gets the same marker, so the prompt and its cache key are stable, and
    nobody who writes a text can foresee a marker that closes its own fence: any text that
    holds the marker gets another one.
    """
    counter = 0
    while True:
        digest = hashlib.sha256(f"{counter}:{text}".encode("utf-8", "surrogatepass")).hexdigest()
        fence = f"<<<item-{digest[:16]}>>>"
        if fence not in text:
            return fence
        counter += 1
