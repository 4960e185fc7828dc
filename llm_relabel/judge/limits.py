"""Pacing: requests and tokens per minute, spread evenly so that a pause ends without a herd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Lets calls through at the given rates (None: as fast as they come).

    Each call books the next free moment, so waiting calls leave one by one in order. At most
    one second's worth may leave at once.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rates = (requests_per_minute, tokens_per_minute)
        self._next = [0.0, 0.0]
        self._clock = clock
        self._sleep = sleep

    async def wait(self, tokens: int) -> None:
        """Return when one call of about `tokens` tokens may be sent."""
        now = self._clock()
        leave = now
        for index, (rate, amount) in enumerate(zip(self._rates, (1, tokens), strict=True)):
            if rate is None:
                continue
            moment = max(self._next[index], now - 1.0)
            leave = max(leave, moment)
            self._next[index] = moment + 60.0 * amount / rate
        if leave > now:
            await self._sleep(leave - now)
