"""A fast scripted LLM server in a process of its own, for benchmarks: both wire formats, counted.

    with Loopback(latency=0.05) as server:
        ...                      # judge.base_url = server.openai_url or server.anthropic_url
        server.counts()          # what was asked, answered and billed so far

`canned` is the text of every answer and makes the server as fast as it can be; without it each
request is read, the label follows from the question's hash, and `faults` (kind -> share of the
calls) come by a draw that depends on the seed, the question and how often it was asked before:
the same question has the same fate whatever runs beside it. Kinds: `429`, `500`, `hang` (no
answer, but charged), `drop` and `drop_midway` (the connection is lost after the answer was
computed), `cut_body` (half of the HTTP body), `cut_answer` (the model's JSON ends early),
`off_schema` (a label that does not exist), `refusal`, `no_usage`, `no_input_usage`,
`no_output_usage`. A re-ask never gets another unusable answer, so every question can end well.

With `varied` the confidence follows from the hash, too, and some answers abstain; with `keep` all
that was asked is kept, for `bodies`. Where the schema has a list of labels, so has the answer.

Charged is every call whose answer was computed: all but `429` and `500`. `random_usage` draws
token counts up to the most that the request allows, and charges that most where no answer comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Any

FREE_OF_CHARGE = ("429", "500")
UNUSABLE = ("cut_answer", "off_schema", "refusal")
NO_ANSWER = ("hang", "drop", "drop_midway", "cut_body")
KEY = re.compile(r"#(\w+)#")  # an item's own mark in its text, such as "#i17#"
HANG_SECONDS = 3600.0


class Loopback:
    """The parent's side: starts the server, reads its counts, ends it."""

    def __init__(
        self,
        *,
        latency: float = 0.05,
        canned: str | None = None,
        faults: Mapping[str, float] | None = None,
        random_usage: bool = False,
        seed: int = 0,
        varied: bool = False,
        keep: bool = False,
        port: int = 0,
    ) -> None:
        """`port` 0 is any free one."""
        self._options = {
            "latency": latency, "canned": canned, "faults": dict(faults or {}),
            "random_usage": random_usage, "seed": seed, "varied": varied, "keep": keep,
            "port": port,
        }  # fmt: skip
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def __enter__(self) -> Loopback:
        command = [sys.executable, __file__, json.dumps(self._options)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.openai_url = f"{self.url}/v1"
        self.anthropic_url = self.url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def base_url(self, model: str) -> str:
        """The address for a model such as `openai/x` or `anthropic/x`."""
        return self.anthropic_url if model.startswith("anthropic/") else self.openai_url

    def counts(self) -> dict[str, Any]:
        """`calls`, `charged` and `good` (a full right answer) by question; `kinds`; tokens."""
        with self._open(f"{self.url}/counts", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def bodies(self) -> list[dict[str, Any]]:
        """Every different request, `path` and `body` (the text as it came), in sorted order."""
        with self._open(f"{self.url}/bodies", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def begin_again(self, *, faults: Mapping[str, float], seed: int) -> None:
        """Forget all counts, and answer by other faults and another seed from here on."""
        self._options |= {"faults": dict(faults), "seed": seed}
        self._open(f"{self.url}/script", json.dumps(self._options).encode(), timeout=30).close()


class Script:
    """What the server says, and what it has counted."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.latency: float = options["latency"]
        self._canned = options["canned"]
        self._faults: dict[str, float] = options["faults"]
        self._random_usage: bool = options["random_usage"]
        self._seed = options["seed"]
        self._varied: bool = options["varied"]
        self.kept: set[tuple[str, str]] | None = set() if options["keep"] else None
        self._calls: Counter[str] = Counter()
        self._charged: Counter[str] = Counter()
        self._good: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        # By model: input (all of it), cached, written, output tokens charged.
        self._tokens: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        usage = (400, 0, 0, 40)
        self.canned = {
            wire: make("toy", options["canned"] or "", "end", usage, frozenset())
            for wire, make in WIRES.items()
        }

    @property
    def is_canned(self) -> bool:
        """Whether requests need not be read."""
        return self._canned is not None

    def counted(self) -> dict[str, Any]:
        """Everything counted so far."""
        return {
            "calls": self._calls, "charged": self._charged, "good": self._good,
            "kinds": self._kinds, "tokens": self._tokens,
        }  # fmt: skip

    def reply(self, wire: str, body: dict[str, Any]) -> tuple[str, bytes]:
        """The fate of one call, and the bytes of its answer."""
        talk = [m for m in body["messages"] if m["role"] != "system"]
        question = talk[0]["content"]
        found = KEY.search(question)
        key = found[1] if found else hashlib.sha256(question.encode()).hexdigest()[:16]
        model = str(body["model"])
        key = key if model == "toy" else f"{model}:{key}"
        rng = random.Random(f"{self._seed}:{key}:{self._calls[key]}")
        self._calls[key] += 1
        kind = self._draw(rng)
        if len(talk) > 1 and kind in UNUSABLE:
            kind = "ok"
        self._kinds[kind] += 1
        if kind in FREE_OF_CHARGE:
            return kind, b""
        if kind not in UNUSABLE and kind not in NO_ANSWER:
            self._good[key] += 1
        self._charged[key] += 1
        schema = _schema(wire, body)
        usage = self._usage(wire, body, schema, rng, most=kind in NO_ANSWER)
        for place, number in enumerate(usage):
            self._tokens[model][place] += number
        text, stop = self._answer(schema, question, kind == "off_schema"), "end"
        if kind == "cut_answer":
            text, stop = text[: len(text) // 2], "length"
        elif kind == "refusal":
            text, stop = "", "refusal"
        hidden = {"no_usage": {"input", "output"}, "no_input_usage": {"input"},
                  "no_output_usage": {"output"}}.get(kind, set())  # fmt: skip
        return kind, WIRES[wire](model, text, stop, usage, frozenset(hidden))

    def _answer(self, schema: Any, question: str, off_schema: bool) -> str:
        """The JSON of an answer, which follows from the question alone."""
        properties = schema["properties"]
        number = int(hashlib.sha256(question.encode()).hexdigest(), 16)
        confidence = (50 + number // 7 % 51) / 100 if self._varied else 0.9
        unsure = self._varied and number // 357 % 12 == 0
        told: dict[str, Any]
        if "labels" in properties:
            names = properties["labels"]["items"]["enum"]
            chosen = [name for place, name in enumerate(names) if number >> 2 * place & 3 == 0]
            verdicts = properties["verdict"]["enum"]
            told = {"verdict": verdicts[unsure],
                    "labels": ["no such label"] if off_schema else chosen}  # fmt: skip
        else:
            names = properties["label"]["enum"]
            label = names[-1 - number % 2 if unsure else number % (len(names) - 2)]
            told = {"label": "no such label" if off_schema else label}
        return json.dumps({"rationale": "It fits.", **told, "confidence": confidence})

    def _draw(self, rng: random.Random) -> str:
        place = rng.random()
        for kind, share in self._faults.items():
            if place < share:
                return kind
            place -= share
        return "ok"

    def _usage(
        self, wire: str, body: Mapping[str, Any], schema: Any, rng: random.Random, *, most: bool
    ) -> tuple[int, int, int, int]:
        """Input, cached, written and output tokens; with `most` all that the request allows."""
        texts = [m["content"] for m in body["messages"]]
        texts += [part["text"] for part in body.get("system", [])]
        size = sum(len(text.encode()) + 8 for text in texts) + len(json.dumps(schema))
        if not self._random_usage:
            return size // 4, 0, 0, 30
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        if most:
            return size, 0, size if wire == "anthropic" else 0, limit
        # The most that can be: a token for every byte; usually fewer.
        asked = size if rng.random() < 0.2 else rng.randint(size // 4, size)
        cached = rng.randint(0, asked) if rng.random() < 0.5 else 0
        written = rng.randint(0, asked - cached) if wire == "anthropic" else 0
        return asked, cached, written, limit if rng.random() < 0.2 else rng.randint(1, limit)


def _schema(wire: str, body: Mapping[str, Any]) -> Any:
    if wire == "anthropic":
        return body["output_config"]["format"]["schema"]
    if "response_format" not in body:  # the schema is in words, on a line of its own
        system = body["messages"][0]["content"]
        return json.loads(next(line for line in system.splitlines() if line.startswith('{"type"')))
    return body["response_format"]["json_schema"]["schema"]


def _openai(
    model: str, text: str, stop: str, usage: tuple[int, int, int, int], hidden: frozenset[str]
) -> bytes:
    asked, cached, _written, said = usage
    message = {"role": "assistant", "content": text, "refusal": None}
    if stop == "refusal":
        message.update(content=None, refusal="I can't help with that.")
    told = {
        "prompt_tokens": asked,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens": said,
    }
    for name in hidden:
        told.pop("prompt_tokens" if name == "input" else "completion_tokens")
    if "input" in hidden:
        told.pop("prompt_tokens_details")
    finish = "length" if stop == "length" else "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer: dict[str, Any] = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000,
        "model": model, "choices": [choice],
    }  # fmt: skip
    if told:
        answer["usage"] = told
    return json.dumps(answer).encode()


def _anthropic(
    model: str, text: str, stop: str, usage: tuple[int, int, int, int], hidden: frozenset[str]
) -> bytes:
    asked, cached, written, said = usage
    told = {
        "input_tokens": asked - cached - written,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens": said,
    }
    if "input" in hidden:
        told = {"output_tokens": said}
    if "output" in hidden:
        told.pop("output_tokens")
    stops = {"end": "end_turn", "length": "max_tokens", "refusal": "refusal"}
    answer: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stops[stop], "stop_sequence": None,
    }  # fmt: skip
    if told:
        answer["usage"] = told
    return json.dumps(answer).encode()


WIRES = {"openai": _openai, "anthropic": _anthropic}


async def serve(options: Mapping[str, Any]) -> None:
    """Serve until killed; the port is printed first."""
    from aiohttp import web

    now = Script(options)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal now
        script = now
        if request.path == "/counts":
            return web.json_response(script.counted())
        if request.path == "/bodies":
            kept = sorted(script.kept or ())
            return web.json_response([{"path": path, "body": text} for path, text in kept])
        body = await request.read()
        if request.path == "/script":
            now = Script(json.loads(body))
            return web.Response()
        if script.kept is not None:
            script.kept.add((request.path, body.decode()))
        wire = "anthropic" if request.path == "/v1/messages" else "openai"
        if script.is_canned:
            await asyncio.sleep(script.latency)
            return web.Response(body=script.canned[wire], content_type="application/json")
        kind, answer = script.reply(wire, json.loads(body))
        await asyncio.sleep(HANG_SECONDS if kind == "hang" else script.latency)
        status = int(kind) if kind in FREE_OF_CHARGE else 200
        if status != 200:
            answer = b'{"error": {"message": "scripted fault", "type": "server_error"}}'
        if kind == "cut_body":
            answer = answer[: len(answer) // 2]
        if kind in ("drop", "drop_midway"):
            if kind == "drop_midway" and request.transport is not None:
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
                request.transport.write(head + answer[: len(answer) // 2])
                await asyncio.sleep(0.01)
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.Response(status=status, body=answer, content_type="application/json")

    server = web.Server(handle, access_log=None)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server, "127.0.0.1", options["port"], backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
