"""`batches.jsonl` of a run: what was about to be submitted, what was, and what came of it.

A kill may fall between any two steps, so each line is on the disk before the next step. One
batch has one `mark`; its lines, in order:

    intent         about to be submitted: its rows as [question key, attempt, worst dollars]
    submitted      it exists at the provider as `batch_id`
    not_created    the provider refused it, or has no such batch: its rows may be asked afresh
    failed         the provider made nothing of it, and bills nothing: likewise
    abandoned      written by a person who gave it up: likewise
    again          one row came back without a verdict and needs another attempt
    closed         one row's verdict is a failure; asked again, it starts from the beginning
    cancelled      `llm-relabel cancel` stopped it; what was done by then is still collected
    collected      every row of it is settled
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from llm_relabel.files.journal import Journal, read_lines
from llm_relabel.judge.chat import Completion
from llm_relabel.records import Tokens

FILE = "batches.jsonl"
VOID = ("not_created", "failed", "abandoned")

Known = TypeVar("Known")


@dataclass(frozen=True, slots=True)
class Again:
    """A row's attempt that came to no verdict: an unusable answer, or an error.

    `counts` is False where the attempt was not the row's own fault, as in a cancelled batch.
    """

    answer: Completion | None
    error: str | None
    cost: float
    counts: bool = True


@dataclass(slots=True)
class Submission:
    """One batch as the journal tells it.

    `at` is our clock. `since` is the provider's: when the account's newest batch before this one
    was created, so that a lost submission cannot be older, however wrong our clock is. `rows`
    holds only rows that the reader asked for, by number; `total` counts all.
    """

    mark: str
    judge: str
    at: float
    since: float
    total: int
    rows: dict[int, tuple[str, float]] = field(default_factory=dict)
    batch_id: str | None = None
    void: bool = False
    collected: bool = False
    cancelled: bool = False
    again: dict[int, Again] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)

    @property
    def open(self) -> bool:
        """Whether the provider may still hold something of it for us."""
        return not (self.void or self.collected)


class BatchLog:
    """The batch journal of a run folder; one judge's view of it."""

    def __init__(self, folder: Path, judge: str) -> None:
        self.path = folder / FILE
        self._judge = judge
        self._journal: Journal | None = None
        self.claimed: set[str] = set()
        """The ids of all batches that the run knows to be its own."""

    def read(self, wanted: Mapping[str, object]) -> list[Submission]:
        """This judge's batches in order, with those of their rows whose key is wanted."""
        found: dict[str, Submission] = {}
        names = {key: key for key in wanted}  # one string a key, not one a line
        for line in read_lines(self.path):
            event, mark = line["event"], line["mark"]
            if event == "submitted":
                self.claimed.add(line["batch_id"])
            if event == "intent" and line["judge"] == self._judge:
                rows = enumerate(line["rows"])
                found[mark] = Submission(
                    mark, self._judge, line["at"], line["since"], len(line["rows"]),
                    {n: (names[key], worst) for n, (key, _, worst) in rows if key in names},
                )  # fmt: skip
            elif (submission := found.get(mark)) is not None:
                _apply(submission, event, line)
        return list(found.values())

    def intend(self, mark: str, rows: Sequence[tuple[str, int, float]], since: float) -> Submission:
        """Put down what will be submitted next: keys, attempts and worst cases in dollars."""
        at = time.time()
        self._write("intent", mark, sync=True, judge=self._judge, since=since, rows=rows)
        kept = {number: (key, worst) for number, (key, _, worst) in enumerate(rows)}
        return Submission(mark, self._judge, at, since, len(rows), kept)

    def submitted(self, submission: Submission, batch_id: str) -> None:
        """The batch exists."""
        self._write("submitted", submission.mark, sync=True, batch_id=batch_id)
        self.claimed.add(batch_id)
        submission.batch_id = batch_id

    def void(self, submission: Submission, event: str, why: str) -> None:
        """Nothing comes of the batch: `event` is `not_created` or `failed`."""
        self._write(event, submission.mark, sync=True, why=why)
        submission.void = True

    def again(self, submission: Submission, row: int, fact: Again) -> None:
        """One row needs another attempt.

        Not synced on its own: after a power cut the batch's results are simply read again.
        """
        answer = fact.answer
        self._write(
            "again", submission.mark, row=row, error=fact.error, cost=fact.cost,
            counts=fact.counts, text=answer.text if answer else None,
            stop=answer.stop if answer else None,
            tokens=asdict(answer.tokens) if answer else None,
        )  # fmt: skip

    def closed(self, submission: Submission, row: int) -> None:
        """One row's failure was told."""
        self._write("closed", submission.mark, row=row)

    def cancelled(self, submission: Submission) -> None:
        """The provider was asked to stop the batch."""
        self._write("cancelled", submission.mark, sync=True, batch_id=submission.batch_id)
        submission.cancelled = True

    def collected(self, submission: Submission) -> None:
        """Every row of the batch is settled."""
        self._write("collected", submission.mark, sync=True)
        submission.collected = True

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _write(self, event: str, mark: str, *, sync: bool = False, **facts: Any) -> None:
        if self._journal is None:
            self._journal = Journal(self.path)
        self._journal.append({"event": event, "mark": mark, "at": time.time(), **facts})
        if sync:
            self._journal.sync()


def _apply(submission: Submission, event: str, line: Mapping[str, Any]) -> None:
    if event == "submitted":
        submission.batch_id = line["batch_id"]
    elif event in VOID:
        submission.void = True
    elif event == "cancelled":
        submission.cancelled = True
    elif event == "collected":
        submission.collected = True
    elif event == "closed":
        submission.closed.add(line["row"])
    elif event == "again" and line["row"] in submission.rows:
        answer = None
        if line["text"] is not None:
            answer = Completion(line["text"], Tokens(**line["tokens"]), line["stop"])
        submission.again[line["row"]] = Again(answer, line["error"], line["cost"], line["counts"])


def custom_id(mark: str, row: int) -> str:
    """What names a row at the provider: letters, digits, `_` and `-`, at most 64 (Anthropic's)."""
    return f"{mark}-{row}"


def row_of(mark: str, name: str) -> int | None:
    """The number of the row that a custom id names, None if it is not this batch's."""
    head, _, number = name.rpartition("-")
    return int(number) if head == mark and number.isdecimal() else None


def listed(ids: Iterable[str | None]) -> str:
    """A few batch ids for a message."""
    known = sorted(each for each in ids if each)
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
