"""A span of a text: what labels of tagging are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` of a text, which are `text`, and their type."""

    start: int
    end: int
    type: str
    text: str

    @property
    def key(self) -> str:
        """The unit of this place; the same whoever names it, whatever the type."""
        return f"{self.start}-{self.end} {self.text}"


def place_of(key: str) -> tuple[int, int]:
    """Start and end of a unit's key."""
    start, _, end = key.partition(" ")[0].partition("-")
    return int(start), int(end)


def span_of(key: str, kind: str) -> Span:
    """The span of a unit's key and a type."""
    return Span(*place_of(key), kind, key.partition(" ")[2])
