"""OpenAI's Batch API: a JSONL file is uploaded, and a batch made of it (Files and Batches)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Mapping
from typing import IO, Any, Final

import httpx
import openai
from openai.types import Batch

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import ProviderError, TransientError
from llm_relabel.judge.batch.api import BatchState
from llm_relabel.judge.batch.wire import Calls
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.providers.faults import error_for_status, scrub
from llm_relabel.judge.providers.keys import Key
from llm_relabel.judge.providers.openai import OpenAIProvider, read_completion

ENDPOINT: Final = "/v1/chat/completions"
MARK = "llm_relabel"  # the metadata key that holds our mark
PAGE = 100
ENDED = ("failed", "completed", "expired", "cancelled")
# What a batch says that was turned away because too much of the model is in the queue.
CROWDED = "token_limit_exceeded"


class OpenAIBatches:
    """The batches of one OpenAI-compatible account."""

    most_requests = 50_000
    most_bytes = 200_000_000
    marks = True

    def __init__(self, member: JudgeMember, key: Key | None) -> None:
        self._chat = OpenAIProvider(member, key)
        self._client = self._chat.client
        self._secrets = key.secrets if key else ()
        self._call = Calls(
            member.model,
            member.timeout,
            self._secrets,
            sdk=openai.OpenAIError,
            translate=self._chat.foreign,
            connection=(httpx.HTTPError, httpx.StreamError),
        )

    def line(self, custom_id: str, request: ChatRequest) -> bytes:
        """One request as a line of the input file: the chat provider's own body."""
        record = {
            "custom_id": custom_id,
            "method": "POST",
            "url": ENDPOINT,
            "body": self._chat.payload(request),
        }
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"

    async def submit(self, lines: IO[bytes], mark: str) -> BatchState:
        """Upload the file, then create the batch."""
        size = os.fstat(lines.fileno()).st_size
        try:
            uploaded = await self._call(
                self._client.files.create(
                    file=(f"{mark}.jsonl", lines, "application/jsonl"), purpose="batch"
                ),
                timeout=self._call.upload_seconds(size),
            )
        except TransientError as error:
            error.may_be_billed = False  # at worst a file lies there, and a file asks nothing
            raise
        batch = await self._call.creating(
            self._client.batches.create(
                completion_window="24h",
                endpoint=ENDPOINT,
                input_file_id=uploaded.id,
                metadata={MARK: mark},
            ),
            size=0,
        )
        return self._state(batch)

    async def recent(self) -> AsyncGenerator[BatchState, None]:
        """The account's batches, newest first."""
        page = await self._call(_awaited(self._client.batches.list(limit=PAGE)))
        while True:
            for batch in page.data:
                yield self._state(batch)
            if not page.has_next_page():
                return
            page = await self._call(page.get_next_page())

    async def state(self, batch_id: str) -> BatchState:
        """One batch as it stands."""
        return self._state(await self._call(self._client.batches.retrieve(batch_id)))

    async def results(
        self, batch_id: str
    ) -> AsyncGenerator[tuple[str, Completion | ProviderError], None]:
        """The lines of the output file and of the error file."""
        batch = await self._call(self._client.batches.retrieve(batch_id))
        for file_id in (batch.output_file_id, batch.error_file_id):
            if not file_id:
                continue
            opened = self._client.files.with_streaming_response.content(file_id)
            response = await self._call(opened.__aenter__())
            try:
                async for record in self._call.objects(response.iter_bytes()):
                    yield str(record.get("custom_id")), self._read(record)
            finally:
                await response.close()

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop the batch."""
        await self._call(self._client.batches.cancel(batch_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._chat.aclose()

    def _read(self, record: Mapping[str, Any]) -> Completion | ProviderError:
        who, response = self._call.who, record.get("response")
        if not isinstance(response, dict):
            error = record.get("error")
            said = f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else ""
            return TransientError(
                f"{who}: a request of the batch has no answer: {scrub(said, self._secrets)}"
            )
        status, body = response.get("status_code"), response.get("body")
        if isinstance(status, int) and not 200 <= status < 300:
            return error_for_status(status, who=who, body=body, headers={}, secrets=self._secrets)
        try:
            return read_completion(
                body if isinstance(body, dict) else {},
                who=who,
                headers={},
                secrets=self._secrets,
                seconds=0.0,
            )
        except ProviderError as error:
            return error

    def _state(self, batch: Batch) -> BatchState:
        counts, metadata = batch.request_counts, batch.metadata
        problem, crowded = None, False
        if batch.status == "failed" and not batch.output_file_id:
            errors = (batch.errors.data if batch.errors else None) or []
            told = "; ".join(f"{error.code}: {error.message}" for error in errors[:3])
            problem = scrub(told, self._secrets) or "the provider does not say why"
            crowded = any(error.code == CROWDED for error in errors)
        return BatchState(
            batch_id=batch.id,
            ended=batch.status in ENDED,
            created=float(batch.created_at or 0),
            total=counts.total if counts else 0,
            done=counts.completed if counts else 0,
            failed=counts.failed if counts else 0,
            mark=metadata.get(MARK) if isinstance(metadata, dict) else None,
            problem=problem,
            crowded=crowded,
        )


async def _awaited(pages: Any) -> Any:
    """The SDK's paginator is awaitable and no coroutine."""
    return await pages
