"""Puts many asks to one judge: bounded concurrency, and stops that lose nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llm_relabel.errors import Paused
from llm_relabel.judge import Judge
from llm_relabel.records import Ask, Item, Verdict

Result = TypeVar("Result")

# So many failed verdicts in a row, with no answer between them, mean that nothing will come:
# a wrong model name, a dead server, a schema the server cannot follow.
FAILURES_IN_A_ROW = 20


async def ask_all(
    judge: Judge,
    asks: Sequence[Ask],
    item_of: Callable[[int], Item],
    *,
    concurrency: int,
    on_verdict: Callable[[Verdict], None],
    deadline: float | None = None,
) -> None:
    """Put every ask to the judge; `on_verdict` hears each verdict the moment it arrives.

    `deadline` is a moment of `time.monotonic`. Raises Paused after the calls in flight have
    come home: at the deadline, at the money cap, or when the judge no longer answers.
    """
    waiting = iter(asks)
    stopped: list[Paused] = []
    failures: list[Verdict] = []
    answered = False

    async def worker() -> None:
        nonlocal answered
        while not stopped:
            if deadline is not None and time.monotonic() >= deadline:
                stopped.append(Paused("judge.deadline is reached; raise it to go on"))
                return
            ask = next(waiting, None)
            if ask is None:
                return
            try:
                verdict = await judge.verdict(ask, item_of(ask.row))
            except Paused as pause:
                stopped.append(pause)
                return
            on_verdict(verdict)
            if verdict.outcome != "failed":
                answered = True
                failures.clear()
                continue
            if not judge.is_llm:
                continue  # a file or a formula that has no answer for many rows is not broken
            failures.append(verdict)
            if len(failures) >= FAILURES_IN_A_ROW and not stopped:
                stopped.append(_breaker(judge, failures))

    workers = min(concurrency, len(asks))
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
    if stopped:
        raise stopped[0]
    if not answered and len(failures) >= 3:
        raise _breaker(judge, failures)


def _breaker(judge: Judge, failures: Sequence[Verdict]) -> Paused:
    last = failures[-1]
    return Paused(
        f"{len(failures)} verdicts in a row failed, the last with {last.reason!r}: "
        f"{last.error}; check judge.model {judge.name!r}, then run the same command again"
    )


def trailing_failures(verdicts: Sequence[Verdict]) -> set[str]:
    """The asks whose failures stopped an earlier process: they deserve another try.

    `verdicts` in the order of the journal; the run of failures at its end, where it is long
    enough to have tripped the breaker.
    """
    tail: list[str] = []
    for verdict in reversed(verdicts):
        if verdict.outcome != "failed":
            break
        tail.append(verdict.ask_id)
    everything_failed = len(tail) == len(verdicts) and len(tail) >= 3
    return set(tail) if len(tail) >= FAILURES_IN_A_ROW or everything_failed else set()


def outside_event_loops(work: Callable[[], Result]) -> Result:
    """Call `work`, in a thread of its own where an event loop already runs, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(work).result()
