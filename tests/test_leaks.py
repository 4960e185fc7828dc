"""A planted key is in nothing that is written, printed or cached, however a run ends.

Whole processes against servers that repeat the key, hang, refuse or break; afterwards every file
and every line of output is searched for the key and for parts of it that would tell it.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import toy
from loopback import Fault, LoopbackServer, Received, default_answer, hang

import llm_relabel as lr
from llm_relabel.errors import RelabelError

PLANTED = {
    "like OpenAI's": "sk-proj-Zq7fW2Xk9Lm4Rt8Vb3Nc6Yh1",
    "like nobody's": "Qj4Zx8Wv2Kp6-Tm9Rb3Ls7Hd5Fg1",
}


def parts_of(key: str) -> list[bytes]:
    """What would tell the key: its halves, and both in other forms."""
    bare = key.removeprefix("sk-proj-")
    shown = [bare[:8], bare[-8:], bare[6:16]]
    forms = [
        *shown,
        *(part[::-1] for part in shown),
        base64.b64encode(key.encode()).decode()[4:24],
        key.encode().hex()[8:32],
    ]
    return [form.encode() for form in forms]


def places(work: toy.Work) -> Iterator[Path]:
    """Every file that a run may write, the `.env` of the test left out."""
    for place in (work.folder, Path(os.environ["LLM_RELABEL_CACHE"])):
        for path in place.rglob("*"):
            if path.is_file() and path.name != ".env":
                yield path


def expect_no_leak(work: toy.Work, key: str, *told: str) -> None:
    parts = parts_of(key)
    files = list(places(work))
    assert any(path.name == "job.yaml" for path in files)
    for path in files:
        found = [part for part in parts if part in path.read_bytes()]
        assert not found, f"{path} holds {found}"
    for text in told:
        found = [part for part in parts if part in text.encode("utf-8", "replace")]
        assert not found, f"{found} in {text[-2000:]}"


def echo(received: Received) -> str:
    """What a server knows of the key, in each form that one has been seen to repeat."""
    sent = received.headers.get("x-api-key") or received.headers["authorization"]
    key = sent.removeprefix("Bearer ")
    return f"Incorrect API key provided: {key}, or {key[:8]}*******{key[-4:]}, in '{sent}'"


def answers(received: Received) -> dict[str, Any]:
    """A usable answer whose rationale repeats the key."""
    return {**json.loads(default_answer(received)), "rationale": echo(received).split(", or ")[0]}


def refuses(received: Received) -> Fault:
    return Fault(401, echo(received), "invalid_api_key", headers={"x-echo": echo(received)})


def forbids(received: Received) -> Fault:
    return Fault(403, raw=echo(received).encode())


def rejects(received: Received) -> Fault:
    return Fault(400, raw=json.dumps([{"error": echo(received)}]).encode())


def declines(received: Received) -> Fault:
    return Fault(refusal=echo(received))


def babbles(received: Received) -> Fault:
    return Fault(text=json.dumps({"label": echo(received), "rationale": "", "confidence": 1}))


def hides_it_in_the_body(received: Received) -> Fault:
    return Fault(raw=json.dumps({"error": {"message": echo(received), "code": 401}}).encode())


def redirects(received: Received) -> Fault:
    return Fault(307, echo(received), headers={"Location": f"http://127.0.0.1:9/{echo(received)}"})


def hangs(_received: Received) -> Fault:
    return hang()


CASES = (
    ("openai", answers, {0}), ("anthropic", answers, {0}), ("openai", refuses, {3}),
    ("anthropic", refuses, {3}), ("openai", forbids, {3}), ("anthropic", rejects, {0, 3}),
    ("openai", declines, {0, 3}), ("anthropic", babbles, {0, 3}),
    ("openai", hides_it_in_the_body, {0, 3}), ("openai", redirects, {0, 3}),
    ("anthropic", hangs, {3}),
)  # fmt: skip


def run_job(
    work: toy.Work, wire: str, server: LoopbackServer, env: Mapping[str, str], **judge: Any
) -> tuple[int, str]:
    """The job, with all that SDKs can be made to log; its status and output."""
    url = server.anthropic_url if wire == "anthropic" else server.openai_url
    work.write_job(judge={"model": f"{wire}/toy", "base_url": url, "concurrency": 4, **judge})
    loud = {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug", "LITELLM_LOG": "DEBUG"}
    done = work.run_anew("run", "job.yaml", env={**loud, **env})
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wire", "serve", "statuses"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_key_is_nowhere_whatever_the_server_does(
    work: toy.Work, wire: str, serve: Any, statuses: set[int]
) -> None:
    key = PLANTED["like OpenAI's" if wire == "openai" else "like nobody's"]
    limits = {"timeout": 0.3, "deadline": 1.0} if serve is hangs else {}
    with LoopbackServer(serve) as server:
        status, told = run_job(
            work, wire, server, {"PLANTED": key}, api_key_env="PLANTED",
            prices={"input": 0, "output": 0}, **limits,
        )  # fmt: skip
    assert status in statuses, told[-2000:]
    assert server.requests
    assert key in str(server.requests[0].headers), "the key was not used at all"
    assert (work.run_folder / "report.html").exists()
    expect_no_leak(work, key, told)


def test_a_key_from_a_dotenv_file_is_nowhere(work: toy.Work) -> None:
    key = PLANTED["like nobody's"]
    (work.folder / ".env").write_text(f"PLANTED={key}\nOPENAI_API_KEY={key[::-1]}\n")
    with LoopbackServer(answers) as server:
        status, told = run_job(work, "openai", server, {}, api_key_env="PLANTED")
    assert status == 0, told
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {key}"}
    expect_no_leak(work, key, told)


def test_a_pasted_key_is_refused_and_not_repeated(work: toy.Work) -> None:
    key = PLANTED["like OpenAI's"].replace("-", "_")
    with LoopbackServer() as server:
        url = server.url.replace("//", f"//user:{key}@")
        for judge in ({"api_key_env": key}, {"params": {"api_key": key}}, {"api_key": key},
                      {"base_url": url}):  # fmt: skip
            work.write_job(judge={"model": "openai/toy", "base_url": server.openai_url, **judge})
            with pytest.raises(RelabelError) as refused:
                lr.relabel(work.job)
            assert key[8:] not in "".join(traceback.format_exception(refused.value))
    assert server.requests == []
    assert not (work.run_folder / "job.yaml").exists()


CRASH = """
import sys, {sdk}
from llm_relabel.cli import main

