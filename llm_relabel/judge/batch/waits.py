"""How long to wait: waits that grow, waits that end early, and when waiting has no use."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable

FIRST_WAIT = 5.0
LONGEST_WAIT = 300.0
GROWTH = 1.5
# Seconds of failed calls, without one that succeeded, after which an endpoint counts as dead.
LONGEST_OUTAGE = 3600.0


class Backoff:
    """Waits in seconds, each longer than the one before, up to five minutes.

    With some jitter: many judges must not poll in step.
    """

    def __init__(self) -> None:
        self._seconds = FIRST_WAIT

    def next(self, wish: float = 0.0) -> float:
        """The next wait, not below the provider's own `wish`."""
        seconds = max(self._seconds * random.uniform(0.8, 1.2), wish)
        self._seconds = min(self._seconds * GROWTH, LONGEST_WAIT)
        return seconds

    def reset(self) -> None:
        """Something moved: begin with the shortest wait again."""
        self._seconds = FIRST_WAIT


class Outage:
    """Since when calls of one kind have failed."""

    def __init__(self) -> None:
        self._since: float | None = None

    def over(self) -> None:
        """A call succeeded."""
        self._since = None

    def lasts(self) -> bool:
        """A call failed; whether that has gone on for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since > LONGEST_OUTAGE


class Halt:
    """Why nothing more shall be begun, and waits that end then."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._event = asyncio.Event()

    def __call__(self, reason: str) -> None:
        """Begin nothing more. The first reason counts."""
        self.reason = self.reason or reason
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Wait, or until halted."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return

    async def unless(self, call: Awaitable[None]) -> bool:
        """Wait for `call`, or until halted; whether `call` came to its end."""
        halted = asyncio.ensure_future(self._event.wait())
        waiting = asyncio.ensure_future(call)
        try:
            await asyncio.wait((halted, waiting), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
            return waiting.done()
        finally:
            halted.cancel()
            waiting.cancel()
