"""The one retry policy: every provider makes single attempts, and this decides on the next.

Only a TransientError is tried again; a greedy request that timed out, once. "Too many" is no
failure of the call: it uses up none of the attempts that errors get, as long as others are answered
meanwhile. The wait is exponential with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): many calls
fail together, and must not come back together. A provider's Retry-After is a minimum, and
the jitter goes on top of it for the same reason.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from llm_relabel.errors import CallTimedOut, ProviderError, RateLimited, TransientError
from llm_relabel.judge.chat import ChatProvider, ChatRequest, Completion

ATTEMPTS = 6
# So often a call is refused with "too many" while no other is answered: minutes, with the waits.
REFUSED_IN_VAIN = 12
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


def wait_seconds(error: TransientError, number: int) -> float:
    """Seconds before the next attempt, from the `number` of failures and the provider's wish."""
    jitter = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (number - 1)))
    return jitter + min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)


class _Patience:
    """What one call has met: `errors`, and how often it was refused `in_vain`."""

    def __init__(self, attempts: int, answered: Callable[[], int], *, greedy: bool) -> None:
        self._attempts = attempts
        self._greedy = greedy
        self._answered = answered
        self._seen = answered()
        self.errors = 0
        self.in_vain = 0
        self.last: TransientError | None = None

    def met(self, error: TransientError) -> None:
        """An attempt ended so."""
        self.last = error
        if not isinstance(error, RateLimited):
            # The same greedy request that ran too long will do so again: it gets one more chance.
            again = self._greedy and isinstance(error, CallTimedOut)
            self.errors += -(-self._attempts // 2) if again else 1
            return
        seen = self._answered()
        self.in_vain = self.in_vain + 1 if seen == self._seen else 1
        self._seen = seen

    def is_over(self, _state: RetryCallState) -> bool:
        """Whether no further attempt is worth it."""
        return self.errors >= self._attempts or self.in_vain >= REFUSED_IN_VAIN

    def wait(self, _state: RetryCallState) -> float:
        """Seconds before the next attempt."""
        assert self.last is not None
        refused = isinstance(self.last, RateLimited)
        return wait_seconds(self.last, self.in_vain if refused else self.errors)


async def complete_with_retry(
    provider: ChatProvider,
    request: ChatRequest,
    *,
    timeout: float,
    attempts: int = ATTEMPTS,
    answered: Callable[[], int] = lambda: 0,
    on_attempt: OnAttempt | None = None,
) -> Completion:
    """One completion; after `attempts` errors it is given up.

    `answered` counts the answers that the provider has given to anybody: where it grows, a refusal
    for the rate was not in vain, and the call waits on.

    `timeout` is for one attempt, and the provider keeps it: what surrounds the provider (a
    wait for the rate limit or for the budget) must not count as a call that took too long.
    Raises the last attempt's ProviderError.
    """
    number = 0
    patience = _Patience(attempts, answered, greedy=request.params.get("temperature") == 0)
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
            if isinstance(error, TransientError):
                patience.met(error)
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
        stop=patience.is_over,
        wait=patience.wait,
        reraise=True,
    )
    return await policy(attempt)
