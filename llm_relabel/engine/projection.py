"""What questions take: calls, tokens, money and time, estimated before any is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_relabel.config.judges import JudgeMember, Prices
from llm_relabel.errors import DataError
from llm_relabel.judge.prices import cost_of, price_of
from llm_relabel.judge.providers.image_tokens import message_tokens
from llm_relabel.judge.seam import Judges
from llm_relabel.prepared import Prepared
from llm_relabel.prompts.fit import estimated_tokens
from llm_relabel.prompts.passages import passages
from llm_relabel.records import Ask, Message, Tokens

# Below so many tokens neither OpenAI nor Anthropic keeps a prefix.
SHORTEST_PREFIX = 1024
# A round trip to a hosted model, unless requests_per_minute is slower.
SECONDS_A_CALL = 2.0


@dataclass(frozen=True)
class Calls:
    """What one judge would be asked in round 1, estimated.

    `at_most`: it is asked only where the judges before it are not sure. `cost` and `saving` (what
    a prompt cache would save of it) are US dollars, None where the price is not known.
    """

    judge: str
    calls: int
    tokens: Tokens
    cost: float | None
    saving: float
    minutes: float
    at_most: bool
    batch: bool

    def told(self) -> str:
        """One line."""
        text = (
            f"  {self.judge}: {'at most ' if self.at_most else ''}{self.calls:,} calls, "
            f"{self.tokens.input:,} input and {self.tokens.output:,} output tokens"
        )
        if self.cost is None:
            text += ", price unknown"
        else:
            text += f", about ${self.cost:.2f}"
            if self.saving >= 0.005:
                text += f" (about ${self.saving:.2f} less if the provider's prompt cache hits)"
        if self.at_most:
            text += ", asked only where the judges before it are not sure"
        return text + (
            "; hours, by the batch API" if self.batch else f", {self.minutes:.1f} minutes"
        )


def messages_of(prepared: Prepared, ask: Ask) -> list[tuple[Message, ...]]:
    """What an ask puts to a judge: one question, or one for each passage; none where its picture
    cannot be shown."""
    item, prompts = prepared.dataset.item(ask.row), prepared.prompts
    parts = passages(prepared.task, item, ask.candidates, prompts.max_item_tokens)
    if len(parts) > 1:
        return [prompts.build(part.item, part.candidates) for part in parts]
    try:
        return [prompts.build(item, ask.candidates)]
    except DataError:  # the run tells it of this item alone
        return []


def calls_of(
    prepared: Prepared, asks: Sequence[Ask], judges: Judges, issues: int
) -> Iterator[Calls]:
    """Calls, tokens, money and time of round 1, for each LLM that takes any."""
    section = prepared.job.judge
    members = dict(zip(section.member_names, section.members, strict=True))
    by_judge = {name: [ask for ask in asks if ask.judge == name] for name in members}
    escalation = section.member_names[1 + len(section.panel) :]
    for name, member in members.items():
        if not judges[name].is_llm:
            continue
        most = name in escalation
        theirs = asks_like(by_judge[section.member_names[0]], issues) if most else by_judge[name]
        prices = price_of(member, uncapped=section.max_cost == "none")
        calls, tokens, prefix = _tokens(prepared, theirs, member)
        yield Calls(
            judge=name,
            calls=calls,
            tokens=tokens,
            cost=None if prices is None else cost_of(tokens, prices),
            saving=0.0 if prices is None else _saving(prefix, calls, prices),
            minutes=_minutes(member, calls, tokens),
            at_most=most,
            batch=member.batch,
        )


def asks_like(asks: Sequence[Ask], count: int) -> list[Ask]:
    """At most `count` asks, one for each issue."""
    return [ask for ask in asks if ask.purpose == "label"][:count]


def _tokens(
    prepared: Prepared, asks: Sequence[Ask], member: JudgeMember
) -> tuple[int, Tokens, float]:
    """Calls and tokens of all asks, estimated on some of them; those of the stable prefix."""
    sample = [messages_of(prepared, ask) for ask in asks[:: max(1, len(asks) // 200)]]
    size = sum(message_tokens(each, member) for parts in sample for each in parts)
    mean, passages = size / max(1, len(sample)), sum(map(len, sample)) / max(1, len(sample))
    calls = round(passages * len(asks))
    prefix = estimated_tokens(prepared.prompts.system.text)
    tokens = Tokens(input=int(mean * len(asks)), output=prepared.task.answer_tokens * calls)
    return calls, tokens, prefix


def _saving(prefix: float, calls: int, prices: Prices) -> float:
    """US dollars that a prompt cache saves when every call but the first hits it."""
    if prefix < SHORTEST_PREFIX or prices.cached_input is None or not calls:
        return 0.0
    saved = prefix * (calls - 1) * (prices.input - prices.cached_input)
    written = prefix * ((prices.cache_write or prices.input) - prices.input)
    return max(0.0, (saved - written) / 1_000_000)


def _minutes(member: JudgeMember, calls: int, tokens: Tokens) -> float:
    seconds = calls * SECONDS_A_CALL / member.concurrency
    for rate, amount in (
        (member.requests_per_minute, calls),
        (member.tokens_per_minute, tokens.input + tokens.output),
        (member.input_tokens_per_minute, tokens.input),
        (member.output_tokens_per_minute, tokens.output),
    ):
        if rate:
            seconds = max(seconds, 60 * amount / rate)
    return seconds / 60
