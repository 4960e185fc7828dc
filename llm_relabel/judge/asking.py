"""Puts many asks to judges: bounded concurrency, and stops that lose nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from llm_relabel.config.judges import Breakers
from llm_relabel.errors import AwaitingPeople, Paused
from llm_relabel.judge.breakers import CircuitBreaker
from llm_relabel.judge.seam import Judge, ManyAtOnce
from llm_relabel.records import Ask, Item, Verdict

Result = TypeVar("Result")
Watch = Callable[[Verdict], str | None]
"""Hears a verdict and says why the run should stop, or None."""

# A call that waits for its retry holds no place among the calls in flight, so there are more
# workers than places.
WORKERS_A_PLACE = 2
# The collector otherwise walks the SDKs' hundreds of thousands of objects again and again while
# verdicts, which stay, pile up: an eighth of what a call costs us.
COLLECT_AFTER = 20_000
# Verdicts from the cache never wait; so often the event loop gets its turn all the same.
BREATHE_EVERY = 64


@dataclass
class Stop:
    """What ends the asking early, shared by all judges of a wave. The first reason counts.

    `awaited` stops nobody: while people are awaited, the other judges answer all they are asked.
    """

    judges: Sequence[Judge]
    reason: str | None = None
    awaited: AwaitingPeople | None = None

    def __call__(self, reason: str) -> None:
        """Ask nothing more; calls in flight come home."""
        if self.reason is None:
            self.reason = reason
            for judge in self.judges:
                judge.stop(reason)


async def ask_all(
    asks: Sequence[tuple[Judge, Iterable[Ask]]],
    item_of: Callable[[int], Item],
    *,
    on_verdict: Callable[[Verdict], None],
    breakers: Breakers,
    deadline: float | None = None,
    watch: Watch | None = None,
) -> None:
    """Put to each judge its asks; `on_verdict` hears each verdict the moment it arrives.

    `deadline` is a moment of `time.monotonic`; `watch` hears every verdict too, and may give a
    reason to stop. Raises Paused after the calls in flight have
    come home: at the deadline, at the money cap, or when a judge no longer answers; and
    AwaitingPeople when all others have answered and people have not.
    """
    stop = Stop([judge for judge, _ in asks])
    timer = None
    if deadline is not None:
        left = max(0.0, deadline - time.monotonic())
        reached = "judge.deadline is reached; raise it to go on"
        if left == 0.0:
            stop(reached)
        timer = asyncio.get_running_loop().call_later(left, stop, reached)
    try:
        async with _rare_collections(), asyncio.TaskGroup() as group:
            for judge, theirs in asks:
                breaker = CircuitBreaker(judge.name, breakers)
                # A file or a formula that has no answer for many rows is not broken.
                watches: list[Watch] = [breaker.hear] if judge.is_llm else []
                watches += [watch] if watch is not None else []
                over = breaker.nothing_came if judge.is_llm else _nothing_to_say
                hear = _Hearing(on_verdict, watches, over, stop)
                if isinstance(judge, ManyAtOnce):
                    group.create_task(_many_at_once(judge, theirs, item_of, hear, stop))
                else:
                    _one_by_one(group, judge, iter(theirs), item_of, hear, stop)
    finally:
        if timer is not None:
            timer.cancel()
    if stop.reason is not None:
        raise Paused(stop.reason)
    if stop.awaited is not None:
        raise stop.awaited


class _Hearing:
    """Passes verdicts on, and lets those hear them who may stop the run."""

    def __init__(
        self,
        on_verdict: Callable[[Verdict], None],
        watches: Sequence[Watch],
        over: Callable[[], str | None],
        stop: Stop,
    ) -> None:
        self._on_verdict = on_verdict
        self._watches = watches
        self._over = over
        self._stop = stop
        self.running = 0
        self.heard = 0

    def __call__(self, verdict: Verdict) -> None:
        self._on_verdict(verdict)
        self.heard += 1
        for watch in self._watches:
            if reason := watch(verdict):
                self._stop(reason)

    def over(self) -> None:
        """The last verdict has come."""
        if reason := self._over():
            self._stop(reason)


def _one_by_one(
    group: asyncio.TaskGroup,
    judge: Judge,
    asks: Iterable[Ask],
    item_of: Callable[[int], Item],
    hear: _Hearing,
    stop: Stop,
) -> None:
    waiting = iter(asks)

    async def worker() -> None:
        try:
            while stop.reason is None and (ask := next(waiting, None)) is not None:
                try:
                    verdict = await judge.verdict(ask, item_of(ask.row))
                except Paused as pause:
                    stop(str(pause))
                    return
                hear(verdict)
                if hear.heard % BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
        finally:
            hear.running -= 1
            if hear.running == 0:
                hear.over()

    workers = judge.concurrency * WORKERS_A_PLACE
    hear.running = workers
    for _ in range(workers):
        group.create_task(worker())


async def _many_at_once(
    judge: ManyAtOnce,
    asks: Iterable[Ask],
    item_of: Callable[[int], Item],
    hear: _Hearing,
    stop: Stop,
) -> None:
    try:
        async for verdict in judge.verdicts(asks, item_of):
            hear(verdict)
    except AwaitingPeople as awaited:
        stop.awaited = awaited
    except Paused as pause:
        stop(str(pause))
    hear.over()


def _nothing_to_say() -> None:
    """What a judge that cannot break says at its end."""


@asynccontextmanager
async def _rare_collections() -> AsyncIterator[None]:
    """Leave what exists now out of garbage collection, and collect the rest less often."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def outside_event_loops(work: Callable[[], Result]) -> Result:
    """Call `work`, in a thread of its own where an event loop already runs, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(work).result()
