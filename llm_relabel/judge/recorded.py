"""`recorded/FILE`: verdicts that somebody else already collected, joined by id."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.errors import DataError
from llm_relabel.judge import RoundEvidence
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.tasks import InvalidAnswer, Task

_COLUMNS = ("id", "label", "confidence", "rationale")


class RecordedJudge:
    """Gives the recorded label of an item; an item without one abstains as `not_recorded`.

    A recorded answer that is no defined label fails as `invalid`; it is never repaired.
    """

    is_llm = None  # nobody knows here who wrote the file
    settled = True

    def __init__(self, name: str, path: Path, task: Task) -> None:
        """Read the whole file. Raises DataError with all its problems."""
        self.name = name
        self._task = task
        self._answers = _read(path)
        labels = [label for label, _, _ in self._answers.values() if label is not None]
        if labels and not any(self._defined(label) for label in labels):
            raise DataError(
                f"recorded answers {str(path)!r}: none of the {len(labels):,} labels is defined; "
                f"found {labels[0]!r}, defined are {', '.join(task.class_names[:10])}"
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
            value = self._task.check_label(label)
        except InvalidAnswer as error:
            return Verdict(
                ask.ask_id, ask.id, "failed", confidence=confidence, rationale=rationale,
                reason="invalid", error=str(error),
            )  # fmt: skip
        answer = list(value) if isinstance(value, tuple) else value
        return Verdict(
            ask.ask_id, ask.id, "answer", answer, confidence=confidence, rationale=rationale
        )

    async def aclose(self) -> None:
        """Nothing is open."""

    def _defined(self, label: Any) -> bool:
        try:
            self._task.check_label(label)
        except InvalidAnswer:
            return False
        return True


def _read(path: Path) -> dict[str, tuple[Any, float | None, str]]:
    answers: dict[str, tuple[Any, float | None, str]] = {}
    problems: dict[str, list[str]] = {}

    def problem(kind: str, where: str) -> None:
        problems.setdefault(kind, []).append(where)

    for number, row in enumerate(_rows(path), start=1):
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
        answers[key] = (
            None if label == "" else label if isinstance(label, list | None) else str(label),
            belief,
            str(row.get("rationale") or ""),
        )
    if not answers and not problems:
        problem("no rows", "the file is empty")
    if problems:
        told = [
            f"{len(places):,} {kind}: {', '.join(places[:5])}" for kind, places in problems.items()
        ]
        raise DataError(f"recorded answers {str(path)!r}: " + "; ".join(told))
    return answers


def _rows(path: Path) -> Iterator[Any]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            names = pq.read_schema(path).names
            table = pq.read_table(path, columns=[name for name in _COLUMNS if name in names])
            yield from table.to_pylist()
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in (".csv", ".tsv"):
                yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            elif path.suffix == ".json":
                yield from json.load(file)
            elif path.suffix == ".jsonl":
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        try:
                            yield json.loads(line)
                        except ValueError as error:
                            raise DataError(
                                f"recorded answers {str(path)!r} line {number}: {error}"
                            ) from None
            else:
                raise DataError(
                    f"recorded answers {str(path)!r}: the name must end in .jsonl, .json, .csv, "
                    ".tsv or .parquet"
                )
    except FileNotFoundError:
        raise DataError(
            f"recorded answers {str(path)!r} do not exist; judge.model is `recorded/FILE` with the "
            "file named from the job's folder"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"recorded answers {str(path)!r} cannot be read: {error}") from error
