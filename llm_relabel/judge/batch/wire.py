"""What the batch files of the providers share: one guarded call, and answers line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from llm_relabel.errors import ProviderError, RateLimited, TransientError, Unreachable
from llm_relabel.judge.providers.faults import scrub, scrub_chain
from llm_relabel.judge.providers.wire import (
    connection_lost,
    never_connected,
    read_json,
    within,
)

SLOWEST_UPLOAD = 100_000  # bytes a second that a submission is given time for

Answered = TypeVar("Answered")
Foreign = tuple[type[Exception], ...]


class Calls:
    """Makes single calls, in time, and turns what they raise into our errors."""

    def __init__(
        self,
        who: str,
        timeout: float,
        secrets: tuple[str, ...],
        *,
        sdk: type[Exception],
        translate: Callable[[Any], ProviderError],
        connection: Foreign,
    ) -> None:
        """`translate` maps the errors of class `sdk`; `connection` are those of a connection
        that the SDK lets through while an answer is read."""
        self.who = who
        self.timeout = timeout
        self.secrets = secrets
        self._sdk = sdk
        self._translate = translate
        self._connection: Foreign = (*connection, OSError)

    async def __call__(
        self, call: Awaitable[Answered], *, timeout: float | None = None
    ) -> Answered:
        """The result of `call`. Raises a ProviderError."""
        try:
            return await within(call, timeout or self.timeout, self.who)
        except self._sdk as exc:
            raise self._translate(exc) from exc
        except self._connection as exc:
            scrub_chain(exc, self.secrets)
            raise Unreachable(
                f"{self.who}: {connection_lost(exc, self.secrets)}",
                may_be_billed=not never_connected(exc),
            ) from exc
        except ValueError as exc:
            scrub_chain(exc, self.secrets)
            raise TransientError(
                f"{self.who} answered with a body that cannot be read: "
                f"{scrub(str(exc), self.secrets)}",
                may_be_billed=True,
            ) from exc

    async def creating(self, call: Awaitable[Answered], *, size: int) -> Answered:
        """As a plain call, one that creates a batch; `size` is in bytes.

        Its error says in `may_be_billed` whether the batch may exist: an error answer of a
        gateway (502, 504) does not say what the service behind it did.
        """
        try:
            return await self(call, timeout=self.upload_seconds(size))
        except TransientError as error:
            unsent = isinstance(error, Unreachable) and not error.may_be_billed
            error.may_be_billed = not (unsent or isinstance(error, RateLimited))
            raise

    def upload_seconds(self, size: int) -> float:
        """How long a request of `size` bytes may take."""
        return self.timeout + size / SLOWEST_UPLOAD

    async def objects(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
        """The JSON objects of a JSONL answer, as they arrive. Raises a ProviderError.

        Cut at newline bytes only: the SDKs' own line readers also cut at U+2028 and the like,
        which are legal inside a JSON string.
        """
        rest = b""
        while True:
            chunk = await self(anext(chunks, None))
            *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
            for line in lines:
                if line.strip():
                    yield self._object(line)
            if chunk is None:
                return

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            found = read_json(line)
        except ValueError as exc:
            raise TransientError(f"{self.who}: a line of the results is not JSON") from exc
        if not isinstance(found, dict):
            raise TransientError(f"{self.who}: a line of the results is not a JSON object")
        return found
