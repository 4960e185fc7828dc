"""An LLM as judge: prompt, cache, call, check, one re-ask, verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from llm_relabel.config.judges import JudgeMember, Prices
from llm_relabel.errors import (
    AccessDenied,
    ContentRefused,
    DataError,
    NoSuchModel,
    Paused,
    ProviderError,
    RequestRejected,
    SchemaRefused,
)
from llm_relabel.judge.budget import Budget
from llm_relabel.judge.cache import CachedAnswer, VerdictCache
from llm_relabel.judge.chat import ChatProvider, ChatRequest, Completion
from llm_relabel.judge.metered import Bill, MeteredProvider
from llm_relabel.judge.passages import whole_verdict
from llm_relabel.judge.providers.catalog import sampling_params
from llm_relabel.judge.providers.image_limits import check_images
from llm_relabel.judge.retry import complete_with_retry
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.prompts.builder import PromptBuilder
from llm_relabel.prompts.fence import without_fences
from llm_relabel.prompts.passages import passages
from llm_relabel.records import AbstainOrFailure, Ask, Item, Outcome, Tokens, Verdict
from llm_relabel.tasks import Answer, InvalidAnswer, Task
from llm_relabel.units import LabelValue, label_json


@dataclass(slots=True)
class Question:
    """One request on its way to an answer.

    `key` names it in the cache, for ever; `asked` is what is sent next: the request itself, or
    the re-ask after an unusable answer, and `problem` then says what was wrong with that. `item`
    is what is asked about.
    """

    key: str
    item: Item
    request: ChatRequest
    asked: ChatRequest
    bill: Bill = field(default_factory=Bill)
    problem: str = ""

    @property
    def is_re_ask(self) -> bool:
        """Whether an unusable answer came already."""
        return self.asked is not self.request


@dataclass(frozen=True, slots=True)
class Settled:
    """One question's end, before it is told to each ask that put it."""

    outcome: Outcome
    answer: Answer | None
    reason: AbstainOrFailure | None
    bill: Bill
    cached: bool = False
    error: str | None = None


