"""Small things that every provider's wire format needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, TypeVar

import aiohttp

from llm_relabel.errors import CallTimedOut
from llm_relabel.images import ImagePart
from llm_relabel.judge.providers.faults import scrub
from llm_relabel.records import Message

Answered = TypeVar("Answered")

KEEPALIVE_SECONDS = 4.0
"""Below the 5 seconds after which uvicorn, and so vLLM, closes an idle connection."""

IMAGE_DETAIL = "high"
"""Said outright: the models' own choice differs, and the token rules are those of this one."""

MOST_TOKENS = 10**9
"""No answer has more: a greater count is no count, and the call is charged at its worst case."""


class PlainSending:
    """Mixed into an SDK's httpx client: one exchange, and none of what `send` adds to it.

    No cookie is kept, no redirect followed (it would hand the key to a host that nobody
    named), no authentication negotiated. That costs httpx an eighth of a call's CPU even where
    there is nothing to do.
    """

    async def send(self: Any, request: Any, *, stream: bool = False, **_settings: Any) -> Any:
        """The answer to `request`, read unless `stream`."""
        response = await self._transport_for_url(request.url).handle_async_request(request)
        response.request = request
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response


def clean(text: str) -> str:
    """`text` with lone surrogates replaced: no JSON body can carry them as UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def chat_content(message: Message) -> str | list[dict[str, Any]]:
    """A message's content in OpenAI's form: a string, or a list of parts where it shows images."""
    if not message.images:
        return clean(message.text)
    return [
        {"type": "image_url", "image_url": {"url": _data_url(part), "detail": IMAGE_DETAIL}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": clean(part.text)}
        for part in message.content
    ]


# Characters. llama.cpp, vLLM and Ollama make a grammar of it; much more is slow for them.
LONGEST_RATIONALE = 300


class AnswerFormat:
    """`response_format` in OpenAI's form. A judge has one schema, so the last one is kept.

    `bounds`: whether the server is known to take the bounds of numbers; elsewhere they are left
    out, and the prompt says them. `short`: whether the rationale is given a length, which servers
    of one's own keep to and a small model needs: it may otherwise write one without end.
    """

    def __init__(self, *, bounds: bool, short: bool = False) -> None:
        self._bounds = bounds
        self._short = short
        self._last: tuple[Mapping[str, Any], dict[str, Any]] | None = None

    def of(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The format that asks for an answer of this schema."""
        if self._last is None or self._last[0] is not schema:
            sent = dict(schema) if self._bounds else _without_bounds(schema)
            if self._short and "rationale" in sent.get("properties", {}):
                rationale = {**sent["properties"]["rationale"], "maxLength": LONGEST_RATIONALE}
                sent["properties"] = {**sent["properties"], "rationale": rationale}
            named = {"name": "answer", "strict": True, "schema": sent}
            self._last = (schema, {"type": "json_schema", "json_schema": named})
        return self._last[1]


def _without_bounds(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        bounded = schema.get("type") in ("number", "integer")
        return {
            name: _without_bounds(value)
            for name, value in schema.items()
            if not (bounded and name in ("minimum", "maximum"))
        }
    return [_without_bounds(each) for each in schema] if isinstance(schema, list) else schema


def _data_url(image: ImagePart) -> str:
    return f"data:{image.media_type};base64,{image.base64}"


def count(value: Any) -> int:
    """A token count as a server wrote it; zero for anything that is not one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value <= MOST_TOKENS else 0


def read_json(data: bytes) -> Any:
    """The JSON of a body. Raises ValueError for anything else, however deep it is nested."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from, nearest first."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def timed_out(exc: BaseException) -> bool:
    """Whether a time limit is behind a connection error, and the connection had been made.

    aiohttp's own classes are looked at: the transports between it and the SDKs map a
    refused connection to a timeout, and a timed-out call may be charged while a refused
    one is not.
    """
    return not never_connected(exc) and any(isinstance(c, TimeoutError) for c in causes(exc))


def never_connected(exc: BaseException) -> bool:
    """Whether no connection could be made, so that nothing was sent and nothing is charged."""
    return any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes(exc))


def connection_lost(exc: BaseException, secrets: tuple[str, ...]) -> str:
    """What happened to a connection, in the words of the lowest layer that has any."""
    said = [scrub(str(cause), secrets) for cause in causes(exc) if str(cause)]
    return f"no connection, or it was lost: {said[-1] if said else type(exc).__name__}"


async def within(call: Awaitable[Answered], timeout: float, who: str) -> Answered:
    """`call`, or CallTimedOut once `timeout` seconds have passed on the wall clock.

    The SDKs' own timeouts count each read apart, so a slow trickle would never end.
    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await call
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise CallTimedOut(f"{who} gave no answer within {timeout:g} s") from error
