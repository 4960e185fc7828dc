"""How fast calls may leave: rates, a concurrency that adapts, and pauses that end gently.

Rates come from the job, and from the provider's own rate-limit headers where it sends them.
They are token buckets (https://en.wikipedia.org/wiki/Token_bucket). The number of calls in
flight shrinks by a factor when the provider says "too many" and grows back step by step, as
TCP's does (additive increase, multiplicative decrease: Chiu and Jain, 1989); where it says neither
its limits nor when to come back, the rate is learned likewise (`pace.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import Paused, ProviderError, RateLimited
from llm_relabel.judge.chat import Completion
from llm_relabel.judge.pace import Pace
from llm_relabel.judge.providers.rate_headers import read_rates

SHRINK = 0.7  # of the calls in flight that remain after the provider said "too many"
SHRINK_EVERY = 1.0  # seconds; one overload is many 429s, and counts once
GROWTH = 0.05  # of the full concurrency, regained in the time of one call
LONGEST_PAUSE = 120.0  # seconds that a provider's Retry-After is believed
LEARN_EVERY = 16  # calls between looks at the headers
FIRST_TOKENS_PER_BYTE = 0.3
PACE = "pace"  # the bucket of the learned rate
MEMORY = 0.05  # weight of the newest call in running means


@dataclass(slots=True)
class Bucket:
    """A token bucket: `level` of `capacity`, refilled at `rate` a second. In debt when negative."""

    rate: float
    capacity: float
    level: float
    at: float

    def take(self, amount: float, now: float) -> float:
        """Book `amount`; the seconds until it is covered."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate) - amount
        self.at = now
        return -self.level / self.rate if self.level < 0 else 0.0

    def put_back(self, amount: float) -> None:
        """Undo a booking, or a part of it (or, below zero, book more)."""
        self.level = min(self.capacity, self.level + amount)


@dataclass(slots=True)
class Pass:
    """Leave to make one call: what was booked for it, and when it left."""

    input: float
    output: float
    size: int
    left: float


