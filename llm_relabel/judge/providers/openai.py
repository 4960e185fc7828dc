"""`openai/NAME`: the openai SDK, for OpenAI itself and for any server that speaks its format.

The fast path of the SDK: `client.post` with a plain dictionary and the raw response, through
its aiohttp transport. `chat.completions.create` walks its typed dictionaries on every call
and costs twice the CPU; the default transport, which litellm's pin leaves us with, five times.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import httpx
import openai

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import (
    AccessDenied,
    CallTimedOut,
    ContentRefused,
    ProviderError,
    RequestRejected,
    TransientError,
    Unreachable,
)
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.providers.faults import (
    Unlogged,
    error_for_status,
    scrub,
    scrub_chain,
    without,
)
from llm_relabel.judge.providers.keys import DUMMY, Key, endpoint, is_custom, is_loopback, is_own
from llm_relabel.judge.providers.wire import (
    KEEPALIVE_SECONDS,
    AnswerFormat,
    PlainSending,
    chat_content,
    connection_lost,
    count,
    never_connected,
    read_json,
    timed_out,
    within,
)
from llm_relabel.records import Tokens

# Classes that carry no HTTP status and are not a matter of the connection, by name: some are
# not public. We use nothing that raises the lower half; they are mapped so that a test can
# hold this list complete.
_OTHERS: dict[str, type[ProviderError]] = {
    "APIResponseValidationError": TransientError,
    "ContentFilterFinishReasonError": ContentRefused,
    "LengthFinishReasonError": RequestRejected,
    "SubjectTokenProviderError": AccessDenied,
    "MutuallyExclusiveAuthError": AccessDenied,
    "APIRemovedInV1": RequestRejected,
    "MissingDependencyError": RequestRejected,
    "StreamAlreadyConsumed": RequestRejected,
    "WebSocketConnectionClosedError": Unreachable,
    "WebSocketQueueFullError": TransientError,
    "_AmbiguousModuleClientUsageError": RequestRejected,
}


class _Client(PlainSending, openai.DefaultAioHttpClient):
    """The SDK's aiohttp client, less what we never use."""


class OpenAIProvider:
    """One OpenAI-compatible endpoint: single attempts, no environment variable obeyed."""

    def __init__(self, section: JudgeMember, key: Key | None) -> None:
        self.name = section.model
        self.provider = section.provider
        self.model = section.name
        self.base_url = endpoint(section)
        self._key = key or Key(DUMMY)
        if self._key.secrets:
            logging.getLogger("openai._base_client").addFilter(Unlogged(self._key.secrets))
        self._custom = is_custom(section)
        # Older and other servers know only the old name; OpenAI's reasoning models only the new.
        self._limit_name = "max_tokens" if self._custom else "max_completion_tokens"
        self._format = AnswerFormat(
            bounds=not self._custom, short=self._custom and is_own(self.base_url or "")
        )
        self.client = openai.AsyncOpenAI(
            api_key=self._key.value,
            base_url=self.base_url,
            max_retries=0,
            timeout=None,
            http_client=_Client(
                # With no limit of our own aiohttp would apply its default of 100.
                limits=httpx.Limits(
                    max_connections=section.concurrency, keepalive_expiry=KEEPALIVE_SECONDS
                ),
                timeout=None,
                follow_redirects=False,
                trust_env=not is_loopback(self.base_url or ""),
            ),
        )
        # Whole: the SDK takes longer to join the two at every call than to write the body.
        self._url = str(self.client.base_url).rstrip("/") + "/chat/completions"
        # The SDK fills these from the environment whenever it is given none.
        self.client.organization = None
        self.client.project = None
        self.client.admin_api_key = None
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
            "messages": [
                {"role": message.role, "content": chat_content(message)}
                for message in request.messages
            ],
            self._limit_name: request.max_output_tokens,
        }
        if request.schema is not None:
            body["response_format"] = self._format.of(request.schema)
        body.update(request.params)
        return body

    async def _complete(self, request: ChatRequest) -> Completion:
        started = time.perf_counter()
        try:
            response = await self.client.post(
                self._url,
                cast_to=httpx.Response,
                body=self.payload(request),
                # An admin key in the environment must not ride along.
                options={"security": {"bearer_auth": True}},
            )
        except openai.OpenAIError as exc:
            raise self.foreign(exc) from exc
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError) as exc:
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

    def _read(self, response: httpx.Response, seconds: float) -> Completion:
        try:
            body = read_json(response.content)
        except ValueError as exc:
            raise TransientError(
                f"{self.name} answered with a body that is not JSON", may_be_billed=True
            ) from exc
        if not isinstance(body, dict):
            raise TransientError(
                f"{self.name} answered with JSON that is not an object", may_be_billed=True
            )
        return read_completion(
            body,
            who=self.name,
            headers=response.headers,
            secrets=self._key.secrets,
            seconds=seconds,
        )

    def foreign(self, exc: openai.OpenAIError) -> ProviderError:
        """The SDK's error as ours; its secrets are taken out first."""
        secrets = self._key.secrets
        scrub_chain(exc, secrets)
        found = translate(exc, self.name, secrets)
        return found or RequestRejected(f"{self.name}: {scrub(str(exc), secrets)}")


