"""The real SDKs against loopback servers: what is sent, what is read, how faults come out."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import loopback
import openai
import pytest
from loopback import Fault, LoopbackServer, Received
from questions import LABELS, QUESTION, REQUEST, SCHEMA, SYSTEM, bare

from llm_relabel.config.judges import JudgeMember, JudgeSection
from llm_relabel.errors import (
    AccessDenied,
    CallTimedOut,
    ContentRefused,
    NoSuchModel,
    ProviderError,
    RateLimited,
    RequestRejected,
    TransientError,
    Unreachable,
)
from llm_relabel.judge.chat import ChatProvider, ChatRequest, Completion
from llm_relabel.judge.providers import anthropic as anthropic_provider
from llm_relabel.judge.providers import openai as openai_provider
from llm_relabel.judge.providers.keys import Key
from llm_relabel.judge.providers.opening import open_provider
from llm_relabel.records import Message, Tokens

SECRET = "sekrit-0123456789-sekrit"
WIRES = ["openai", "anthropic"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI", "ANTHROPIC", "HOSTED_VLLM")) or "PROXY" in name.upper():
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


def section(server: LoopbackServer, wire: str, **keys: object) -> JudgeSection:
    url = server.anthropic_url if wire == "anthropic" else server.openai_url
    return JudgeSection.model_validate({"model": f"{wire}/some-model", "base_url": url, **keys})


def with_provider(
    judge: JudgeSection, use: Callable[[ChatProvider], Awaitable[Any]], folder: Path = Path()
) -> Any:
    async def run() -> Any:
        provider = open_provider(judge, folder)
        try:
            return await use(provider)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def ask(judge: JudgeSection, request: ChatRequest = REQUEST, timeout: float = 10) -> Completion:
    return with_provider(judge, lambda provider: provider.complete(request, timeout=timeout))


def test_openai_payload(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    completion = ask(section(server, "openai", api_key_env="MY_KEY"))
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    # A server on this machine is one's own, and is told where a rationale ends.
    own = SCHEMA["properties"]
    bounded = {**own, "rationale": {**own["rationale"], "maxLength": 300}}
    assert request.body == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION},
        ],
        "max_tokens": 64,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "strict": True,
                "schema": {**SCHEMA, "properties": bounded},
            },
        },
        "temperature": 0,
    }
    assert json.loads(completion.text)["label"] in LABELS
    assert completion.stop == "end"
    assert completion.seconds > 0


def test_openai_itself_gets_the_new_name_of_the_limit() -> None:
    official = JudgeSection(model="openai/gpt-5-mini")
    provider = openai_provider.OpenAIProvider(official, None)
    body = provider.payload(REQUEST)
    assert body["max_completion_tokens"] == 64
    assert "max_tokens" not in body
    assert provider.base_url == "https://api.openai.com/v1"


def test_anthropic_payload(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    judge = section(server, "anthropic", api_key_env="MY_KEY")
    request = ChatRequest(
        REQUEST.messages, SCHEMA, {"temperature": 0, "output_config": {"effort": "low"}}, 64
    )
    completion = ask(judge, request)
    (received,) = server.requests
    assert received.path == "/v1/messages"
    assert SECRET in (received.headers.get("x-api-key", "") + received.headers["authorization"])
    assert received.headers["anthropic-version"]
    schema = received.body["output_config"].pop("format")
    assert received.body == {
        "model": "some-model",
        "max_tokens": 64,
        "system": [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "output_config": {"effort": "low"},
    }
    assert schema["type"] == "json_schema"
    assert list(schema["schema"]["properties"]) == list(SCHEMA["properties"])
    assert schema["schema"]["properties"]["label"]["enum"] == LABELS
    assert schema["schema"]["additionalProperties"] is False
    assert json.loads(completion.text)["label"] in LABELS


def test_anthropic_turns_what_its_api_refuses_into_words(server: LoopbackServer) -> None:
    bounded = {"type": "number", "minimum": 0, "maximum": 1}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "confidence": bounded}}
    ask(section(server, "anthropic"), ChatRequest(REQUEST.messages, schema))
    sent = server.requests[0].schema
    assert sent is not None
    assert "minimum: 0" in sent["properties"]["confidence"]["description"]
    assert bounded["minimum"] == 0, "the job's own schema must stay as it was"


@pytest.mark.parametrize("wire", WIRES)
def test_without_a_schema_the_answer_is_asked_for_in_words(
    server: LoopbackServer, wire: str
) -> None:
    ask(section(server, wire), ChatRequest(REQUEST.messages, None))
    assert not server.requests[0].body.keys() & {"response_format", "output_config", "temperature"}


@pytest.mark.parametrize("wire", WIRES)
def test_a_re_ask_keeps_the_turns(server: LoopbackServer, wire: str) -> None:
    turns = (*REQUEST.messages, Message("assistant", "{}"), Message("user", "not valid"))
    ask(section(server, wire), ChatRequest(turns, SCHEMA))
    sent = server.requests[0].body["messages"]
    assert [turn["role"] for turn in sent][-3:] == ["user", "assistant", "user"]


@pytest.mark.parametrize("wire", WIRES)
def test_a_lone_surrogate_does_not_stop_the_call(server: LoopbackServer, wire: str) -> None:
    ask(section(server, wire), ChatRequest((Message("user", "a\ud800b"),), SCHEMA))
    assert server.requests[0].user == "a\ufffdb"


@pytest.mark.parametrize("wire", WIRES)
def test_usage(server: LoopbackServer, wire: str) -> None:
    tokens = ask(section(server, wire)).tokens
    body = server.requests[0].body
    sent = len(json.dumps(body["messages"])) + len(str(body.get("system", "")))
    assert tokens.input == sent // 4
    assert tokens.cached == tokens.input // 2
    assert tokens.output > 0


def test_anthropic_input_is_all_input() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 3000,
        "output_tokens": 7,
    }
    assert anthropic_provider.read_usage(usage) == Tokens(3210, 7, 200, 3000)
    assert anthropic_provider.read_usage({"input_tokens": 1, "output_tokens": None}) == Tokens(1)


@pytest.mark.parametrize("wire", WIRES)
def test_usage_may_be_absent(wire: str) -> None:
    with LoopbackServer(lambda _: Fault(drop_usage=True)) as server:
        assert ask(section(server, wire)).tokens == Tokens()


@pytest.mark.parametrize(
    ("wire", "fault", "stop"),
    [
        ("openai", Fault(stop="length"), "length"),
        ("openai", Fault(stop="content_filter"), "refusal"),
        ("openai", loopback.refusal(), "refusal"),
        ("anthropic", Fault(stop="max_tokens"), "length"),
        ("anthropic", Fault(stop="model_context_window_exceeded"), "length"),
        ("anthropic", loopback.refusal(), "refusal"),
    ],
)
def test_stop(wire: str, fault: Fault, stop: str) -> None:
    with LoopbackServer(lambda _: fault) as server:
        assert ask(section(server, wire)).stop == stop


@pytest.mark.parametrize("wire", WIRES)
def test_a_custom_base_url_never_receives_anything_of_the_official_account(
    server: LoopbackServer, wire: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = {
        "OPENAI_API_KEY": "key-of-openai",
        "OPENAI_ADMIN_KEY": "admin-of-openai",
        "OPENAI_ORG_ID": "org-of-openai",
        "OPENAI_PROJECT_ID": "project-of-openai",
        "OPENAI_CUSTOM_HEADERS": "X-Extra: header-of-openai",
        "ANTHROPIC_API_KEY": "key-of-anthropic",
        "ANTHROPIC_AUTH_TOKEN": "token-of-anthropic",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Extra: header-of-anthropic",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("OPENAI_API_KEY=dotenv-of-openai\n")
    with_provider(
        section(server, wire), lambda provider: provider.complete(REQUEST, timeout=10), tmp_path
    )
    sent = repr(server.requests)
    assert "of-openai" not in sent
    assert "of-anthropic" not in sent


@pytest.mark.parametrize("wire", WIRES)
def test_environment_variables_do_not_move_the_calls(
    server: LoopbackServer, wire: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    provider: Any = open_provider(JudgeSection(model=f"{wire}/some-model"), Path())
    assert provider.client.base_url.host == f"api.{wire}.com"
    assert f"{wire.upper()}_BASE_URL is set and NOT obeyed" in caplog.text
    assert SECRET not in caplog.text
    asyncio.run(provider.aclose())


@pytest.mark.parametrize("wire", WIRES)
def test_this_machine_is_never_reached_through_a_proxy(
    server: LoopbackServer, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(section(server, wire)).stop == "end"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (loopback.rate_limited("7"), RateLimited),
        (Fault(529, type="overloaded_error"), RateLimited),
        (Fault(429, code="insufficient_quota"), AccessDenied),
        (Fault(400, "Your credit balance is too low to access the API"), AccessDenied),
        (Fault(400, code="content_policy_violation"), ContentRefused),
        (Fault(400), RequestRejected),
        (Fault(401), AccessDenied),
        (Fault(402), AccessDenied),
        (Fault(403), AccessDenied),
        (Fault(404), NoSuchModel),
        (Fault(408), TransientError),
        (Fault(409), TransientError),
        (Fault(413), RequestRejected),
        (Fault(422), RequestRejected),
        (loopback.server_error(), TransientError),
        (loopback.server_error(503), TransientError),
        (Fault(500, headers={"x-should-retry": "false"}), RequestRejected),
        (Fault(502, raw=b"<html>bad gateway</html>"), TransientError),
        (Fault(307, headers={"Location": "http://127.0.0.1:9/"}), RequestRejected),
        (loopback.truncated_json(), TransientError),
        (Fault(raw=b""), TransientError),
        (Fault(raw=b"\xff\xfe"), TransientError),
        (Fault(raw=b"[]"), TransientError),
        (Fault(raw=b"{}"), TransientError),
        (Fault(disconnect=True), Unreachable),
    ],
    ids=lambda value: getattr(value, "__name__", None) or f"{value.status}-{value.code}",
)
def test_every_fault_has_its_error(wire: str, fault: Fault, kind: type[ProviderError]) -> None:
    with LoopbackServer(lambda _: fault) as server:
        with pytest.raises(ProviderError) as caught:
            ask(section(server, wire))
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"{wire}/some-model")
        assert caught.value.__cause__ is not None or fault.status == 200
        assert len(server.requests) == 1, "the SDK's own retries must be off"
        if fault.headers.get("Retry-After"):
            assert caught.value.retry_after == 7


def test_a_gateway_that_hides_the_status_in_the_body() -> None:
    hidden = Fault(raw=b'{"error": {"code": 429, "message": "upstream is busy"}}')
    with LoopbackServer(lambda _: hidden) as server, pytest.raises(RateLimited, match="is busy"):
        ask(section(server, "openai"))


@pytest.mark.parametrize("wire", WIRES)
def test_a_hanging_call_times_out_on_the_wall_clock(wire: str) -> None:
    with LoopbackServer(lambda _: loopback.hang()) as server:
        with pytest.raises(CallTimedOut, match=r"no answer within 0\.2 s"):
            ask(section(server, wire), timeout=0.2)


@pytest.mark.parametrize("wire", WIRES)
def test_a_refused_connection_is_unreachable_and_not_a_timeout(wire: str) -> None:
    # The aiohttp transport reports it as a timeout, and a timeout may be charged.
    with LoopbackServer() as server:
        judge = section(server, wire)
    with pytest.raises(Unreachable, match="no connection"):
        ask(judge)


@pytest.mark.parametrize("wire", WIRES)
def test_a_key_that_the_server_repeats_is_in_no_error(
    wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    for status in (200, 400, 401, 429, 500):
        echo = json.dumps({"error": {"message": f"you sent {SECRET}"}}).encode()
        fault = Fault(status, raw=echo)
        with LoopbackServer(lambda _, fault=fault: fault) as server:
            with pytest.raises(ProviderError) as caught:
                ask(section(server, wire, api_key_env="MY_KEY"))
            printed = "".join(traceback.format_exception(caught.value))
            assert "you sent" in printed or (wire, status) == ("anthropic", 200)
            assert SECRET not in printed


@pytest.mark.parametrize("wire", WIRES)
def test_as_many_connections_as_the_job_says(wire: str) -> None:
    with LoopbackServer(together=120) as server:
        judge = section(server, wire, concurrency=120)

        async def many(provider: ChatProvider) -> None:
            await asyncio.gather(*(provider.complete(REQUEST, timeout=60) for _ in range(120)))

        with_provider(judge, many)
        assert server.most_in_flight == 120


def _every_subclass(root: type[BaseException]) -> set[type[BaseException]]:
    below = set(root.__subclasses__())
    return below.union(*(_every_subclass(each) for each in below)) if below else below


@pytest.mark.parametrize(
    ("root", "roots", "module"),
    [
        (openai.OpenAIError, {"OpenAIError", "APIError"}, openai_provider),
        (anthropic.AnthropicError, {"AnthropicError", "APIError"}, anthropic_provider),
    ],
)
def test_every_class_of_the_sdk_is_mapped(
    root: type[Exception], roots: set[str], module: Any
) -> None:
    package = root.__module__.split(".")[0]
    for name in (
        "lib.azure",
        "lib._old_api",
        "_extras",
        "lib.foundry",
        "lib.streaming",
        "lib.credentials",
    ):
        try:
            importlib.import_module(f"{package}.{name}")
        except ImportError:
            continue
    mine = {kind for kind in _every_subclass(root) if kind.__module__.startswith(package)}
    assert len(mine) > 15
    unmapped = [
        kind.__name__
        for kind in mine
        if kind.__name__ not in roots and module.translate(bare(kind), "x/y", ()) is None
    ]
    assert unmapped == []


def test_a_class_that_nobody_thought_about_still_leaves_as_ours() -> None:
    class Brandnew(openai.OpenAIError):
        pass

    provider = openai_provider.OpenAIProvider(JudgeSection(model="openai/x"), None)
    assert type(provider.foreign(Brandnew("what is this"))) is RequestRejected


def test_the_loopback_refuses_what_the_services_refuse(server: LoopbackServer) -> None:
    loose = {key: value for key, value in SCHEMA.items() if key != "additionalProperties"}
    with pytest.raises(RequestRejected, match="additionalProperties"):
        ask(section(server, "openai"), ChatRequest(REQUEST.messages, loose))


def test_the_loopback_answers_the_same_question_alike(server: LoopbackServer) -> None:
    first, second = ask(section(server, "openai")), ask(section(server, "anthropic"))
    assert first.text == second.text
    assert isinstance(server.requests[0], Received)


@pytest.mark.parametrize(
    ("url", "bounded"),
    [("http://127.0.0.1:1/v1", True), ("http://10.1.2.3/v1", True),
     ("http://gpu-box:8000/v1", True), ("https://llm.example.com/v1", False), (None, False)],
)  # fmt: skip
def test_a_server_of_ones_own_is_told_where_a_rationale_ends(
    url: str | None, bounded: bool
) -> None:
    section = JudgeMember(model="openai/x", base_url=url)
    provider = openai_provider.OpenAIProvider(section, Key("k"))
    schema = {"type": "object", "properties": {"rationale": {"type": "string"},
                                               "label": {"type": "string"}}}  # fmt: skip
    body = provider.payload(ChatRequest((Message("user", "hi"),), schema))
    sent = body["response_format"]["json_schema"]["schema"]["properties"]
    assert ("maxLength" in sent["rationale"]) is bounded
    assert "maxLength" not in sent["label"]
    assert "maxLength" not in schema["properties"]["rationale"]
