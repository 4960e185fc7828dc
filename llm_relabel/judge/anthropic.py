"""`anthropic/NAME`: the anthropic SDK with its aiohttp transport.

Structured output is `output_config.format` with a JSON schema, not a forced tool: every
Claude model since 4.5 has it, while the newest ones answer a forced tool with an error, as
does any model that thinks. Older models than 4.5 are retired.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anthropic
import httpx2

from llm_relabel.errors import (
    AccessDenied,
    CallTimedOut,
    ProviderError,
    RequestRejected,
    TransientError,
    Unreachable,
)
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.faults import Unlogged, error_for_status, scrub, scrub_chain, without
from llm_relabel.judge.keys import DUMMY, Key, endpoint, is_loopback
from llm_relabel.judge.wire import (
    KEEPALIVE_SECONDS,
    PlainSending,
    clean,
    connection_lost,
    count,
    never_connected,
    read_json,
    timed_out,
    within,
)
from llm_relabel.judge_settings import JudgeMember
from llm_relabel.records import Message, TextPart, Tokens

_STOPS: dict[Any, Any] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}

# Classes that carry no HTTP status and are not a matter of the connection, by name: some are
# not public. We use nothing that raises the lower half (credential files, toolsets, streams,
# webhooks); they are mapped so that a test can hold this list complete.
_OTHERS: dict[str, type[ProviderError]] = {
    "APIResponseValidationError": TransientError,
    "RetryableError": TransientError,
    "CredentialsError": AccessDenied,
    "WorkloadIdentityError": AccessDenied,
    "MutuallyExclusiveAuthError": AccessDenied,
    "APIWebhookValidationError": RequestRejected,
    "MissingDependencyError": RequestRejected,
    "StreamAlreadyConsumed": RequestRejected,
    "ToolsetUsageError": RequestRejected,
    "ToolsetConfigError": RequestRejected,
    "ToolsetContractError": RequestRejected,
    "ToolsetsFixedError": RequestRejected,
    "ToolsetClosedError": RequestRejected,
}


class _Client(PlainSending, anthropic.DefaultAioHttpClient):
    """The SDK's aiohttp client, less what we never use."""


class AnthropicProvider:
    """One Anthropic endpoint: single attempts, no environment variable obeyed."""

    def __init__(self, section: JudgeMember, key: Key | None) -> None:
        self.name = section.model
        self.provider = section.provider
        self.model = section.name
        self.base_url = endpoint(section)
        self._key = key or Key(DUMMY)
        if self._key.secrets:
            logging.getLogger("anthropic._base_client").addFilter(Unlogged(self._key.secrets))
        self._schema: tuple[Mapping[str, Any], dict[str, Any]] | None = None
        self.client = anthropic.AsyncAnthropic(
            api_key=self._key.value,
            base_url=self.base_url,
            max_retries=0,
            timeout=None,
            # Left to itself the SDK asks the environment whether to write traces.
            open_telemetry=False,
            http_client=_Client(
                # With no limit of our own aiohttp would apply its default of 100.
                limits=httpx2.Limits(
                    max_connections=section.concurrency, keepalive_expiry=KEEPALIVE_SECONDS
                ),
                timeout=None,
                follow_redirects=False,
                trust_env=not is_loopback(self.base_url or ""),
            ),
        )
        # Whole: the SDK takes longer to join the two at every call than to write the body.
        self._url = str(self.client.base_url).rstrip("/") + "/v1/messages"
        # The SDK takes these from ANTHROPIC_CUSTOM_HEADERS, and has no way to say no.
        self.client._custom_headers = {}

    async def complete(self, request: ChatRequest, *, timeout: float) -> Completion:
        """One attempt. Raises a ProviderError, nothing else."""
        return await within(self._complete(request), timeout, self.name)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.close()

    def payload(self, request: ChatRequest) -> dict[str, Any]:
        """The body of the request, as it is sent."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_output_tokens,
            "messages": [
                {"role": message.role, "content": _content(message)}
                for message in request.messages
                if message.role != "system"
            ],
        }
        system: list[dict[str, Any]] = [
            {"type": "text", "text": clean(message.text)}
            for message in request.messages
            if message.role == "system"
        ]
        if system:
            # All that comes before the mark is the same for every item of a job.
            system[-1]["cache_control"] = {"type": "ephemeral"}
            body["system"] = system
        body.update(request.params)
        if request.schema is not None:
            # Beside whatever else the job sets there, such as the effort.
            body["output_config"] = {
                **dict(request.params.get("output_config") or {}),
                "format": {"type": "json_schema", "schema": self._accepted(request.schema)},
            }
        return body

    def _accepted(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema as the API takes it: what it refuses (bounds, lengths) becomes words.

        A job has one schema, so the last one is kept.
        """
        if self._schema is None or self._schema[0] is not schema:
            self._schema = (schema, anthropic.transform_schema(dict(schema)))
        return self._schema[1]

    async def _complete(self, request: ChatRequest) -> Completion:
        started = time.perf_counter()
        try:
            response = await self.client.post(
                self._url, cast_to=httpx2.Response, body=self.payload(request)
            )
        except anthropic.AnthropicError as exc:
            raise self.foreign(exc) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError) as exc:
            # What the SDK lets through while it builds a request or reads a body.
            scrub_chain(exc, self._key.secrets)
            raise RequestRejected(
                f"{self.name}: the request could not be made: {scrub(str(exc), self._key.secrets)}"
            ) from exc
        except Exception as exc:
            # A fault of ours or of the SDK ends the run, and its traceback is printed.
            scrub_chain(exc, self._key.secrets)
            raise
        return self._read(response, time.perf_counter() - started)

    def _read(self, response: httpx2.Response, seconds: float) -> Completion:
        try:
            body = read_json(response.content)
        except ValueError as exc:
            raise TransientError(
                f"{self.name} answered with a body that is not JSON", may_be_billed=True
            ) from exc
        answer = read_message(body, who=self.name, headers=response.headers, seconds=seconds)
        return replace(answer, text=without(answer.text, self._key.secrets))

    def foreign(self, exc: anthropic.AnthropicError) -> ProviderError:
        """The SDK's error as ours; its secrets are taken out first."""
        secrets = self._key.secrets
        scrub_chain(exc, secrets)
        found = translate(exc, self.name, secrets)
        return found or RequestRejected(f"{self.name}: {scrub(str(exc), secrets)}")


