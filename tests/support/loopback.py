"""A server on 127.0.0.1 that speaks OpenAI's and Anthropic's wire formats, for the real SDKs.

    with LoopbackServer() as server:
        ...                      # judge.base_url = server.openai_url or server.anthropic_url
        server.requests          # every request, in order of arrival

What it says is scripted by `answer`, a function of the request that returns the answer's
text (or a dict, sent as JSON), or a Fault; and by `faults`, a function of the request's
number from 0 that returns a Fault or None. By default it picks a label from the schema's
enum by a hash of the first user message, so that a re-ask and a second run agree.

Like the real services it refuses a payload that they would refuse: see `complaint`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

OPENAI, ANTHROPIC = "openai", "anthropic"
HANG_SECONDS = 3600.0
PATIENCE_SECONDS = 30.0
IMAGE_TOKENS = {OPENAI: 2833 + 8 * 5667, ANTHROPIC: 4784}
"""The dearest image of gpt-4o-mini, and of the newest Claude models."""


@dataclass(frozen=True)
class Received:
    """One request. `headers` have lower-case names; `number` counts from 0."""

    number: int
    wire: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def schema(self) -> dict[str, Any] | None:
        if self.wire == ANTHROPIC:
            found = (self.body.get("output_config") or {}).get("format") or {}
        else:
            found = (self.body.get("response_format") or {}).get("json_schema") or {}
        return found.get("schema")

    @property
    def user(self) -> str:
        """The text of the first user message: the question, also in a re-ask."""
        content = next(m["content"] for m in self.body["messages"] if m["role"] == "user")
        if isinstance(content, str):
            return content
        return "\n".join(part["text"] for part in content if part["type"] == "text")

    @property
    def images(self) -> list[tuple[str, bytes]]:
        """Media type and bytes of each image, as they come off the wire."""
        found = []
        for message in self.body["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else []:
                if part["type"] == "image":
                    kind, data = part["source"]["media_type"], part["source"]["data"]
                elif part["type"] == "image_url":
                    head, _, data = part["image_url"]["url"].partition(";base64,")
                    kind = head.removeprefix("data:")
                else:
                    continue
                found.append((kind, base64.b64decode(data, validate=True)))
        return found


@dataclass(frozen=True)
class Fault:
    """Something else than a plain answer. Fields left alone behave as in a plain answer."""

    status: int = 200
    message: str = "scripted fault"
    code: str | None = None
    type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hang: bool = False
    disconnect: bool = False
    text: str | None = None
    stop: str | None = None
    refusal: str | None = None
    truncate: bool = False
    drop_usage: bool = False


def rate_limited(retry_after: str | None = None, **headers: str) -> Fault:
    extra = {"Retry-After": retry_after} if retry_after is not None else {}
    return Fault(429, "Rate limit reached", "rate_limit_exceeded", "requests", {**extra, **headers})


def server_error(status: int = 500) -> Fault:
    return Fault(status, "The server had an error", type="server_error")


def truncated_json() -> Fault:
    return Fault(truncate=True)


def hang() -> Fault:
    return Fault(hang=True)


def off_schema(label: str = "NO_SUCH_LABEL") -> Fault:
    return Fault(text=json.dumps({"rationale": "", "label": label, "confidence": 0.5}))


def refusal(text: str = "I can't help with that.") -> Fault:
    return Fault(refusal=text)


Answer = str | Mapping[str, Any] | Fault


class LoopbackServer:
    """A server in a thread of its own. `latency` is in seconds.

    With `together`, nothing is answered before so many requests are in flight at once
    (or `PATIENCE_SECONDS` have passed): a count of connections that needs no timing.
    """

    def __init__(
        self,
        answer: Callable[[Received], Answer] | None = None,
        *,
        faults: Callable[[int], Fault | None] | None = None,
        latency: float = 0.0,
        together: int = 1,
    ) -> None:
        self.answer = answer or default_answer
        self.faults = faults or (lambda _number: None)
        self.latency = latency
        self.together = together
        self.requests: list[Received] = []
        self.most_in_flight = 0
        self.port = 0
        self._in_flight = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        assert self._ready.wait(10), "the loopback server did not start"
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    openai_url = property(lambda self: f"{self.url}/v1")
    anthropic_url = property(lambda self: self.url)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/chat/completions", partial(self._handle, OPENAI))
        router.add_post("/v1/messages", partial(self._handle, ANTHROPIC))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._gathered = asyncio.Event()
        app = web.Application(client_max_size=64 * 1024**2)
        self.add_routes(app.router)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, wire: str, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = json.loads(await request.read())
        received = Received(len(self.requests), wire, request.path, headers, body)
        self.requests.append(received)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        if self._in_flight >= self.together:
            self._gathered.set()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gathered.wait(), PATIENCE_SECONDS)
            if self.latency:
                await asyncio.sleep(self.latency)
            found = complaint(received)
            reply = found or self.faults(received.number) or self.answer(received)
            fault = reply if isinstance(reply, Fault) else Fault()
            if fault.hang:
                await asyncio.sleep(HANG_SECONDS)
            if fault.disconnect:
                request.transport.abort()
                return web.Response()
            return respond(received, reply, fault)
        finally:
            self._in_flight -= 1


def respond(received: Received, reply: Answer, fault: Fault) -> web.Response:
    """An answer over HTTP."""
    payload = body_of(received, reply, fault)
    raw = fault.raw if fault.raw is not None else json.dumps(payload).encode()
    if fault.truncate:
        raw = raw[: len(raw) // 2]
    return web.Response(
        status=fault.status, body=raw, headers=fault.headers, content_type="application/json"
    )


def body_of(received: Received, reply: Answer, fault: Fault) -> dict[str, Any]:
    """The JSON of an answer, or of its error."""
    if fault.status >= 300:
        payload = _error(received.wire, fault)
    else:
        said = fault.text if isinstance(reply, Fault) else reply
        if said is None:
            said = default_answer(received)
        text = said if isinstance(said, str) else json.dumps(said)
        payload = (_openai if received.wire == OPENAI else _anthropic)(received, text, fault)
        if fault.drop_usage:
            del payload["usage"]
    return payload


def _error(wire: str, fault: Fault) -> dict[str, Any]:
    error = {"message": fault.message, "type": fault.type or "invalid_request_error"}
    if wire == OPENAI:
        return {"error": {**error, "param": None, "code": fault.code}}
    details = {"details": {"error_code": fault.code}} if fault.code else {}
    return {"type": "error", "error": {**error, **details}, "request_id": "req_loopback"}


def _openai(received: Received, text: str, fault: Fault) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    if fault.refusal is not None:
        message.update(content=None, refusal=fault.refusal)
    asked, said = _sizes(received, text)
    return {
        "id": f"chatcmpl-{received.number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": received.body["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": fault.stop or "stop",
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
            "prompt_tokens_details": {"cached_tokens": asked // 2, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _anthropic(received: Received, text: str, fault: Fault) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    stop = fault.stop or "end_turn"
    if fault.refusal is not None:
        content, stop = [], "refusal"
    asked, said = _sizes(received, text)
    return {
        "id": f"msg_{received.number}",
        "type": "message",
        "role": "assistant",
        "model": received.body["model"],
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": asked - asked // 2,
            "cache_read_input_tokens": asked // 2,
            "cache_creation_input_tokens": 0,
            "output_tokens": said,
        },
    }


def _sizes(received: Received, text: str) -> tuple[int, int]:
    """Input and output tokens, as a tokenizer of four bytes a token would count them.

    An image is billed at the most that any has on this wire.
    """
    asked = len(json.dumps(received.body["messages"])) + len(str(received.body.get("system", "")))
    images = received.images
    asked -= sum(len(base64.b64encode(data)) for _, data in images)
    return asked // 4 + len(images) * IMAGE_TOKENS[received.wire], max(1, len(text) // 4)


def default_answer(received: Received) -> str:
    """JSON that fits the schema; of an enum, the value that the question's hash points at."""
    seed = int(hashlib.sha256(received.user.encode()).hexdigest(), 16)
    schema = received.schema
    return json.dumps(_fill(schema, seed) if schema is not None else {"label": None})