def translate(exc: Exception, who: str, secrets: tuple[str, ...]) -> ProviderError | None:
    """Our error for one of the SDK's, None for a class that nobody has thought about yet."""
    if isinstance(exc, openai.APIStatusError):
        return error_for_status(
            exc.status_code, who=who, body=exc.body, headers=exc.response.headers, secrets=secrets
        )
    message = f"{who}: {scrub(str(exc), secrets)}"
    if isinstance(exc, openai.APIConnectionError):
        # The aiohttp transport reports refused and dropped connections as timeouts too.
        late = isinstance(exc, openai.APITimeoutError) and exc.__cause__ is None
        if late or timed_out(exc):
            return CallTimedOut(message)
        return Unreachable(
            f"{who}: {connection_lost(exc, secrets)}", may_be_billed=not never_connected(exc)
        )
    for known in type(exc).__mro__:
        if known.__name__ in _OTHERS:
            return _OTHERS[known.__name__](message)
    return None


def read_completion(
    body: Mapping[str, Any],
    *,
    who: str,
    headers: Mapping[str, str],
    secrets: tuple[str, ...],
    seconds: float,
) -> Completion:
    """A Completion from the JSON of a chat completion."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        # Some gateways answer 200 and put the fault, status and all, into the body.
        error = body.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and code >= 400:
            raise error_for_status(code, who=who, body=body, headers=headers, secrets=secrets)
        raise TransientError(
            f"{who} answered without a choice: {scrub(str(error or ''), secrets)}",
            may_be_billed=True,
        )
    tokens = read_usage(body.get("usage"))
    finish = choice.get("finish_reason")
    if message.get("refusal") or finish == "content_filter":
        said = without(_text(message.get("refusal")), secrets)
        return Completion(said, tokens, "refusal", seconds, headers)
    said = _text(message.get("content"))
    if not said.strip() and finish != "length":
        # Some servers take a reasoning model's whole output for its thoughts.
        said = _text(message.get("reasoning_content") or message.get("reasoning"))
    text = without(said, secrets)
    return Completion(text, tokens, "length" if finish == "length" else "end", seconds, headers)


def read_usage(usage: Any) -> Tokens:
    """Tokens from a `usage` object; zeros where the server reports none."""
    if not isinstance(usage, Mapping):
        return Tokens()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Tokens(
        input=count(usage.get("prompt_tokens")),
        output=count(usage.get("completion_tokens")),
        cached=count(cached),
    )


def _text(content: Any) -> str:
    """The text of a message; some servers send a list of parts."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
