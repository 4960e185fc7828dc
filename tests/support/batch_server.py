"""The batch APIs of OpenAI and Anthropic on 127.0.0.1, beside the chat APIs of `loopback.py`.

    with BatchServer() as server:
        server.calls             # every HTTP request to a batch API, in order
        server.batches           # every batch that exists, oldest first
        server.requests          # every row that was worked on, in order

It lives in the test's process, so it outlives the client that it kills. What goes wrong is
scripted by `trouble`, a function of a Call that returns a Trouble or None, and by `fate`, a
function of a row's request and of how often its question came before, that returns an answer,
a Fault, EXPIRED, LOST, or None for the plain answer of `answer`.

A batch ends after it was looked at `looks` times; while `hold` is set, none ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from queue import Queue
from typing import Any

from aiohttp import web
from loopback import (
    ANTHROPIC,
    OPENAI,
    Answer,
    Fault,
    LoopbackServer,
    Received,
    body_of,
    complaint,
)

EXPIRED, LOST = "expired", "lost"
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CHAT_PATHS = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages"}


@dataclass(frozen=True)
class Call:
    """One HTTP request. `step` is upload, create, list, get, cancel, output, errors or results."""

    number: int
    wire: str
    step: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with a call.

    `done`: the service did its work first; `half`: half of the answer's body has left by then.
    Then comes the `fault`, or the client is killed, or else the connection breaks.
    """

    done: bool = False
    half: bool = False
    kill: bool = False
    fault: Fault | None = None


@dataclass
class Batch:
    """A batch at the provider. `rows` are (custom id, body of the request); `ends` its results."""

    id: str
    wire: str
    rows: list[tuple[str, dict[str, Any]]]
    mark: Mapping[str, str] | None = None
    created: float = field(default_factory=time.time)
    looks: int = 0
    cancelling: bool = False
    failed: Mapping[str, str] | None = None
    lines: list[tuple[str, dict[str, Any]]] | None = None
    """(outcome, line of the results), once it has ended."""

    @property
    def ended(self) -> bool:
        return self.lines is not None

    def count(self, *outcomes: str) -> int:
        return sum(outcome in outcomes for outcome, _ in self.lines or ())


