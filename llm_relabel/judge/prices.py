"""What a call costs, before and after it is made. US dollars; prices are for a million tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_relabel.errors import JobError
from llm_relabel.judge.catalog import SDK_PROVIDERS, facts_of, sampling_params
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.image_tokens import most_image_tokens
from llm_relabel.judge.keys import KEYLESS_PROVIDERS, endpoint, is_custom, is_private
from llm_relabel.judge_settings import JudgeMember, Prices
from llm_relabel.records import Tokens

__all__ = ["cost_of", "is_paid", "price_of", "sampling_params", "worst_case"]

FREE = Prices(input=0.0, output=0.0)
MILLION = 1_000_000

# litellm providers that run on the user's own machine when no base_url says otherwise.
LOCAL_PROVIDERS = frozenset({"ollama", "ollama_chat", "lm_studio", "llamafile"})

# Bounds on what a provider adds: role marks per message, marks around an image, a preamble around
# a schema.
TOKENS_PER_MESSAGE = 16
TOKENS_PER_IMAGE = 16
TOKENS_PER_REQUEST = 64
TOKENS_PER_SCHEMA = 768


def price_of(section: JudgeMember, *, uncapped: bool = False) -> Prices | None:
    """The judge's prices: the job's own, else free where nobody bills, else litellm's table.

    Free are judges without a provider, and a `base_url` on this machine or a private
    network (a proxy there that does bill needs `judge.prices`). Elsewhere a custom
    `base_url` of the openai or anthropic SDK has no known price: its owner sets it.
    With `batch: true` the table's batch prices hold where it has them; prices of the job are
    taken as they are. None only when the price is unknown and `uncapped` (`max_cost: none`)
    says that this is fine.
    Raises JobError when the price is unknown otherwise, before anything is spent.
    """
    if section.prices is not None:
        return section.prices
    if section.provider in KEYLESS_PROVIDERS:
        return FREE
    url = endpoint(section)
    if url is not None and is_private(url):
        return FREE
    if url is None and section.provider in LOCAL_PROVIDERS:
        return FREE
    if not (is_custom(section) and section.provider in SDK_PROVIDERS):
        found = _from_table(section)
        if found is not None:
            return found
    if uncapped:
        return None
    where = f" at {url}" if is_custom(section) else ""
    raise JobError(
        f"the price of {section.model!r}{where} is not known; set judge.prices, US dollars for a "
        "million tokens, such as `prices: {input: 0.15, output: 0.60, cached_input: 0.075}` "
        "(zeros if it is your own server), or judge.max_cost: none to spend without a cap"
    )


def is_paid(prices: Prices | None) -> bool:
    """Whether calls may cost money; an unknown price does."""
    if prices is None:
        return True
    return bool(prices.input or prices.output or prices.cached_input or prices.cache_write)


def cost_of(tokens: Tokens, prices: Prices | None) -> float:
    """What a completion cost, in US dollars; 0 when no price is known."""
    if prices is None:
        return 0.0
    cached = min(tokens.cached, tokens.input)
    written = min(tokens.written, tokens.input - cached)
    cached_price = prices.input if prices.cached_input is None else prices.cached_input
    written_price = prices.input if prices.cache_write is None else prices.cache_write
    dollars = (
        (tokens.input - cached - written) * prices.input
        + cached * cached_price
        + written * written_price
        + tokens.output * prices.output
    )
    return dollars / MILLION


def worst_case(
    request: ChatRequest, prices: Prices | None, member: JudgeMember | None = None
) -> tuple[int, float]:
    """The most input tokens of a request, and the most US dollars that one attempt can cost.

    Every tokenizer in use works on bytes or on pieces of at least one byte, so a text has
    at most as many tokens as UTF-8 bytes; an image has what the rule of `member`'s model makes
    of it at most (None: any model's rule); the output stops at `max_output_tokens`, thoughts
    included. The dollars are 0 when no price is known.
    """
    size = TOKENS_PER_REQUEST
    for message in request.messages:
        size += TOKENS_PER_MESSAGE + len(message.text.encode("utf-8", "surrogatepass"))
        for image in message.images:
            size += TOKENS_PER_IMAGE + most_image_tokens(image, member)
    if request.schema is not None:
        size += TOKENS_PER_SCHEMA + request.schema_bytes
    tokens = Tokens(input=size, output=request.max_output_tokens)
    return size, cost_of(tokens, _dearest(prices))


def _dearest(prices: Prices | None) -> Prices | None:
    """Prices with every input token at the highest of the prices it may have."""
    if prices is None:
        return None
    dearest = max(prices.input, prices.cached_input or 0.0, prices.cache_write or 0.0)
    return Prices(input=dearest, output=prices.output)


def _from_table(section: JudgeMember) -> Prices | None:
    facts = facts_of(section)
    if facts is None:
        return None
    paid_in, paid_out, cached, written = (
        _cost(facts, name, batch=section.batch)
        for name in (
            "input_cost_per_token", "output_cost_per_token",
            "cache_read_input_token_cost", "cache_creation_input_token_cost",
        )
    )  # fmt: skip
    if paid_in is None or paid_out is None:
        return None
    # Thoughts are part of the output that we count; the dearer of the two is never too low.
    thoughts = _number(facts.get("output_cost_per_reasoning_token")) or 0.0
    return Prices(
        input=round(paid_in * MILLION, 9),
        output=round(max(paid_out, thoughts) * MILLION, 9),
        cached_input=None if cached is None else round(cached * MILLION, 9),
        cache_write=None if written is None else round(written * MILLION, 9),
    )


def _cost(facts: Mapping[str, Any], name: str, *, batch: bool) -> float | None:
    """Dollars a token; in a batch the batch price where the table has one."""
    if batch and (found := _number(facts.get(f"{name}_batches"))) is not None:
        return found
    return _number(facts.get(name))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
