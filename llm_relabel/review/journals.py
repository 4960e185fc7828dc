"""The two journals of a review: what was asked (`sample.jsonl`), what was said (`answers.jsonl`).

Both are append-only, and the latest line counts: of an item in the sample, of an item and a
reviewer in the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from filelock import FileLock, Timeout

from llm_relabel.errors import RunLocked
from llm_relabel.journal import Journal, read_lines
from llm_relabel.provenance import now
from llm_relabel.runs import RunFolder

Purpose = Literal["sample", "attention"]
LOCK_SECONDS = 30.0  # a writer holds the lock for milliseconds; longer means that it hangs


@dataclass(frozen=True, slots=True)
class Asked:
    """One item that people are asked about.

    `inclusion_probability` is the chance, before anything was drawn, that the item would be in
    the sample by now; None for "attention" items, which were chosen and not drawn.
    """

    id: str
    unit: str
    stratum: str | None
    inclusion_probability: float | None
    purpose: Purpose
    round: int


@dataclass(frozen=True, slots=True)
class Given:
    """What one reviewer says of one item: a label value as JSON, or that it cannot be told."""

    id: str
    reviewer: str
    answer: Any = None
    unsure: bool = False
    note: str = ""


class ReviewFolder:
    """The folder `review` of one run. Reading needs no lock; appending happens in `held()`.

    Its lock is not the run's: people review for hours, and the run may go on meanwhile.
    """

    def __init__(self, run: RunFolder) -> None:
        self.path = run.path / "review"
        self.sample_path = self.path / "sample.jsonl"
        self.answers_path = self.path / "answers.jsonl"
        self._lock = FileLock(self.path / ".lock", timeout=LOCK_SECONDS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process. Raises RunLocked when another one does for long."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunLocked(
                f"another process has been writing to {str(self.path)!r} for {LOCK_SECONDS:.0f} "
                "seconds; wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def asked(self) -> dict[str, Asked]:
        """Every item asked about, by id, in the order in which they were first drawn."""
        found: dict[str, Asked] = {}
        for line in read_lines(self.sample_path):
            found[line["id"]] = Asked(**{name: line[name] for name in Asked.__slots__})
        return found

    def lines(self) -> list[dict[str, Any]]:
        """All lines of `answers.jsonl`, in order."""
        return list(read_lines(self.answers_path))

    def append_asked(self, items: Iterable[Asked]) -> None:
        """Add items to the sample, on the disk when this returns."""
        at = now()
        lines = [{name: getattr(item, name) for name in Asked.__slots__} for item in items]
        with Journal(self.sample_path) as log:
            log.extend([{**line, "at": at} for line in lines])

    def append_answers(self, answers: Sequence[Given], asked: Mapping[str, Asked]) -> None:
        """Add answers to items of `asked`, all or none, on the disk when this returns."""
        at = now()
        with Journal(self.answers_path) as log:
            log.extend([_answer_line(given, asked[given.id], at) for given in answers])

    def append_undo(self, item: Asked, reviewer: str) -> None:
        """Take a reviewer's answer to an item back, on the disk when this returns."""
        line = {"id": item.id, "unit": item.unit, "reviewer": reviewer, "undo": True, "at": now()}
        with Journal(self.answers_path) as log:
            log.append(line)


def standing(lines: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(id, reviewer) -> the line that counts, in the order of answering; undone ones are gone."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for line in lines:
        place = line["id"], line["reviewer"]
        found.pop(place, None)
        if not line.get("undo"):
            found[place] = line
    return found


def _answer_line(given: Given, asked: Asked, at: str) -> dict[str, Any]:
    line: dict[str, Any] = {"id": given.id, "unit": asked.unit, "reviewer": given.reviewer}
    line |= {"unsure": True} if given.unsure else {"answer": given.answer}
    line |= {
        "blind": True,
        "stratum": asked.stratum,
        "inclusion_probability": asked.inclusion_probability,
        "round": asked.round,
        "at": at,
    }
    return line | ({"note": given.note} if given.note else {})