class BatchServer(LoopbackServer):
    """Both batch APIs. `most_queued` rows of all unended batches is what OpenAI lets wait."""

    def __init__(
        self,
        answer: Callable[[Received], Answer] | None = None,
        *,
        trouble: Callable[[Call], Trouble | None] | None = None,
        fate: Callable[[Received, int], Answer | str | None] | None = None,
        looks: int = 2,
        page: int = 2,
        most_queued: int | None = None,
        whole: Callable[[Batch], str | None] | None = None,
    ) -> None:
        super().__init__(answer)
        self.trouble = trouble or (lambda _call: None)
        self.fate = fate or (lambda _received, _before: None)
        self.whole = whole or (lambda _batch: None)
        """A batch that expires as a whole, or is cancelled from outside: the status' name."""
        self.looks = looks
        self.page = page
        self.most_queued = most_queued
        self.hold = False
        self.calls: list[Call] = []
        self.batches: list[Batch] = []
        self.files: dict[str, bytes] = {}
        self.usages: list[Mapping[str, Any]] = []
        """The usage of every answer, which is what a provider would bill."""
        self.victims: Queue[int] = Queue()
        self.broken: list[Exception] = []
        self._asked: Counter[str] = Counter()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        assert not self.broken, "the server itself is broken"

    def add_routes(self, router: web.UrlDispatcher) -> None:
        super().add_routes(router)
        openai, anthropic = partial(self._call, OPENAI), partial(self._call, ANTHROPIC)
        router.add_post("/v1/files", partial(openai, "upload"))
        router.add_get("/v1/files/{id}/content", partial(openai, "content"))
        for wire, path in ((openai, "/v1/batches"), (anthropic, "/v1/messages/batches")):
            router.add_post(path, partial(wire, "create"))
            router.add_get(path, partial(wire, "list"))
            router.add_get(path + "/{id}", partial(wire, "get"))
            router.add_post(path + "/{id}/cancel", partial(wire, "cancel"))
        router.add_get("/v1/messages/batches/{id}/results", partial(anthropic, "results"))

    async def _call(self, wire: str, step: str, request: web.Request) -> web.StreamResponse:
        body = b"" if step == "upload" else await request.read()
        form = await request.post() if step == "upload" else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        name = request.match_info.get("id", "")
        step = {"content": name.partition("-")[0]}.get(step, step)
        call = Call(len(self.calls), wire, step, headers, dict(request.query), body)
        self.calls.append(call)
        trouble = self.trouble(call)
        if trouble is not None and not (trouble.done or trouble.half):
            return await self._strike(trouble, request, call)
        try:
            payload = self._answer(call, name, form)
        except Exception as error:
            self.broken.append(error)
            raise
        if trouble is not None:
            return await self._strike(trouble, request, call, payload)
        if isinstance(payload, Fault):
            return _refusal(wire, payload)
        return web.Response(body=payload, content_type="application/json")

    async def _strike(
        self, trouble: Trouble, request: web.Request, call: Call, payload: Any = b""
    ) -> web.StreamResponse:
        if trouble.half:
            answer = web.StreamResponse(headers={"Content-Length": str(len(payload))})
            await answer.prepare(request)
            await answer.write(payload[: len(payload) // 2])
            await asyncio.sleep(0.1)  # for the client to work on what it has
        if trouble.fault is not None:
            return _refusal(call.wire, trouble.fault)
        if trouble.kill:
            os.kill(await asyncio.to_thread(self.victims.get), signal.SIGKILL)
        request.transport.abort()
        return web.Response()

    def _answer(self, call: Call, name: str, form: Mapping[str, Any]) -> bytes | Fault:
        """What the service does, and its answer's body."""
        if not call.headers.keys() & {"authorization", "x-api-key"}:
            return Fault(401, "no key", type="authentication_error")
        if call.step == "upload":
            return self._upload(form)
        if call.step == "create":
            made = self._create(call.wire, json.loads(call.body))
            return made if isinstance(made, Fault) else _json(self._shown(made))
        if call.step == "list":
            return self._list(call)
        if call.step in ("output", "errors"):
            return self.files.get(name, Fault(404, f"No such File object: {name}"))
        batch = next((b for b in self.batches if (b.id, b.wire) == (name, call.wire)), None)
        if batch is None:
            return Fault(404, f"no batch {name!r}", type="not_found_error")
        if call.step == "results":
            if batch.lines is None:
                return Fault(404, "the batch has not ended", type="not_found_error")
            return b"".join(_json(line) + b"\n" for _, line in batch.lines)
        if call.step == "cancel":
            batch.cancelling = True
        else:
            self._pass_time(batch)
        return _json(self._shown(batch))

    # Making batches

    def _upload(self, form: Any) -> bytes | Fault:
        if form.get("purpose") != "batch" or not form["file"].filename.endswith(".jsonl"):
            return Fault(400, "a batch needs a .jsonl file of purpose 'batch'")
        name = f"input-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        return _json(
            {
                "id": name, "object": "file", "bytes": len(self.files[name]),
                "created_at": int(time.time()), "filename": form["file"].filename,
                "purpose": "batch", "status": "processed",
            }
        )  # fmt: skip

    def _create(self, wire: str, asked: dict[str, Any]) -> Batch | Fault:
        if wire == OPENAI:
            lines = [json.loads(x) for x in self.files[asked["input_file_id"]].splitlines()]
            want = {"method": "POST", "url": CHAT_PATHS[OPENAI]}
            if asked["completion_window"] != "24h" or asked["endpoint"] != want["url"]:
                return Fault(400, "wrong window or endpoint")
            if any({k: line[k] for k in want} != want for line in lines):
                return Fault(400, "a line has another method or url than the batch")
            rows = [(line["custom_id"], line["body"]) for line in lines]
        else:
            rows = [(line["custom_id"], line["params"]) for line in asked["requests"]]
        names = [name for name, _ in rows]
        if len(set(names)) < len(names) or not all(map(CUSTOM_ID.fullmatch, names)):
            return Fault(400, "custom_id: not unique, or not of 1 to 64 letters, digits, _ and -")
        return self.add(wire, rows, asked.get("metadata"))

    def add(self, wire: str, rows: list[tuple[str, dict[str, Any]]], mark: Any = None) -> Batch:
        """A batch comes into being: the client's, or a stranger's in the same account."""
        name = ("batch" if wire == OPENAI else "msgbatch") + f"_{len(self.batches)}"
        batch = Batch(name, wire, rows, mark)
        waiting = sum(len(b.rows) for b in self.batches if not b.ended) + len(rows)
        if self.most_queued is not None and waiting > self.most_queued:
            batch.failed, batch.lines = {
                "code": "token_limit_exceeded",
                "message": "Enqueued token limit reached for toy in organization org-x.",
            }, []  # fmt: skip
        self.batches.append(batch)
        return batch

    # Working on batches

    def _pass_time(self, batch: Batch) -> None:
        batch.looks += 1
        if batch.ended or self.hold or batch.looks <= self.looks:
            return
        fate = "cancelled" if batch.cancelling else self.whole(batch)
        batch.lines = []
        for number, (name, body) in enumerate(batch.rows):
            # What stops a batch early stops it in the middle.
            stopped = fate is not None and number >= len(batch.rows) // 2
            line = self._stopped(batch.wire, name, fate) if stopped else None
            batch.lines.append(line or self._work_on(batch.wire, name, body))
        batch.lines.reverse()  # the order of the results is nobody's promise
        batch.lines = [(outcome, line) for outcome, line in batch.lines if outcome != LOST]
        if batch.wire == OPENAI:
            for kind, good in (("output", True), ("errors", False)):
                lines = [line for outcome, line in batch.lines if (outcome == "succeeded") == good]
                if lines:
                    self.files[f"{kind}-{batch.id}"] = b"".join(_json(x) + b"\n" for x in lines)

    def _stopped(self, wire: str, name: str, status: str) -> tuple[str, dict[str, Any]]:
        if wire == ANTHROPIC:
            word = "expired" if status == EXPIRED else "canceled"
            return word, {"custom_id": name, "result": {"type": word}}
        error = {"code": f"batch_{status}", "message": "This request could not be executed."}
        return status, {"id": f"batch_req_{name}", "custom_id": name, "response": None,
                        "error": error}  # fmt: skip

    def _work_on(self, wire: str, name: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        headers = {"authorization": "Bearer batch", "anthropic-version": "2023-06-01"}
        received = Received(len(self.requests), wire, CHAT_PATHS[wire], headers, body)
        self.requests.append(received)
        before = self._asked[received.user]
        self._asked[received.user] += 1
        reply = complaint(received) or self.fate(received, before) or self.answer(received)
        if reply == EXPIRED:
            return self._stopped(wire, name, EXPIRED)
        if reply == LOST:
            return LOST, {}
        fault = reply if isinstance(reply, Fault) else Fault()
        payload = body_of(received, reply, fault)
        good = fault.status < 300
        if good:
            self.usages.append(payload.get("usage", {}))
        if wire == OPENAI:
            response = {"status_code": fault.status, "request_id": name, "body": payload}
            return "succeeded" if good else "errored", {
                "id": f"batch_req_{name}", "custom_id": name, "response": response, "error": None
            }  # fmt: skip
        kind = {"type": "succeeded", "message": payload}
        if not good:
            kind = {"type": "errored", "error": payload}
        return kind["type"], {"custom_id": name, "result": kind}

    # Showing batches

    def _list(self, call: Call) -> bytes:
        newest = [batch for batch in reversed(self.batches) if batch.wire == call.wire]
        for batch in newest:
            self._pass_time(batch)
        cursor = call.query.get("after" if call.wire == OPENAI else "after_id")
        if cursor is not None:
            newest = newest[[batch.id for batch in newest].index(cursor) + 1 :]
        size = min(int(call.query.get("limit", 20)), self.page)
        shown = newest[:size]
        ends = {"first_id": shown[0].id, "last_id": shown[-1].id} if shown else {}
        return _json(
            {
                "object": "list", "data": [self._shown(batch) for batch in shown],
                "first_id": None, "last_id": None, **ends, "has_more": len(newest) > size,
            }
        )  # fmt: skip

    def _shown(self, batch: Batch) -> dict[str, Any]:
        return (self._shown_openai if batch.wire == OPENAI else _shown_anthropic)(batch)

    def _shown_openai(self, batch: Batch) -> dict[str, Any]:
        steps = ("validating", "in_progress", "finalizing")
        status = "cancelling" if batch.cancelling else steps[min(batch.looks, 2)]
        if batch.failed:
            status = "failed"
        elif batch.ended:
            status = self.whole(batch) or ("cancelled" if batch.cancelling else "completed")
        names = {kind: f"{kind}-{batch.id}" for kind in ("output", "errors")}
        return {
            "id": batch.id, "object": "batch", "endpoint": CHAT_PATHS[OPENAI],
            "errors": {"object": "list", "data": [batch.failed]} if batch.failed else None,
            "input_file_id": "input-0", "completion_window": "24h", "status": status,
            "output_file_id": names["output"] if names["output"] in self.files else None,
            "error_file_id": names["errors"] if names["errors"] in self.files else None,
            "created_at": int(batch.created), "metadata": batch.mark,
            "request_counts": {
                # The real service counts nothing before it has validated the file.
                "total": len(batch.rows) if batch.looks and not batch.failed else 0,
                "completed": batch.count("succeeded"), "failed": batch.count("errored"),
            },
        }  # fmt: skip


def _shown_anthropic(batch: Batch) -> dict[str, Any]:
    outcomes = ("succeeded", "errored", "canceled", "expired")
    counts = {outcome: batch.count(outcome) for outcome in outcomes}
    running = "canceling" if batch.cancelling else "in_progress"
    created = datetime.fromtimestamp(batch.created, UTC).isoformat()
    return {
        "id": batch.id, "type": "message_batch",
        "processing_status": "ended" if batch.ended else running,
        "request_counts": {"processing": 0 if batch.ended else len(batch.rows), **counts},
        "created_at": created, "expires_at": created, "archived_at": None,
        "ended_at": created if batch.ended else None,
        "cancel_initiated_at": created if batch.cancelling else None,
        # Elsewhere on purpose: whoever follows it takes the key to another host.
        "results_url": "http://127.0.0.2:9/results" if batch.ended else None,
    }  # fmt: skip


def _refusal(wire: str, fault: Fault) -> web.Response:
    probe = Received(0, wire, "", {}, {})
    return web.Response(
        status=fault.status, headers=fault.headers,
        body=_json(body_of(probe, fault, fault)) if fault.raw is None else fault.raw,
        content_type="application/json",
    )  # fmt: skip


def _json(value: Any) -> bytes:
    # As the real services: not ASCII only, so U+2028 inside a string stays as it is.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
