"""The seam to a chat provider: one request in, one completion out, one attempt.

A provider is one file beside this one. It builds the payload, asks for structured output,
reads the usage, and maps every foreign error to `llm_relabel.errors` at that one place.
It never retries (the SDK's own retries are off) and never caches: one policy serves all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

from llm_relabel.images import ImagePart
from llm_relabel.records import Message, Tokens

# Made once: `json.dumps` with settings of its own builds an encoder at every call.
_in_order = json.JSONEncoder().encode
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked, free of how it travels.

    `schema` is the JSON schema of the answer, or None to ask for JSON in words only;
    `params` are sampling parameters in the provider's own names.
    """

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None
    params: Mapping[str, Any] = field(default_factory=dict)
    max_output_tokens: int = 512

    @property
    def schema_bytes(self) -> int:
        """The size of the schema as JSON."""
        return 0 if self.schema is None else len(_in_order(self.schema))

    def sha256(self, *, provider: str, model: str, base_url: str | None, repeat: int = 0) -> str:
        """The cache key: everything that can change the answer, nothing of how it travels.

        Timeouts, limits, cache marks and batch ids are left out on purpose. An image stands in it
        by its SHA-256.
        """
        frame = _frame(
            provider, model, base_url, self.max_output_tokens, _Same(self.params),
            _Same(self.schema),
        )  # fmt: skip
        messages = ",".join(f'["{message.role}",{_content(message)}]' for message in self.messages)
        asked = f"{frame[0]}{messages}{frame[1]}{repeat}{frame[2]}"
        return hashlib.sha256(asked.encode()).hexdigest()


class _Same:
    """A mapping of a judge, known again by being the same object; it is never changed."""

    def __init__(self, value: Mapping[str, Any] | None) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        # The cache keeps `value` alive, so no other object can have its id.
        return isinstance(other, _Same) and other.value is self.value


@lru_cache(maxsize=256)
def _frame(
    provider: str, model: str, base_url: str | None, most: int, params: _Same, schema: _Same
) -> tuple[str, str, str]:
    """What stands around the messages and the repeat in the canonical JSON of a request.

    It is the same in all requests of a judge, so it is written once.
    """
    return (
        f'{{"base_url":{_canonical(base_url)},"max_output_tokens":{most},"messages":[',
        f'],"model":{_canonical(model)},"params":{_canonical(dict(params.value or {}))},'
        f'"provider":{_canonical(provider)},"repeat":',
        f',"schema":{_canonical(schema.value)}}}',
    )


def _content(message: Message) -> str:
    """A message's content as JSON: a string where it is mere text, as keys always had it."""
    if message.images:
        return _canonical(
            [
                {"image": part.sha256} if isinstance(part, ImagePart) else part.text
                for part in message.content
            ]
        )
    return _stable(message.text) if message.role == "system" else _canonical(message.text)


@lru_cache(maxsize=32)
def _stable(content: str) -> str:
    return _canonical(content)


@dataclass(frozen=True, slots=True)
class Completion:
    """One provider answer. `text` is the structured answer as JSON text, not yet validated.

    `stop` is "length" when the answer was cut at `max_output_tokens` and "refusal" when the
    model declined; `seconds` is the time the attempt took; `headers` say where the account's
    rate limits stand.
    """

    text: str
    tokens: Tokens
    stop: Literal["end", "length", "refusal"] = "end"
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


class ChatProvider(Protocol):
    """One judge's endpoint. `name` is the job's spelling, such as `openai/gpt-4o-mini`."""

    name: str
    provider: str
    model: str
    base_url: str | None

    async def complete(self, request: ChatRequest, *, timeout: float) -> Completion:
        """One attempt. Raises a ProviderError from `llm_relabel.errors`, nothing else."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


__all__ = ["ChatProvider", "ChatRequest", "Completion", "Message"]
