"""The questions of the judge `people`, queued until a person answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_relabel.people.folder import PeopleFolder, standing


@dataclass(frozen=True, slots=True)
class QueuedAsk:
    """One item that waits for people. `candidates` are labels as JSON, in the order shown; none
    where the evidence is blind."""

    id: str
    unit: str
    candidates: tuple[Any, ...]
    round: int

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> QueuedAsk:
        """What a line of the queue says."""
        return cls(line["id"], line["unit"], tuple(line["candidates"]), line["round"])

    def line(self) -> dict[str, Any]:
        """The line of the queue, without its time."""
        return {
            "id": self.id, "unit": self.unit, "round": self.round,
            "candidates": list(self.candidates),
        }  # fmt: skip

    def how(self) -> dict[str, Any]:
        """What the line of an answer says of the question: it is a judge's, so never blind."""
        return {"blind": False, "candidates": list(self.candidates), "round": self.round}


class QuestionFolder(PeopleFolder[QueuedAsk]):
    """The folder `people` of one run: the queue of the judge `people`."""

    def __init__(self, run: Path) -> None:
        super().__init__(run / "people", "questions.jsonl", QueuedAsk)

    def waiting(self) -> int:
        """How many questions nobody has answered."""
        return len(self.asked().keys() - {item_id for item_id, _ in standing(self.lines())})
