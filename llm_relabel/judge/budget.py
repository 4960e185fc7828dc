"""The money cap: every call is counted at its worst case before it is sent."""

from __future__ import annotations

import asyncio

from llm_relabel.errors import Paused


class Budget:
    """US dollars spent and promised, never above the cap.

    `reserve` waits while calls in flight hold promises that may shrink, and raises Paused when
    even an idle budget cannot hold the next call's worst case.
    """

    def __init__(self, cap: float | None, *, spent: float = 0.0) -> None:
        """`cap` None means no cap; `spent` is what earlier processes of the run paid."""
        self.cap = cap
        self.spent = spent
        self._promised = 0.0
        self._in_flight = 0
        self._changed = asyncio.Condition()

    async def reserve(self, worst: float) -> None:
        """Promise `worst` dollars for one call. Raises Paused when the cap is reached."""
        if self.cap is None:
            return
        async with self._changed:
            while self.spent + self._promised + worst > self.cap:
                if self._in_flight == 0:
                    raise Paused(
                        f"the next call could cost ${worst:.4f} and ${self.spent:.4f} of "
                        f"max_cost ${self.cap:.2f} is spent; raise judge.max_cost to go on"
                    )
                await self._changed.wait()
            self._promised += worst
            self._in_flight += 1

    async def settle(self, worst: float, actual: float) -> None:
        """Turn a promise of `worst` into the `actual` cost (the worst case if unknown)."""
        self.spent += actual
        if self.cap is None:
            return
        async with self._changed:
            self._promised -= worst
            self._in_flight -= 1
            self._changed.notify_all()