def _content(message: Message) -> str | list[dict[str, Any]]:
    """A message's content: a string, or blocks where it shows images.

    Images go first, where these models read them best
    (https://platform.claude.com/docs/en/build-with-claude/vision).
    """
    if not message.images:
        return clean(message.text)
    blocks: list[dict[str, Any]] = [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": image.media_type, "data": image.base64},
        }
        for image in message.images
    ]
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    return blocks + [{"type": "text", "text": clean(text)} for text in texts]


def translate(exc: Exception, who: str, secrets: tuple[str, ...]) -> ProviderError | None:
    """Our error for one of the SDK's, None for a class that nobody has thought about yet."""
    if isinstance(exc, anthropic.APIStatusError):
        return error_for_status(
            exc.status_code, who=who, body=exc.body, headers=exc.response.headers, secrets=secrets
        )
    message = f"{who}: {scrub(str(exc), secrets)}"
    if isinstance(exc, anthropic.APIConnectionError):
        late = isinstance(exc, anthropic.APITimeoutError) and exc.__cause__ is None
        if late or timed_out(exc):
            return CallTimedOut(message)
        return Unreachable(
            f"{who}: {connection_lost(exc, secrets)}", may_be_billed=not never_connected(exc)
        )
    for known in type(exc).__mro__:
        if known.__name__ in _OTHERS:
            return _OTHERS[known.__name__](message)
    return None


def read_message(body: Any, *, who: str, headers: Mapping[str, str], seconds: float) -> Completion:
    """A Completion from the JSON of a message. Raises TransientError for anything else."""
    content = body.get("content") if isinstance(body, dict) else None
    if not isinstance(content, list):
        raise TransientError(f"{who} answered without any content", may_be_billed=True)
    # Thinking blocks come first on models that think; only text is the answer.
    text = "".join(
        block["text"]
        for block in content
        if isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
    )
    stop = _STOPS.get(str(body.get("stop_reason")), "end")
    return Completion(text, read_usage(body.get("usage")), stop, seconds, headers)


def read_usage(usage: Any) -> Tokens:
    """Tokens from a `usage` object; zeros where the server reports none.

    Anthropic counts cached input apart from `input_tokens`; our `input` is all of it.
    """
    if not isinstance(usage, Mapping):
        return Tokens()
    cached = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    return Tokens(
        input=count(usage.get("input_tokens")) + cached + written,
        output=count(usage.get("output_tokens")),
        cached=cached,
        written=written,
    )
