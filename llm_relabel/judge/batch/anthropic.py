"""Anthropic's Message Batches: the requests travel in the call that creates the batch."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import IO, Any, cast

import anthropic
import httpx2
from anthropic.types.messages import MessageBatch

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import ProviderError, TransientError
from llm_relabel.judge.batch.api import BatchState
from llm_relabel.judge.batch.wire import Calls
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.providers.anthropic import AnthropicProvider, read_message
from llm_relabel.judge.providers.faults import error_for_status, without
from llm_relabel.judge.providers.keys import Key

PATH = "/v1/messages/batches"
PAGE = 100
_HEAD, _TAIL = b'{"requests":[', b"]}"
_CHUNK = 1 << 18

# An error inside the results has no HTTP status; these are the statuses of its types
# (https://platform.claude.com/docs/en/api/errors).
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicBatches:
    """The message batches of one Anthropic workspace. They carry no mark: custom ids do."""

    most_requests = 100_000
    most_bytes = 256_000_000 - len(_HEAD + _TAIL)
    marks = False

    def __init__(self, member: JudgeMember, key: Key | None) -> None:
        self._chat = AnthropicProvider(member, key)
        self._client = self._chat.client
        self._batches = self._client.messages.batches
        self._secrets = key.secrets if key else ()
        self._call = Calls(
            member.model,
            member.timeout,
            self._secrets,
            sdk=anthropic.AnthropicError,
            translate=self._chat.foreign,
            connection=(httpx2.HTTPError, httpx2.StreamError),
        )

    def line(self, custom_id: str, request: ChatRequest) -> bytes:
        """One request of the batch: the chat provider's own body as `params`."""
        record = {"custom_id": custom_id, "params": self._chat.payload(request)}
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"

    async def submit(self, lines: IO[bytes], mark: str) -> BatchState:
        """Create the batch. Its body is sent as it is read: it may be 256 MB."""
        del mark  # it has no place but the custom ids
        # The newline that ends each line becomes a comma, and the last one is left out.
        size = len(_HEAD) + os.fstat(lines.fileno()).st_size - 1 + len(_TAIL)
        batch = await self._call.creating(
            self._client.post(
                PATH,
                cast_to=MessageBatch,
                content=_body(lines),
                options={
                    "headers": {"Content-Type": "application/json", "Content-Length": str(size)}
                },
            ),
            size=size,
        )
        return _state(batch)

    async def recent(self) -> AsyncGenerator[BatchState, None]:
        """The workspace's batches, newest first."""
        page = await self._call(_awaited(self._batches.list(limit=PAGE)))
        while True:
            for batch in page.data:
                yield _state(batch)
            if not page.has_next_page():
                return
            page = await self._call(page.get_next_page())

    async def state(self, batch_id: str) -> BatchState:
        """One batch as it stands."""
        return _state(await self._call(self._batches.retrieve(batch_id)))

    async def results(
        self, batch_id: str
    ) -> AsyncGenerator[tuple[str, Completion | ProviderError], None]:
        """The lines of the results.

        Asked for at our own address: the SDK would follow `results_url`, and take the key
        wherever a server points.
        """
        response = await self._call(
            self._client.get(
                f"{PATH}/{batch_id}/results",
                cast_to=cast(Any, httpx2.Response),
                options={"headers": {"Accept": "application/x-jsonl"}},
                stream=True,
                stream_cls=anthropic.AsyncStream[Any],
            )
        )
        answer = cast(httpx2.Response, response)
        try:
            async for record in self._call.objects(answer.aiter_bytes()):
                yield str(record.get("custom_id")), self._read(record)
        finally:
            await answer.aclose()

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop the batch."""
        await self._call(self._batches.cancel(batch_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._chat.aclose()

    def _read(self, record: Mapping[str, Any]) -> Completion | ProviderError:
        who, result = self._call.who, record.get("result")
        result = result if isinstance(result, dict) else {}
        kind = result.get("type")
        if kind == "succeeded":
            try:
                answer = read_message(result.get("message"), who=who, headers={}, seconds=0.0)
                return replace(answer, text=without(answer.text, self._call.secrets))
            except ProviderError as unread:
                return unread
        if kind != "errored":
            return TransientError(f"{who}: a request of the batch has no answer: {kind}")
        body = result.get("error")
        error = body.get("error", body) if isinstance(body, dict) else None
        name = error.get("type") if isinstance(error, dict) else None
        return error_for_status(
            _STATUS.get(str(name), 500), who=who, body=body, headers={}, secrets=self._secrets
        )


def _state(batch: MessageBatch) -> BatchState:
    counts = batch.request_counts
    lost = counts.errored + counts.canceled + counts.expired
    return BatchState(
        batch_id=batch.id,
        ended=batch.processing_status == "ended",
        created=batch.created_at.timestamp(),
        total=counts.processing + counts.succeeded + lost,
        done=counts.succeeded,
        failed=lost,
    )


async def _body(lines: IO[bytes]) -> AsyncIterator[bytes]:
    """The lines as one JSON object, in pieces."""
    yield _HEAD
    chunk = lines.read(_CHUNK)
    while chunk:
        following = lines.read(_CHUNK)
        # JSON text has no raw newline inside, so each one ends a line.
        yield (chunk if following else chunk.removesuffix(b"\n")).replace(b"\n", b",")
        chunk = following
    yield _TAIL


async def _awaited(pages: Any) -> Any:
    """The SDK's paginator is awaitable and no coroutine."""
    return await pages
