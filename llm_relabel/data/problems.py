"""Collects everything that is wrong with one dataset, so that it is told in one message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llm_relabel.errors import DataError

SHOWN = 5


@dataclass
class _Found:
    count: int = 0
    first: list[str] = field(default_factory=list)
    detailed: bool = False

    def add(self, place: int, detail: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(f"{place} ({detail})" if detail else f"{place}")
            self.detailed |= bool(detail)


class Problems:
    """The problems of one dataset. `unit` is what a place counts: "row" or "line", from 1."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._rows: dict[tuple[str, str], _Found] = {}
        self._noted: dict[str, _Found] = {}
        self._whole: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._rows or self._whole)

    def row(self, message: str, place: int, *, about: str = "", detail: str = "") -> None:
        """Count `message` once more, at `place`; `about` names the column it belongs to."""
        self._rows.setdefault((about, message), _Found()).add(place, detail)

    def note(self, message: str, place: int, *, detail: str = "") -> None:
        """Count, likewise, what does not hinder the use of the dataset and should be known."""
        self._noted.setdefault(message, _Found()).add(place, detail)

    def notes(self) -> tuple[str, ...]:
        """Everything noted, each with its count and first places."""
        return tuple(self._told(message, found) for message, found in self._noted.items())

    def rows(self, message: str, places: Iterable[int], *, about: str = "") -> None:
        """The same for several places."""
        for place in places:
            self.row(message, place, about=about)

    def whole(self, message: str) -> None:
        """A problem of the dataset as a whole."""
        self._whole.append(message)

    def forget(self, about: str) -> None:
        """Drop what was counted about a column: it is missing, which says it all."""
        self._rows = {key: found for key, found in self._rows.items() if key[0] != about}

    def check(self, name: str) -> None:
        """Raise DataError with every problem, each with its count and first places, if any."""
        if not self:
            return
        told = list(self._whole)
        told += [self._told(message, found) for (_, message), found in self._rows.items()]
        if len(told) == 1:
            raise DataError(f"the dataset {name!r} cannot be used: {told[0]}")
        lines = "".join(f"\n  - {problem}" for problem in told)
        raise DataError(f"the dataset {name!r} cannot be used, {len(told)} problems:{lines}")

    def _told(self, message: str, found: _Found) -> str:
        plural = "" if found.count == 1 else "s"
        more = ", ..." if found.count > len(found.first) else ""
        places = ("; " if found.detailed else ", ").join(found.first)
        return (
            f"{found.count:,} {self.unit}{plural}: {message} ({self.unit}{plural} {places}{more})"
        )
