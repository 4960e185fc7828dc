"""Every single attempt passes here: the money cap, the rate limits, the bill."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from llm_relabel.errors import ProviderError
from llm_relabel.judge.budget import Budget
from llm_relabel.judge.chat import ChatProvider, ChatRequest, Completion
from llm_relabel.judge.limits import Limits
from llm_relabel.judge.prices import cost_of, worst_case
from llm_relabel.judge_settings import JudgeMember, Prices
from llm_relabel.records import Tokens


@dataclass(slots=True)
class Bill:
    """What one question has taken so far, over attempts and the re-ask."""

    calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: float = 0.0
    seconds: float | None = None

    def add(self, completion: Completion, cost: float) -> None:
        """One answered attempt."""
        self.tokens += completion.tokens
        self.cost += cost
        self.seconds = completion.seconds or None


def charged(completion: Completion, prices: Prices | None, worst: float) -> float:
    """What an answered attempt cost; its worst case where usage, or half of it, is not told."""
    told = completion.tokens.input and completion.tokens.output
    return cost_of(completion.tokens, prices) if told else worst


class MeteredProvider:
    """Wraps each attempt in limits and budget, so that retries are counted too."""

    def __init__(
        self, inner: ChatProvider, member: JudgeMember, prices: Prices | None, budget: Budget
    ) -> None:
        self.inner = inner
        self._member = member
        self.prices = prices
        self.budget = budget
        self.limits = Limits(member)
        # A provider that bills the writing of its prompt cache is asked once before the rest,
        # or every call of the first second would write the same prefix.
        self._first: asyncio.Lock | None = (
            asyncio.Lock() if prices is not None and prices.cache_write else None
        )

    def billing(self, bill: Bill) -> _Billed:
        """This provider, adding what each attempt takes to `bill`."""
        return _Billed(self, bill)

    async def attempt(self, request: ChatRequest, timeout: float, bill: Bill) -> Completion:
        """One attempt, counted. Raises ProviderError, or Paused at the cap or once stopped."""
        if self._first is None:
            return await self._attempt(request, timeout, bill)
        async with self._first:
            if self._first is not None:
                completion = await self._attempt(request, timeout, bill)
                self._first = None
                return completion
        return await self._attempt(request, timeout, bill)

    async def _attempt(self, request: ChatRequest, timeout: float, bill: Bill) -> Completion:
        size, worst = worst_case(request, self.prices, self._member)
        await self.budget.reserve(worst)
        actual = 0.0
        try:
            leave = await self.limits.enter(size)
            ended: Completion | ProviderError | None = None
            bill.calls += 1
            actual = worst  # until we know better: a cancelled call may be charged in full
            try:
                completion = ended = await self.inner.complete(request, timeout=timeout)
            except ProviderError as error:
                ended = error
                if not error.may_be_billed:
                    actual = 0.0
                raise
            finally:
                self.limits.leave(leave, ended)
            actual = charged(completion, self.prices, worst)
            bill.add(completion, 0.0)
            return completion
        finally:
            bill.cost += actual
            self.budget.settle(worst, actual)


class _Billed:
    """One question's view of the provider: the seam's `complete`, billed."""

    def __init__(self, metered: MeteredProvider, bill: Bill) -> None:
        self._metered = metered
        self._bill = bill
        self.name = metered.inner.name
        self.provider = metered.inner.provider
        self.model = metered.inner.model
        self.base_url = metered.inner.base_url

    async def complete(self, request: ChatRequest, *, timeout: float) -> Completion:
        return await self._metered.attempt(request, timeout, self._bill)

    async def aclose(self) -> None:
        await self._metered.inner.aclose()
