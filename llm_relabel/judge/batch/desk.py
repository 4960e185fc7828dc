"""The work at a batch API: submit, poll, collect, until every question has its end."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from llm_relabel.errors import AccessDenied, Paused, ProviderError, TransientError
from llm_relabel.judge.batch.api import BatchApi, BatchState
from llm_relabel.judge.batch.flights import Flight, Settling, restored
from llm_relabel.judge.batch.log import BatchLog, listed, row_of
from llm_relabel.judge.batch.rows import BREATHE_EVERY, ItemOf, Row, fitting, pack
from llm_relabel.judge.batch.search import Search, give_up_advice
from llm_relabel.judge.batch.waits import Backoff, Halt, Outage
from llm_relabel.judge.llm import LLMJudge
from llm_relabel.records import Verdict

# Looks at a batch that cannot be read, or holds less than it should, before a person is asked.
MISSES = 5

log = logging.getLogger(__name__)


class Desk:
    """The work of one call of `verdicts`: submit, poll, collect, until every row has an end."""

    def __init__(
        self, llm: LLMJudge, api: BatchApi, journal: BatchLog, halt: Halt, item_of: ItemOf
    ) -> None:
        self._llm = llm
        self._name = llm.name
        self._api = api
        self._log = journal
        self._halt = halt
        self._budget = llm.budget
        self._item_of = item_of
        self._pending: deque[Row] = deque()
        self._settling = Settling(llm, journal, item_of, self._pending)
        self._flights: list[Flight] = []
        self._most = api.most_requests
        self._crowded = False
        self._polls, self._unread = Backoff(), Outage()
        self._wish = 0.0
        self._submissions, self._untaken = Backoff(), Outage()
        self._submit_at = 0.0

    def restore(self, rows: dict[str, Row]) -> None:
        """Take these questions, and what earlier processes left of them."""
        self._flights, pending = restored(self._log, rows, self._budget)
        self._pending.extend(pending)
        for flight in self._flights:
            if flight.submission.batch_id is None:
                flight.search = Search(self._api, self._log, flight.submission)

    async def work(self) -> AsyncGenerator[Verdict, None]:
        """All verdicts. Raises Paused after those that can come now."""
        while self._pending or self._flights:
            if self._halt.reason is not None:
                raise self._pause(self._halt.reason)
            await self._submit_all()
            if not self._pending and all(flight.stuck for flight in self._flights):
                raise self._pause(self._stuck())
            before = list(self._flights)
            for flight in before:
                if self._halt.reason or flight.stuck or not await self._has_ended(flight):
                    continue
                async with aclosing(self._collect(flight)) as verdicts:
                    async for verdict in verdicts:
                        yield verdict
            if self._flights != before:
                self._polls.reset()
            elif self._pending or self._flights:
                await self._halt.sleep(self._seconds())

    # Submitting

    async def _submit_all(self) -> None:
        while self._pending and not self._crowded and time.monotonic() >= self._submit_at:
            if self._halt.reason is not None or not await self._submit():
                return

    async def _submit(self) -> bool:
        """Submit one batch; whether another one may follow at once."""
        try:
            newest = await self._newest()
        except ProviderError as error:
            self._later(error)
            return False
        with tempfile.TemporaryFile() as lines:
            packed = await pack(
                lines, self._pending, self._most, self._api, self._llm, self._item_of
            )
            count = fitting(packed.worst, self._budget.room)
            if count == 0:
                return await self._has_room(packed.worst[0])
            packed.cut(count)
            rows = [self._pending.popleft() for _ in range(count)]
            facts = [(r.key, r.attempts, w) for r, w in zip(rows, packed.worst, strict=True)]
            # The promises follow the intent, or a kill in between would lose them.
            submission = self._log.intend(packed.mark, facts, newest)
            for worst in packed.worst:
                self._budget.promise(worst)
            flight = Flight(submission, dict(enumerate(rows)))
            self._flights.append(flight)
            try:
                state = await self._api.submit(lines, packed.mark)
            except ProviderError as error:
                if error.may_be_billed:
                    log.warning("%s; looking for the batch at the provider", error)
                    flight.search = Search(self._api, self._log, submission)
                    return True
                self._void(flight, "not_created", str(error))
                self._later(error)
                return False
        self._log.submitted(submission, state.batch_id)
        log.info("%s: batch %s, %d requests", self._name, state.batch_id, count)
        self._submissions.reset()
        self._untaken.over()
        return True

    async def _newest(self) -> float:
        """When the account's newest batch was created, on the provider's clock."""
        async with aclosing(self._api.recent()) as batches:
            async for batch in batches:
                return batch.created
        return 0.0

    async def _has_room(self, worst: float) -> bool:
        """Whether the next row fits now that others have settled. Raises Paused at the cap."""
        if any(not flight.stuck for flight in self._flights):
            return False
        if self._flights:
            raise self._pause(self._stuck())
        if await self._halt.unless(self._budget.reserve(worst)):
            self._budget.settle(worst, 0.0)
        return True

    def _later(self, error: ProviderError) -> None:
        """Submit again after a while. Raises Paused when that would not help."""
        if isinstance(error, AccessDenied):
            raise self._pause(f"{self._name} refuses the key or account: {error}")
        if not isinstance(error, TransientError):
            raise self._pause(f"{self._name} takes no batch: {error}")
        log.warning("%s: no batch can be submitted now: %s", self._name, error)
        self._back_off(error.retry_after or 0.0)
        if self._untaken.lasts() and all(flight.stuck for flight in self._flights):
            raise self._pause(f"{self._name} has not taken a batch for an hour: {error}")

    def _back_off(self, wish: float = 0.0) -> None:
        self._submit_at = time.monotonic() + self._submissions.next(wish)

    def _void(self, flight: Flight, event: str, why: str) -> None:
        """Nothing comes of a batch, and nothing is paid: its rows are the next to be submitted."""
        self._log.void(flight.submission, event, why)
        for number in flight.rows:
            self._budget.settle(flight.worst(number), 0.0)
        self._pending.extendleft(reversed(flight.rows.values()))
        self._leave(flight)

    def _leave(self, flight: Flight) -> None:
        self._flights.remove(flight)
        self._crowded = False

    # Polling

    async def _has_ended(self, flight: Flight) -> bool:
        """Look at one batch at the provider; whether its results can be read."""
        try:
            if flight.search is not None and not await self._is_found(flight, flight.search):
                return False
            batch_id = flight.submission.batch_id
            assert batch_id is not None
            flight.state = await self._api.state(batch_id)
        except ProviderError as error:
            self._not_read(flight, error)
            return False
        self._unread.over()
        return flight.state.ended

    async def _is_found(self, flight: Flight, search: Search) -> bool:
        found = await search.look()
        if found.batch is not None:
            self._log.submitted(flight.submission, found.batch.batch_id)
            flight.search = None
            return True
        if found.absent:
            why = "the provider's listing does not have it"
            self._void(flight, "not_created", why)
            self._later(TransientError(f"{self._name} did not create a batch: {why}"))
        elif found.stuck is not None:
            self._get_stuck(flight, found.stuck)
        return False

    def _not_read(self, flight: Flight, error: ProviderError) -> None:
        """A batch, or its results, could not be read. Raises Paused where waiting has no use."""
        if isinstance(error, TransientError):
            log.warning("%s; trying again", error)
            self._wish = max(self._wish, error.retry_after or 0.0)
            if self._unread.lasts():
                raise self._pause(f"{self._name} has not answered for an hour: {error}")
        elif isinstance(error, AccessDenied):
            raise self._pause(f"{self._name} refuses the key or account: {error}")
        elif flight.known:
            # Its answers were told once and are gone; whoever wants them now asks anew.
            self._pending.extend(flight.rows.values())
            self._leave(flight)
        else:
            self._miss(flight, f"cannot be read: {error}")

    def _miss(self, flight: Flight, why: str) -> None:
        """What cannot be may be so for a moment; a batch is given up by a person only."""
        said = f"{self._name}: batch {flight.submission.batch_id} {why}"
        log.warning(said)
        flight.misses += 1
        if flight.misses >= MISSES:
            advice = give_up_advice(self._log, flight.submission)
            self._get_stuck(flight, f"{said}. Look at it in the provider's console. {advice}")

    def _get_stuck(self, flight: Flight, why: str) -> None:
        flight.stuck = why
        self._crowded = False

    # Collecting

    async def _collect(self, flight: Flight) -> AsyncGenerator[Verdict, None]:
        """The verdicts of an ended batch; what came to none is pending again."""
        state, submission = flight.state, flight.submission
        assert state is not None
        if state.problem is not None:
            self._came_to_nothing(flight, state)
            return
        denied: AccessDenied | None = None
        lines = 0
        try:
            async with aclosing(self._api.results(state.batch_id)) as results:
                async for name, result in results:
                    lines += 1
                    number = row_of(submission.mark, name)
                    if number is None or number not in flight.rows:
                        continue
                    if isinstance(result, AccessDenied):
                        denied = result
                    for verdict in self._settling.take(flight, number, result):
                        yield verdict
                    if lines % BREATHE_EVERY == 0:
                        await asyncio.sleep(0)
        except ProviderError as error:
            self._not_read(flight, error)
            return
        if flight.rows and lines < state.done:
            # Asked again, they would be paid again; so the results are read again.
            self._miss(flight, f"has {state.done} answers and its results {lines} lines")
            return
        for number in list(flight.rows):
            missing = TransientError(f"{self._name}: the batch ended without an answer")
            for verdict in self._settling.take(flight, number, missing):
                yield verdict
        if not flight.known:
            self._log.collected(submission)
        self._leave(flight)
        if denied is not None:
            raise self._pause(f"{self._name} refuses the key or account: {denied}")

    def _came_to_nothing(self, flight: Flight, state: BatchState) -> None:
        """The provider took none of a batch's rows. Raises Paused unless waiting helps."""
        size = len(flight.rows)
        self._void(flight, "failed", state.problem or "")
        if not state.crowded:
            raise self._pause(
                f"{self._name}: the provider made nothing of batch {state.batch_id}: "
                f"{state.problem}; nothing of it was paid"
            )
        log.warning("%s: batch %s: %s", self._name, state.batch_id, state.problem)
        self._crowded = any(not other.stuck for other in self._flights)
        if not self._crowded:  # there is nobody to wait for but others of the account
            self._most = max(1, min(self._most, size) // 2)
            self._back_off()

    # Waiting and stopping

    def _seconds(self) -> float:
        """Until there is something to do."""
        seconds, self._wish = self._polls.next(self._wish), 0.0
        if self._pending and not self._crowded and (left := self._submit_at - time.monotonic()) > 0:
            seconds = min(seconds, left)
        for flight in self._flights:
            if flight.search is not None and (left := flight.search.seconds_left) > 0:
                seconds = min(seconds, left)
        return seconds

    def _stuck(self) -> str:
        return "; ".join(flight.stuck for flight in self._flights if flight.stuck)

    def _pause(self, reason: str) -> Paused:
        """Says why the work stops, and what goes on without us."""
        going = [f.submission.batch_id for f in self._flights if not (f.stuck or f.known)]
        if not any(going):
            return Paused(reason)
        hint = (
            f"batches at the provider go on ({listed(going)}): the same command collects them, "
            f"`llm-relabel cancel {self._log.path.parent}` cancels them"
        )
        log.warning("%s: %s", self._name, hint)
        return Paused(f"{reason}; {hint}")