async def post(self, *words, **more):
    headers = dict(self.default_headers)
    try:
        raise RuntimeError(f"cannot send {{headers}} with {{self.api_key}}")
    except RuntimeError as error:
        raise {kind}(headers, self.api_key, error) from error

{sdk}.{client}.post = post
sys.argv = ["llm-relabel", "run", "job.yaml"]
main()
"""


@pytest.mark.parametrize(
    ("wire", "client", "kind"),
    [("openai", "AsyncOpenAI", "LookupError"), ("anthropic", "AsyncAnthropic", "LookupError"),
     ("openai", "AsyncOpenAI", "ValueError")],
)  # fmt: skip
def test_a_traceback_out_of_the_sdk_shows_no_key(
    work: toy.Work, monkeypatch: pytest.MonkeyPatch, wire: str, client: str, kind: str
) -> None:
    key = PLANTED["like nobody's"]
    work.write_job(judge={"model": f"{wire}/toy", "base_url": "http://127.0.0.1:9",
                          "api_key_env": "PLANTED"})  # fmt: skip
    (work.folder / "crash.py").write_text(CRASH.format(sdk=wire, client=client, kind=kind))
    monkeypatch.setattr(work, "command", lambda *words: [toy.sys.executable, *words])
    done = work.run_anew("crash.py", env={"PLANTED": key})
    assert done.returncode in (1, 3), done.stderr
    assert ("Traceback" in done.stderr) == (done.returncode == 1)
    assert "***" in done.stderr
    expect_no_leak(work, key, done.stdout, done.stderr)


def test_the_official_key_is_nowhere_when_nobody_answers(work: toy.Work) -> None:
    key = PLANTED["like OpenAI's"]
    with socket.socket() as taken:  # bound and not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{taken.getsockname()[1]}"
        work.write_job(judge={"model": "openai/toy", "max_cost": 1, "deadline": 2,
                              "prices": {"input": 1, "output": 1}})  # fmt: skip
        env = {"OPENAI_API_KEY": key, "HTTPS_PROXY": proxy, "https_proxy": proxy}
        done = work.run_anew("run", "job.yaml", env=env)
    assert done.returncode == 3, done.stderr
    expect_no_leak(work, key, done.stdout, done.stderr)


@pytest.mark.parametrize("model", ["openai/toy", "anthropic/toy", "hosted_vllm/toy"])
def test_a_custom_address_gets_no_key_of_an_official_account(work: toy.Work, model: str) -> None:
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_AUTH_TOKEN")
    theirs = {name: f"of-{name}-0123456789" for name in names}
    (work.folder / ".env").write_text("OPENAI_API_KEY=of-the-dotenv-file-0123456789\n")
    with LoopbackServer() as server:
        url = server.anthropic_url if model.startswith("anthropic") else server.openai_url
        work.write_job(judge={"model": model, "base_url": url, "prices": {"input": 0, "output": 0}})
        done = work.run_anew("run", "job.yaml", env=theirs)
    assert done.returncode == 0, done.stderr
    assert server.requests
    for request in server.requests:
        assert "0123456789" not in str((request.headers, request.body, request.path))
