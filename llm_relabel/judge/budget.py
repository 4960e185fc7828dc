"""The money cap: every call is counted at its worst case before it is sent."""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path

from llm_relabel.errors import Paused

_WIDTH = 24


class Ledger:
    """An upper bound of the dollars that a run may have spent, in a small file.

    It is rewritten at every promise, before the call is sent, so a killed process leaves
    behind what its calls in flight may cost, and the cap holds over any number of kills.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self.found = float(os.pread(self._file, _WIDTH, 0) or 0.0)
        except ValueError:
            self.found = 0.0

    def write(self, dollars: float) -> None:
        """Put down the bound. One write of fixed width: a kill leaves the old or the new."""
        os.pwrite(self._file, b"%*.9f\n" % (_WIDTH - 1, dollars), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Budget:
    """US dollars spent and promised, never above the cap; one for all judges of a run.

    `reserve` waits while calls in flight hold promises that may shrink, and raises Paused when
    even an idle budget cannot hold the next call's worst case.
    """

    def __init__(
        self, cap: float | None, *, spent: float = 0.0, ledger: Ledger | None = None
    ) -> None:
        """`cap` None means no cap; `spent` is what the run's journals say was paid before.

        Where the `ledger` says more, calls were in flight when a process was killed; they
        count in full.
        """
        self.cap = cap
        self.spent = max(spent, ledger.found if ledger is not None else 0.0)
        self.lost = self.spent - spent
        self._ledger = ledger
        self.refusals: set[str] = set()  # the reasons of calls that were not let through
        self.calls = 0
        """Attempts that were let through."""
        self.most_calls: int | None = None
        self.calls_refused = False
        """Whether `most_calls` kept a call back."""
        self._promised = 0.0
        self._in_flight = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, worst: float) -> None:
        """Promise `worst` dollars for one call. Raises Paused when the caps cannot hold it."""
        if self.most_calls is not None and self.calls >= self.most_calls:
            self.calls_refused = True
            raise Paused(f"{self.calls:,} calls were made; more are not allowed")
        self.calls += 1
        while not self.try_reserve(worst):
            if self._in_flight == 0:
                assert self.cap is not None
                reason = (
                    f"the next call could cost ${worst:.4f} and ${self.spent:.4f} of "
                    f"max_cost ${self.cap:.2f} is spent; raise judge.max_cost to go on"
                )
                self.refusals.add(reason)
                self.calls -= 1
                raise Paused(reason)
            room = asyncio.get_running_loop().create_future()
            self._waiting.append(room)
            await room

    def try_reserve(self, worst: float) -> bool:
        """Promise `worst` dollars if the cap holds them now."""
        if self.cap is not None and self.spent + self._promised + worst > self.cap:
            return False
        self.promise(worst)
        return True

    @property
    def room(self) -> float:
        """Dollars that may still be promised; infinite without a cap."""
        return math.inf if self.cap is None else self.cap - self.spent - self._promised

    def promise(self, worst: float) -> None:
        """Promise `worst` dollars that the caller knows to fit."""
        self._promised += worst
        self._in_flight += 1
        self._write()

    def adopt(self, worst: float) -> None:
        """Take over a promise that an earlier process made and that is still in flight.

        A batch outlives its process: its worst case is promised, and no longer counted as lost.
        """
        self.spent -= self.explain(worst)
        self.promise(worst)

    def explain(self, dollars: float) -> float:
        """What was lost and is now accounted for elsewhere, of these dollars."""
        known = min(dollars, self.lost)
        self.lost -= known
        return known

    def settle(self, worst: float, actual: float) -> None:
        """Turn a promise of `worst` into the `actual` cost (the worst case if unknown)."""
        self.spent += actual
        self._promised -= worst
        self._in_flight -= 1
        if self._in_flight == 0:
            self._promised = 0.0  # no dust of rounding
        self._write()
        waiting, self._waiting = self._waiting, []
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _write(self) -> None:
        if self._ledger is not None:
            self._ledger.write(self.spent + self._promised)
