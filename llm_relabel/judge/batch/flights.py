"""Batches that are, or may be, at the provider: taken up again, and settled row by row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from llm_relabel.errors import AccessDenied, ProviderError, TransientError
from llm_relabel.judge.batch.api import BatchState
from llm_relabel.judge.batch.log import Again, BatchLog, Submission
from llm_relabel.judge.batch.rows import ItemOf, Row
from llm_relabel.judge.batch.search import Search
from llm_relabel.judge.budget import Budget
from llm_relabel.judge.chat import Completion
from llm_relabel.judge.llm import LLMJudge, Settled
from llm_relabel.judge.metered import charged
from llm_relabel.records import Verdict

ATTEMPTS = 4  # of one row, where each came back expired or with an error


@dataclass(eq=False, slots=True)
class Flight:
    """A batch that is, or may be, at the provider. `rows` are those still without a result.

    `known`: an earlier process settled it, so what it holds is read as from a cache.
    `stuck` says why nothing more can be done about it without a person.
    """

    submission: Submission
    rows: dict[int, Row]
    known: bool = False
    search: Search | None = None
    state: BatchState | None = None
    stuck: str | None = None
    misses: int = 0

    def worst(self, number: int) -> float:
        """The promise for one row, in dollars."""
        return self.submission.rows[number][1]


def restored(log: BatchLog, rows: dict[str, Row], budget: Budget) -> tuple[list[Flight], list[Row]]:
    """What earlier processes left of these rows: those in batches, and those in none.

    The rows learn what came of their attempts so far, and the budget takes over the promises
    of batches that are still open.
    """
    places: dict[str, tuple[Submission, int]] = {}
    for submission in log.read(rows):
        for number, (key, _) in submission.rows.items():
            if number in submission.closed:
                rows[key].forget()
                places.pop(key, None)
            elif number in submission.again:
                rows[key].learn(submission.again[number])
                places.pop(key, None)
            elif not submission.void:
                places[key] = (submission, number)
    flights: dict[str, Flight] = {}
    for key, (submission, number) in places.items():
        flight = flights.setdefault(
            submission.mark, Flight(submission, {}, known=submission.collected)
        )
        flight.rows[number] = rows[key]
        if not flight.known:
            budget.adopt(flight.worst(number))
    return list(flights.values()), [row for key, row in rows.items() if key not in places]


class Settling:
    """Gives each row of an ended batch its end: verdicts, or another attempt."""

    def __init__(self, llm: LLMJudge, log: BatchLog, item_of: ItemOf, pending: deque[Row]) -> None:
        """`pending` takes the rows that need another attempt."""
        self._llm = llm
        self._log = log
        self._item_of = item_of
        self._pending = pending

    def take(
        self, flight: Flight, number: int, result: Completion | ProviderError
    ) -> Iterator[Verdict]:
        """The verdicts of one row, or none: then it is pending again."""
        row = flight.rows.pop(number)
        question = row.question(self._llm, self._item_of)
        settled: Settled | None
        if isinstance(result, Completion):
            cost = 0.0
            if not flight.known:
                cost = charged(result, self._llm.prices, flight.worst(number))
            row.answered(result, cost)
            settled = self._llm.accept(question, result)
            fact = Again(result, None, cost)
        else:
            cost = flight.worst(number) if result.may_be_billed and not flight.known else 0.0
            row.bill.cost += cost
            # Neither a refused key nor a cancelled batch says anything about the row.
            denied = isinstance(result, AccessDenied)
            fact = Again(None, str(result), cost, not (denied or flight.submission.cancelled))
            tries = row.errors + fact.counts
            lives = denied or (isinstance(result, TransientError) and tries < ATTEMPTS)
            settled = None if lives else self._llm.give_up(question, result)
        # Before the journal knows: after a kill in between, the result is simply read again.
        if not flight.known:
            self._llm.budget.settle(flight.worst(number), cost)
        if settled is None:
            row.retry(fact)
            self._log.again(flight.submission, number, fact)
            self._pending.append(row)
            return
        if flight.known:
            settled = replace(settled, cached=True)
        else:
            self._llm.budget.explain(row.earlier)
        for place, ask in enumerate(row.asks):
            yield self._llm.tell(ask, question, settled, shared=place > 0)
        if settled.outcome == "failed":
            # Only now: a kill before the caller has the verdict must not count as told.
            self._log.closed(flight.submission, number)
