"""An LLM as judge: prompt, cache, call, check, one re-ask, verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from llm_relabel.errors import (
    AccessDenied,
    CallTimedOut,
    ContentRefused,
    Paused,
    ProviderError,
    RequestRejected,
    TransientError,
)
from llm_relabel.job import JudgeSection, Prices
from llm_relabel.judge import RoundEvidence
from llm_relabel.judge.budget import Budget
from llm_relabel.judge.cache import CachedAnswer, VerdictCache
from llm_relabel.judge.chat import ChatProvider, ChatRequest, Completion
from llm_relabel.judge.limits import Pace
from llm_relabel.judge.prices import cost_of, sampling_params, worst_case
from llm_relabel.judge.retry import complete_with_retry
from llm_relabel.prompts import PromptBuilder
from llm_relabel.records import AbstainOrFailure, Ask, Item, Message, Outcome, Tokens, Verdict
from llm_relabel.tasks import Answer, InvalidAnswer, Task


@dataclass(slots=True)
class _Bill:
    """What one question has taken so far, over attempts and the re-ask."""

    calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class _Settled:
    """One question's end, before it is told to each ask that put it."""

    outcome: Outcome
    answer: Answer | None
    reason: AbstainOrFailure | None
    bill: _Bill
    cached: bool = False
    error: str | None = None


class LLMJudge:
    """Asks one chat provider. Identical questions in flight are asked once."""

    is_llm = True
    settled = True

    def __init__(
        self,
        provider: ChatProvider,
        section: JudgeSection,
        task: Task,
        prompts: PromptBuilder,
        *,
        prices: Prices | None,
        cache: VerdictCache | None,
        spent: float = 0.0,
    ) -> None:
        """`spent` is what the run paid before, in US dollars; it counts towards the cap."""
        self.name = section.model
        self._section = section
        self._task = task
        self._prompts = prompts
        self._prices = prices
        self._cache = cache
        self._schema = task.answer_schema() if section.structured_output == "schema" else None
        self._params = sampling_params(section)
        cap = section.max_cost if isinstance(section.max_cost, float) else None
        self._metered = _MeteredProvider(provider, prices, Budget(cap, spent=spent), section)
        self._in_flight: dict[str, asyncio.Task[_Settled]] = {}

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Nothing to prepare: a prompt says all that this judge sees."""

    def request(self, item: Item, ask: Ask) -> ChatRequest:
        """The request that an ask makes."""
        shown = ask.candidates if ask.evidence == "referenced" else ()
        return self._request(self._prompts.build(item, shown))

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """One verdict, from the cache where the same request was answered before."""
        request = self.request(item, ask)
        provider = self._metered.inner
        key = request.sha256(
            provider=provider.provider,
            model=provider.model,
            base_url=provider.base_url,
            repeat=ask.repeat,
        )
        shared = key in self._in_flight
        if not shared:
            question = asyncio.create_task(self._settle(request, key))
            self._in_flight[key] = question
            question.add_done_callback(lambda _: self._in_flight.pop(key, None))
        settled = await self._in_flight[key]
        return self._tell(ask, key, settled, shared=shared)

    async def aclose(self) -> None:
        """Close the provider's connections and the cache."""
        await self._metered.inner.aclose()
        if self._cache is not None:
            self._cache.close()

    def _request(self, messages: tuple[Message, ...]) -> ChatRequest:
        return ChatRequest(messages, self._schema, self._params, self._section.max_output_tokens)

    async def _settle(self, request: ChatRequest, key: str) -> _Settled:
        bill = _Bill()
        if self._cache is not None and (found := self._cache.get(key)) is not None:
            try:
                answer = self._task.parse_answer(found.text)
            except InvalidAnswer:
                pass  # written by a version that accepted more; ask again
            else:
                return _settled(answer, bill, cached=True)
        try:
            return await self._ask(request, key, bill)
        except AccessDenied as error:
            raise Paused(f"{self.name} refuses the key or account: {error}") from error
        except ContentRefused as error:
            return _Settled("failed", None, "refused", bill, error=str(error))
        except RequestRejected as error:
            return _Settled("failed", None, "refused", bill, error=str(error))
        except ProviderError as error:
            return _Settled("failed", None, "transport", bill, error=str(error))

    async def _ask(self, request: ChatRequest, key: str, bill: _Bill) -> _Settled:
        asked, problem = request, ""
        for _ in range(2):  # the question, and one re-ask that says what was wrong
            completion = await complete_with_retry(
                self._metered.billing(bill), asked, timeout=self._section.timeout
            )
            if completion.stop == "refusal":
                return _Settled("failed", None, "refused", bill, error="the model declined")
            try:
                answer = self._task.parse_answer(completion.text)
            except InvalidAnswer as error:
                problem = str(error)
                if completion.stop == "length":
                    problem = f"it was cut off at {request.max_output_tokens} tokens ({problem})"
                messages = self._prompts.re_ask(request.messages, completion.text, problem)
                asked = self._request(messages)
                continue
            if self._cache is not None:
                # Under the first request's key, so that the next run need not fail first.
                self._cache.put(key, CachedAnswer(completion.text, bill.tokens, bill.cost))
            return _settled(answer, bill)
        return _Settled("failed", None, "invalid", bill, error=problem)

    def _tell(self, ask: Ask, key: str, settled: _Settled, *, shared: bool) -> Verdict:
        answer = settled.answer
        label = answer.label if answer is not None else None
        free = shared or settled.cached
        return Verdict(
            ask_id=ask.ask_id,
            id=ask.id,
            outcome=settled.outcome,
            answer=list(label) if isinstance(label, tuple) else label,
            confidence=answer.confidence if answer is not None else None,
            rationale=answer.rationale if answer is not None else "",
            reason=settled.reason,
            prompt_sha256=key,
            tokens=Tokens() if free else settled.bill.tokens,
            cost=None if self._prices is None else 0.0 if free else settled.bill.cost,
            cached=free,
            calls=0 if free else settled.bill.calls,
            error=settled.error,
        )