def _fill(schema: Mapping[str, Any], seed: int) -> Any:
    if "enum" in schema:
        return schema["enum"][seed % len(schema["enum"])]
    if "const" in schema:
        return schema["const"]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _fill(schema[union][0], seed)
    kind = schema.get("type")
    if kind == "object":
        return {name: _fill(each, seed) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [_fill(schema["items"], seed)]
    return {"string": "because", "number": 0.9, "integer": 1, "boolean": True}.get(kind)


def complaint(received: Received) -> Fault | None:
    """The 4xx that the real service would give for this payload."""
    body, headers = received.body, received.headers
    refuse = lambda text: Fault(400, text, type="invalid_request_error")  # noqa: E731
    if received.wire == ANTHROPIC:
        # The SDK sends its key as a bearer token since 2.11; x-api-key is the older way.
        if not headers.keys() & {"x-api-key", "authorization"}:
            return Fault(401, "x-api-key header is required", type="authentication_error")
        if "anthropic-version" not in headers:
            return refuse("anthropic-version: header is required")
        if "max_tokens" not in body:
            return refuse("max_tokens: Field required")
        roles_fit = all(message["role"] != "system" for message in body["messages"])
        types_fit = all(kind == media_type_of(data) for kind, data in received.images)
        if not (roles_fit and types_fit):
            return refuse("messages: Unexpected role 'system', or not the provided media type")
    elif not headers.get("authorization", "").startswith("Bearer "):
        return Fault(401, "You didn't provide an API key", type="invalid_request_error")
    if {"max_tokens", "max_completion_tokens"} <= body.keys():
        return refuse("max_tokens and max_completion_tokens cannot both be set")
    unsupported = (
        {"minimum", "maximum", "minLength", "maxLength"} if received.wire == ANTHROPIC else set()
    )
    for part in _objects(received.schema or {}):
        if part.get("additionalProperties") is not False:
            return refuse("'additionalProperties' is required to be supplied and to be false")
        if received.wire == OPENAI and set(part.get("required", ())) != set(part["properties"]):
            return refuse("'required' is required to be an array including every key in properties")
        for name, each in part["properties"].items():
            if found := unsupported & each.keys():
                return refuse(f"For {name!r}, properties {sorted(found)} are not supported")
    return None


def media_type_of(data: bytes) -> str:
    """What an image's bytes are."""
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"


def _objects(schema: Any) -> list[dict[str, Any]]:
    """Every object schema inside a schema."""
    if isinstance(schema, list):
        return [found for each in schema for found in _objects(each)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "object" and "properties" in schema else []
    return own + [found for each in schema.values() for found in _objects(each)]
