"""`recorded/FILE`: verdicts that somebody else already collected, joined by id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_relabel.data import rows_of_file
from llm_relabel.errors import DataError
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.tasks import InvalidAnswer, NeedsItem, Task, from_name
from llm_relabel.units import label_json


class RecordedJudge:
    """Gives the recorded label of an item; an item without one abstains as `not_recorded`.

    A recorded answer that is no defined label fails as `invalid`; it is never repaired.
    """

    is_llm = None  # nobody knows here who wrote the file
    concurrency = 1
    repeatable = True

    def __init__(self, name: str, path: Path, task: Task) -> None:
        """Read the whole file. Raises DataError with all its problems."""
        self.name = name
        self._task = task
        self._answers = _read(path)
        labels = [label for label, _, _ in self._answers.values() if label is not None]
        if labels and not any(self._defined(label) for label in labels):
            raise DataError(
                f"recorded answers {str(path)!r}: none of the {len(labels):,} labels is defined; "
                f"found {labels[0]!r}, defined are {', '.join(task.names[:10])}"
            )

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Nothing to prepare."""

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """The recorded verdict of the ask's item."""
        recorded = self._answers.get(item.id)
        if recorded is None or recorded[0] is None:
            return Verdict(ask.ask_id, ask.id, "abstain", reason="not_recorded")
        label, confidence, rationale = recorded
        try:
            value = self._task.settled(from_name(self._task, label, item), ask.candidates)
        except InvalidAnswer as error:
            return Verdict(
                ask.ask_id, ask.id, "failed", confidence=confidence, rationale=rationale,
                reason="invalid", error=str(error),
            )  # fmt: skip
        return Verdict(
            ask.ask_id, ask.id, "answer", label_json(value), confidence=confidence,
            rationale=rationale,
        )  # fmt: skip

    def stop(self, reason: str) -> None:
        """Nothing waits."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _defined(self, label: Any) -> bool:
        try:
            from_name(self._task, label)
        except NeedsItem:
            return True
        except InvalidAnswer:
            return False
        return True


def _read(path: Path) -> dict[str, tuple[Any, float | None, str]]:
    answers: dict[str, tuple[Any, float | None, str]] = {}
    problems: dict[str, list[str]] = {}

    def problem(kind: str, where: str) -> None:
        problems.setdefault(kind, []).append(where)

    for number, row in enumerate(rows_of_file(path, "recorded answers"), start=1):
        where = f"row {number}"
        if not isinstance(row, dict) or row.get("id") in (None, "") or "label" not in row:
            problem("rows without `id` and `label`", where)
            continue
        key = str(row["id"])
        if key in answers:
            problem("ids that occur twice", f"{where} ({key!r})")
            continue
        confidence = row.get("confidence")
        if confidence in (None, ""):
            belief = None
        else:
            try:
                belief = float(confidence)
            except (TypeError, ValueError):
                belief = -1.0
            if not 0 <= belief <= 1:
                problem("confidences outside 0..1", f"{where} ({confidence!r})")
                continue
        label = row["label"]
        answers[key] = (None if label == "" else label, belief, str(row.get("rationale") or ""))
    if not answers and not problems:
        problem("no rows", "the file is empty")
    if problems:
        told = [
            f"{len(places):,} {kind}: {', '.join(places[:5])}" for kind, places in problems.items()
        ]
        raise DataError(f"recorded answers {str(path)!r}: " + "; ".join(told))
    return answers