def _settled(answer: Answer, bill: _Bill, *, cached: bool = False) -> _Settled:
    if answer.abstained is not None:
        reason: AbstainOrFailure = "none_fits" if answer.abstained == "none_fits" else "unsure"
        return _Settled("abstain", answer, reason, bill, cached)
    return _Settled("answer", answer, None, bill, cached)


class _MeteredProvider:
    """Wraps every single attempt in pace and budget, so that retries are counted too."""

    def __init__(
        self, inner: ChatProvider, prices: Prices | None, budget: Budget, section: JudgeSection
    ) -> None:
        self.inner = inner
        self._prices = prices
        self._budget = budget
        self._pace = Pace(section.requests_per_minute, section.tokens_per_minute)

    def billing(self, bill: _Bill) -> _Billed:
        """This provider, adding what each attempt takes to `bill`."""
        return _Billed(self, bill)

    async def attempt(self, request: ChatRequest, timeout: float, bill: _Bill) -> Completion:
        worst_tokens, worst = worst_case(request, self._prices)
        await self._budget.reserve(worst)
        actual = worst  # a call that is cancelled or times out may be charged in full
        try:
            await self._pace.wait(worst_tokens)
            bill.calls += 1
            completion = await self.inner.complete(request, timeout=timeout)
            actual = cost_of(completion.tokens, self._prices)
            bill.tokens += completion.tokens
        except CallTimedOut:
            raise
        except (TransientError, RequestRejected, ContentRefused, AccessDenied):
            actual = 0.0  # an error answer is not billed
            raise
        finally:
            bill.cost += actual
            await self._budget.settle(worst, actual)
        return completion


class _Billed:
    """One question's view of the provider: the seam's `complete`, billed."""

    def __init__(self, metered: _MeteredProvider, bill: _Bill) -> None:
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
