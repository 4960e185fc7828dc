"""The folder of spot-checks: what was drawn (`sample.jsonl`), what was said (`answers.jsonl`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llm_relabel.people.folder import PeopleFolder
from llm_relabel.run_folder.folder import RunFolder

Purpose = Literal["sample", "attention"]


@dataclass(frozen=True, slots=True)
class DrawnItem:
    """One item that people are asked about, blind.

    `inclusion_probability` is the chance, before anything was drawn, that the item would be in
    the sample by now; None for "attention" items, which were chosen and not drawn.
    """

    id: str
    unit: str
    stratum: str | None
    inclusion_probability: float | None
    purpose: Purpose
    round: int

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> DrawnItem:
        """What a line of the sample says."""
        return cls(**{name: line[name] for name in cls.__slots__})

    def line(self) -> dict[str, Any]:
        """The line of the sample, without its time."""
        return {name: getattr(self, name) for name in self.__slots__}

    def how(self) -> dict[str, Any]:
        """What the line of an answer says of how the item was drawn."""
        return {
            "blind": True,
            "stratum": self.stratum,
            "inclusion_probability": self.inclusion_probability,
            "round": self.round,
        }


class ReviewFolder(PeopleFolder[DrawnItem]):
    """The folder `review` of one run."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.path / "review", "sample.jsonl", DrawnItem)