class LLMJudge:
    """Asks one chat provider. Identical questions in flight are asked once.

    The first question goes alone: what is wrong with the server is found out by one call.
    `fell_back` says that its server takes no schema, so that the questions are put in words.
    """

    is_llm = True
    repeatable = True

    def __init__(
        self,
        provider: ChatProvider,
        member: JudgeMember,
        task: Task,
        prompts: PromptBuilder,
        *,
        name: str,
        prices: Prices | None,
        cache: VerdictCache | None,
        budget: Budget,
        sampled: bool = False,
    ) -> None:
        """`name` is the judge's own among those of the job.

        `sampled`: several answers to one question are wanted, so the temperature is left to
        the provider instead of being set to 0.
        """
        self.name = name
        self.prices = prices
        self.budget = budget
        self.member = member
        self.concurrency = member.concurrency
        self._task = task
        self._prompts = prompts
        self._cache = cache
        in_words = member.structured_output == "prompt"
        self._schema = None if in_words else prompts.answer_schema(full=member.provider == "hf")
        self._params = sampling_params(member, sampled=sampled)
        self._provider = provider
        self._metered = MeteredProvider(provider, member, prices, budget)
        self._in_flight: dict[str, asyncio.Future[tuple[Settled, str] | BaseException]] = {}
        self._first: asyncio.Lock | None = asyncio.Lock()
        self.fell_back: str | None = None

    def under(self, task: Task, prompts: PromptBuilder) -> LLMJudge:
        """The same judge, at the same endpoint and cost, under other definitions."""
        other = copy(self)
        other._task, other._in_flight = task, {}
        in_words = self._schema is None
        other._prompts = prompts.in_words() if in_words else prompts
        full = self.member.provider == "hf"
        other._schema = None if in_words else prompts.answer_schema(full=full)
        return other

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Nothing to prepare: a prompt says all that this judge sees."""

    def stop(self, reason: str) -> None:
        """Make no further call: those that wait for their turn end with Paused(`reason`)."""
        self._metered.limits.stop(reason)

    # One question, step by step: `judge/batch/` takes the same steps for many at once.

    def question(self, ask: Ask, item: Item) -> Question:
        """What an ask puts to the provider."""
        shown = ask.candidates if ask.evidence == "referenced" else ()
        item = self._task.posed(item, shown)
        request = ChatRequest(
            self._prompts.build(item, shown),
            self._schema,
            self._params,
            self.member.max_output_tokens,
        )
        provider = self._provider
        key = request.sha256(
            provider=provider.provider,
            model=provider.model,
            base_url=provider.base_url,
            repeat=ask.repeat,
        )
        return Question(key, item, request, request)

    def recall(self, question: Question) -> Settled | None:
        """The question's end if the cache knows it."""
        if self._cache is None or (found := self._cache.get(question.key)) is None:
            return None
        try:
            answer = self._task.parse(found.text, question.item)
        except InvalidAnswer:
            return None  # written by a version that accepted more; ask again
        return _settled(answer, question.bill, cached=True)

    def accept(self, question: Question, completion: Completion) -> Settled | None:
        """The question's end, its answer cached; or None: now ask what `question.asked` says."""
        if completion.stop == "refusal":
            return Settled("failed", None, "refused", question.bill, error="the model declined")
        try:
            answer = self._task.parse(completion.text, question.item)
        except InvalidAnswer as error:
            problem = str(error)
            if completion.stop == "length":
                limit = question.request.max_output_tokens
                problem = f"it was cut off at {limit} tokens ({problem})"
            if question.is_re_ask:
                return Settled("failed", None, "invalid", question.bill, error=problem)
            question.problem = problem
            messages = self._prompts.re_ask(question.request.messages, completion.text, problem)
            question.asked = ChatRequest(
                messages, self._schema, self._params, self.member.max_output_tokens
            )
            return None
        if self._cache is not None:
            bill = question.bill
            # Under the first request's key, so that the next run need not fail first.
            self._cache.put(question.key, CachedAnswer(completion.text, bill.tokens, bill.cost))
        return _settled(answer, question.bill)

    def give_up(self, question: Question, error: ProviderError) -> Settled:
        """The question's end after an error that no retry helps. Raises Paused for a bad key."""
        if isinstance(error, AccessDenied):
            raise Paused(f"{self.name} refuses the key or account: {error}") from error
        if isinstance(error, NoSuchModel) and not self._metered.limits.answered:
            raise Paused(str(error)) from error
        refused = isinstance(error, ContentRefused | RequestRejected)
        reason: AbstainOrFailure = "refused" if refused else "transport"
        advice = (
            "; set `judge.structured_output: prompt`" if isinstance(error, SchemaRefused) else ""
        )
        return Settled("failed", None, reason, question.bill, error=str(error) + advice)

    def _fall_back(self, refused: SchemaRefused) -> None:
        """From now on the schema stands in the prompt."""
        if self._schema is None:
            return
        self._schema = None
        self._prompts = self._prompts.in_words()
        self.fell_back = (
            f"the server of {self.name} does not take the schema of the answer, so it is written "
            "into the prompt; `judge.structured_output: prompt` says so from the start "
            f"({refused})"
        )

    def tell(self, ask: Ask, question: Question, settled: Settled, *, shared: bool) -> Verdict:
        """The verdict of one ask; `shared` when another ask paid for the same question."""
        answer, bill = settled.answer, settled.bill
        label = answer.label if answer is not None else None
        free = shared or settled.cached
        return Verdict(
            ask_id=ask.ask_id,
            id=ask.id,
            outcome=settled.outcome,
            answer=label_json(label),
            confidence=answer.confidence if answer is not None else None,
            rationale=without_fences(answer.rationale) if answer is not None else "",
            reason=settled.reason,
            prompt_sha256=question.key,
            tokens=Tokens() if free else bill.tokens,
            cost=None if self.prices is None else 0.0 if free else bill.cost,
            cached=free,
            calls=0 if free else bill.calls,
            seconds=None if free else bill.seconds,
            error=settled.error,
            repaired=answer is not None and answer.repaired,
        )

    # All steps at once

    def known(self, ask: Ask, item: Item) -> Verdict | Question:
        """The verdict where the cache has the answer, else the question that has to be put.

        A question that the provider would refuse for its images fails here, with no call made.
        """
        if (label := self._task.told_without(self._task.posed(item, ask.candidates))) is not None:
            return _unasked(ask, label)
        try:
            question = self.question(ask, item)
        except DataError as error:  # a picture that cannot be shown
            return Verdict(
                ask.ask_id, ask.id, "failed", reason="refused", error=str(error), calls=0
            )
        settled = self.recall(question)
        if settled is None:
            try:
                check_images(question.request.messages, self._provider.provider, self.name)
            except RequestRejected as error:
                settled = self.give_up(question, error)
        if settled is None:
            return question
        return self.tell(ask, question, settled, shared=False)

    async def put(self, ask: Ask, question: Question) -> Verdict:
        """One verdict from the provider. Only Paused is raised."""
        running = self._in_flight.get(question.key)
        if running is not None:
            ended = await running
            if isinstance(ended, BaseException):
                raise Paused(str(ended)) from ended
            settled, question.key = ended
            return self.tell(ask, question, settled, shared=True)
        key = question.key
        running = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            try:
                settled = await self._settle_first(question)
            except SchemaRefused as refused:
                self._fall_back(refused)
                asked, question = question, self.question(ask, question.item)
                question.bill = asked.bill
                settled = self.recall(question) or await self._settle_first(question)
        except BaseException as error:
            # No verdict will tell what the attempts so far took.
            self.budget.lost += question.bill.cost
            # As a result: an exception that nobody waits for would be reported as lost.
            running.set_result(error)
            raise
        finally:
            del self._in_flight[key]
        running.set_result((settled, question.key))
        return self.tell(ask, question, settled, shared=False)

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """One verdict, from the cache where the same request was answered before.

        An item that is too long for one question is asked about passage by passage.
        """
        parts = passages(self._task, item, ask.candidates, self._prompts.max_item_tokens)
        if len(parts) > 1:
            return whole_verdict(self._task, parts, [
                await self._one(replace(ask, candidates=part.candidates), part.item)
                for part in parts
            ])  # fmt: skip
        return await self._one(ask, item)

    async def _one(self, ask: Ask, item: Item) -> Verdict:
        known = self.known(ask, item)
        return known if isinstance(known, Verdict) else await self.put(ask, known)

    async def aclose(self) -> None:
        """Close the provider's connections and put the cache on disk."""
        await self._provider.aclose()
        if self._cache is not None:
            self._cache.flush()

    async def _settle_first(self, question: Question) -> Settled:
        """`_settle`; while no question has been settled, one after the other."""
        if (first := self._first) is None:
            return await self._settle(question)
        async with first:
            if question.request.schema is not None and self._schema is None:
                raise SchemaRefused("as others were")
            if self._first is not None:
                settled = await self._settle(question)
                self._first = None
                return settled
        return await self._settle(question)

    async def _settle(self, question: Question) -> Settled:
        provider = self._metered.billing(question.bill)
        settled: Settled | None = None
        try:
            while settled is None:  # the question, and one re-ask that says what was wrong
                completion = await complete_with_retry(
                    provider,
                    question.asked,
                    timeout=self.member.timeout,
                    answered=lambda: self._metered.limits.answered,
                )
                settled = self.accept(question, completion)
        except SchemaRefused as error:
            if question.request.schema is not None:
                raise
            return self.give_up(question, error)
        except ProviderError as error:
            return self.give_up(question, error)
        return settled


def _unasked(ask: Ask, label: LabelValue) -> Verdict:
    """The verdict where all candidates say the same."""
    return Verdict(ask.ask_id, ask.id, "answer", label_json(label), cost=0.0, calls=0)


def _settled(answer: Answer, bill: Bill, *, cached: bool = False) -> Settled:
    if answer.abstained is not None:
        reason: AbstainOrFailure = "none_fits" if answer.abstained == "none_fits" else "unsure"
        return Settled("abstain", answer, reason, bill, cached)
    return Settled("answer", answer, None, bill, cached)