class Limits:
    """The gate in front of one endpoint. Every call passes `enter` and then `leave`."""

    def __init__(
        self,
        member: JudgeMember,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.allowed = float(member.concurrency)
        self._most = float(member.concurrency)
        self._clock = clock
        self._sleep = sleep
        now = clock()
        told = {
            "requests": member.requests_per_minute,
            "tokens": member.tokens_per_minute,
            "input": member.input_tokens_per_minute,
            "output": member.output_tokens_per_minute,
        }
        # One second's worth may leave at once, so that a slow start wastes nothing.
        self._buckets = {
            kind: Bucket(rate / 60, max(1.0, rate / 60), max(1.0, rate / 60), now)
            for kind, rate in told.items()
            if rate is not None
        }
        self._told = frozenset(self._buckets)
        self._active = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self._ramp_until = 0.0
        self._next_in_ramp = 0.0
        self._shrunk_at = float("-inf")
        self._seconds = 1.0
        self._tokens_per_byte = FIRST_TOKENS_PER_BYTE
        self._output = min(100.0, member.max_output_tokens)
        self._calls = 0
        self._stopped: str | None = None
        self._pace = Pace(now)
        self.answered = 0

    def stop(self, reason: str) -> None:
        """Let nobody in any more: whoever waits, and whoever comes, gets Paused."""
        self._stopped = reason
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(None)

    async def enter(self, size: int) -> Pass:
        """Return when a call of `size` bytes may be sent. Raises Paused once stopped."""
        while self._active >= int(self.allowed) and self._stopped is None:
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            await turn
        if self._stopped is not None:
            raise Paused(self._stopped)
        self._active += 1
        booked = Pass(size * self._tokens_per_byte, self._output, size, 0.0)
        try:
            if self._buckets or self._paused_until or self._ramp_until:
                await self._wait(booked)
        except BaseException:
            self._give_back(1.0, booked.input, booked.output)
            self._free()
            raise
        booked.left = self._clock()
        return booked

    def leave(self, call: Pass, ended: Completion | ProviderError | None) -> None:
        """The call is over. None: it was cancelled."""
        try:
            if isinstance(ended, Completion):
                self.answered += 1
                self._pace.answered(self._clock())
                self._keep_pace()
                self._learn_from(call, ended)
                self.allowed = min(self._most, self.allowed + GROWTH * self._most / self.allowed)
            elif isinstance(ended, RateLimited):
                self._slow_down(ended.retry_after)
                self.learn(ended.headers)
                if not ended.retry_after and "requests" not in self._buckets:
                    self._pace.refused(self._clock())
                    self._keep_pace()
        finally:
            self._free()  # whatever an answer's figures do: a lost place is lost for the whole run

    def _keep_pace(self) -> None:
        if self._pace.rate is None:
            return
        bucket = self._buckets.get(PACE)
        if bucket is None:
            self._buckets[PACE] = Bucket(self._pace.rate, 1.0, 0.0, self._clock())
        else:
            bucket.take(0.0, self._clock())  # what came so far came at the rate of then
            bucket.rate = self._pace.rate

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take the provider's own account of its limits, where the job names none."""
        for kind, found in read_rates(headers).items():
            if kind in self._told:
                continue
            now = self._clock()
            known = self._buckets.get(kind)
            if known is None:
                if found.rate is None:
                    continue
                known = self._buckets[kind] = Bucket(found.rate, found.limit, found.remaining, now)
            known.capacity = found.limit
            known.rate = found.rate or known.rate
            # What has left since the provider counted is not in its answer.
            known.take(0.0, now)
            known.level = min(known.level, found.remaining)

    async def _wait(self, booked: Pass) -> None:
        """Sleep until every rate covers the call and no pause is on."""
        amounts = {
            "requests": 1.0,
            PACE: 1.0,
            "tokens": booked.input + booked.output,
            "input": booked.input,
            "output": booked.output,
        }
        now = self._clock()
        wait = max((b.take(amounts[kind], now) for kind, b in self._buckets.items()), default=0.0)
        while True:
            now = self._clock()
            wait = max(wait, self._paused_until - now)
            if wait <= 0 and now < self._ramp_until:
                # After a pause calls leave one by one, as far apart as they would come home.
                wait = max(0.0, self._next_in_ramp - now)
                self._next_in_ramp = max(self._next_in_ramp, now) + self._seconds / self.allowed
                if wait > 0:
                    await self._sleep_unless_stopped(wait)
                return
            if wait <= 0:
                return
            await self._sleep_unless_stopped(wait)
            wait = 0.0

    async def _sleep_unless_stopped(self, seconds: float) -> None:
        # In pieces, so that a deadline does not wait for a rate limit of one call an hour.
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            if self._stopped is not None:
                raise Paused(self._stopped)
            await self._sleep(min(left, 1.0))
        if self._stopped is not None:
            raise Paused(self._stopped)

    def _slow_down(self, retry_after: float | None) -> None:
        now = self._clock()
        if now - self._shrunk_at >= SHRINK_EVERY:
            self._shrunk_at = now
            self.allowed = max(1.0, self.allowed * SHRINK)
        if retry_after:
            self._paused_until = max(self._paused_until, now + min(retry_after, LONGEST_PAUSE))
            self._next_in_ramp = self._paused_until
            self._ramp_until = self._paused_until + 2 * self._seconds

    def _learn_from(self, call: Pass, completion: Completion) -> None:
        seconds = self._clock() - call.left
        self._seconds += MEMORY * (seconds - self._seconds)
        tokens = completion.tokens
        if tokens.input or tokens.output:
            self._tokens_per_byte += MEMORY * (tokens.input / call.size - self._tokens_per_byte)
            self._output += MEMORY * (tokens.output - self._output)
            self._give_back(0.0, call.input - tokens.input, call.output - tokens.output)
        self._calls += 1
        if self._calls % LEARN_EVERY == 1 and completion.headers:
            self.learn(completion.headers)

    def _give_back(self, requests: float, input_: float, output: float) -> None:
        amounts = {"requests": requests, PACE: requests, "tokens": input_ + output,
                   "input": input_, "output": output}  # fmt: skip
        for kind, bucket in self._buckets.items():
            # Learned buckets follow the provider's own count.
            if kind in self._told and amounts[kind]:
                bucket.put_back(amounts[kind])

    def _free(self) -> None:
        self._active -= 1
        room = int(self.allowed) - self._active
        while self._queue and room > 0:
            waiting = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(None)
                room -= 1
