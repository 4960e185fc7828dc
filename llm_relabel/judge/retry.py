"""The one retry policy: every provider makes single attempts, and this decides on the next.

Only a TransientError is tried again. The wait is exponential with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): many calls
fail together, and must not come back together. A provider's Retry-After is a minimum, and
the jitter goes on top of it for the same reason.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from llm_relabel.errors import ProviderError, TransientError
from llm_relabel.judge.chat import ChatProvider, ChatRequest, Completion

ATTEMPTS = 6
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
LONGEST_RETRY_AFTER = 120.0

OnAttempt: TypeAlias = Callable[[int, ProviderError | None], None]
"""Told of every attempt as it ends: its number from 1, and its error or None."""


async def sleep(seconds: float) -> None:
    """Wait between attempts; tests replace it."""
    await asyncio.sleep(seconds)


async def _sleep(seconds: float) -> None:
    # Looked up at each wait, so that a test may replace it at any time.
    await sleep(seconds)


def wait_seconds(state: RetryCallState) -> float:
    """Seconds before the next attempt, from the attempt's number and the provider's wish."""
    jitter = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (state.attempt_number - 1)))
    error = state.outcome.exception() if state.outcome else None
    wish = error.retry_after if isinstance(error, TransientError) else None
    return jitter + min(wish or 0.0, LONGEST_RETRY_AFTER)


async def complete_with_retry(
    provider: ChatProvider,
    request: ChatRequest,
    *,
    timeout: float,
    attempts: int = ATTEMPTS,
    on_attempt: OnAttempt | None = None,
) -> Completion:
    """One completion, tried at most `attempts` times.

    `timeout` is for one attempt, and the provider keeps it: what surrounds the provider (a
    wait for the rate limit or for the budget) must not count as a call that took too long.
    Raises the last attempt's ProviderError.
    """
    number = 0
    failed: TransientError | None = None

    async def attempt() -> Completion:
        nonlocal number, failed
        if failed is not None:
            known, failed = failed, None
            raise known
        number += 1
        try:
            completion = await provider.complete(request, timeout=timeout)
        except ProviderError as error:
            if on_attempt is not None:
                on_attempt(number, error)
            raise
        if on_attempt is not None:
            on_attempt(number, None)
        return completion

    # Nearly every call succeeds at once, so the policy's machinery (a tenth of what a call costs
    # us) is begun only after a failure, which it is shown as its first attempt.
    try:
        return await attempt()
    except TransientError as error:
        failed = error
    policy = AsyncRetrying(
        sleep=_sleep,
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(attempts),
        wait=wait_seconds,
        reraise=True,
    )
    return await policy(attempt)
