"""litellm against a loopback server. It takes seconds to import, so one process runs all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from questions import LABELS, QUESTION, SCHEMA

LITELLM_CHECKS = """
import asyncio, inspect, json, os, sys, traceback
from pathlib import Path
import loopback
from questions import REQUEST, SCHEMA, bare
from pictures import png
from llm_relabel.images import ImagePart
from llm_relabel.records import Message, TextPart
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.providers.opening import open_provider
from llm_relabel.judge.providers import litellm as ours
from llm_relabel.judge.providers.litellm import find_credentials, load_litellm, translate
from llm_relabel.errors import JobError
from llm_relabel.config.judges import JudgeSection

report = {"imported_early": "litellm" in sys.modules}
reply = [None]
with loopback.LoopbackServer(lambda r: reply[0] or loopback.default_answer(r)) as server:
    judge = JudgeSection(model="hosted_vllm/some-model", base_url=server.openai_url)

    async def main():
        provider = open_provider(judge, Path())
        done = await provider.complete(REQUEST, timeout=20)
        report["text"], report["tokens"] = done.text, [done.tokens.input, done.tokens.cached]
        report["sent"] = [server.requests[0].body, dict(server.requests[0].headers)]
        seen = ChatRequest((Message("user", (ImagePart(png()), TextPart("see"))),), SCHEMA)
        await provider.complete(seen, timeout=20)
        received = server.requests[-1]
        report["seen"] = [received.images == [("image/png", png())], received.body["messages"]]
        report["errors"] = {}
        faults = {
            "rate": loopback.rate_limited("7"), "500": loopback.server_error(),
            "401": loopback.Fault(401, "you sent NAMEDKEY"), "400": loopback.Fault(400),
            "404": loopback.Fault(404), "truncated": loopback.truncated_json(),
            "disconnect": loopback.Fault(disconnect=True), "hang": loopback.hang(),
        }
        for name, reply[0] in faults.items():
            before = len(server.requests)
            try:
                await provider.complete(REQUEST, timeout=0.5 if name == "hang" else 20)
            except Exception as error:
                kind = type(error).__name__
            report["errors"][name] = [kind, len(server.requests) - before]
            if name == "rate":
                report["retry_after"] = error_wish
        reply[0] = None
        os.environ["MY_KEY"] = "NAMEDKEY-123456"
        named = open_provider(judge.model_copy(update={"api_key_env": "MY_KEY"}), Path())
        await named.complete(REQUEST, timeout=20)
        report["named"] = server.requests[-1].headers["authorization"]
        reply[0] = loopback.Fault(401, "you sent NAMEDKEY-123456")
        try:
            await named.complete(REQUEST, timeout=20)
        except Exception as error:
            report["denied"] = "".join(traceback.format_exception(error))
        await named.aclose()
        await provider.aclose()

    import llm_relabel.errors as errors
    error_wish = None
    original = errors.RateLimited.__init__
    def remember(self, message, *, retry_after=None):
        global error_wish
        error_wish = retry_after
        original(self, message, retry_after=retry_after)
    errors.RateLimited.__init__ = remember
    asyncio.run(main())

litellm = load_litellm()
import litellm.exceptions
classes = [
    kind for _, kind in inspect.getmembers(litellm.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == "litellm.exceptions"
]
report["classes"] = len(classes)
report["unmapped"] = [k.__name__ for k in classes if translate(bare(k), "x/y", ()) is None]

folder = Path(sys.argv[1])
section = JudgeSection(model="mistral/mistral-small-latest")
environ = os.environ
try:
    find_credentials(section, folder, environ, litellm)
except JobError as error:
    report["missing"] = str(error)
(folder / ".env").write_text(
    "MISTRAL_API_KEY=from-dotenv-1\\nOTHER_KEY=x\\nMISTRAL_API_BASE=http://127.0.0.1:9\\n"
)
report["secrets"] = find_credentials(section, folder, environ, litellm)
report["exported"] = sorted(set(environ) & {"MISTRAL_API_KEY", "OTHER_KEY", "MISTRAL_API_BASE"})
bedrock = JudgeSection(model="bedrock/x", base_url="http://127.0.0.1:9")
try:
    open_provider(bedrock, folder)
except JobError as error:
    report["ambient"] = str(error)
print("REPORT" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def litellm_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("litellm")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    theirs = {"OPENAI_API_KEY": "key-of-openai", "HOSTED_VLLM_API_KEY": "key-of-vllm"}
    root = Path(__file__).parent.parent
    support = root / "tests" / "support"
    done = subprocess.run(
        [sys.executable, "-c", LITELLM_CHECKS, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=root,
        env={**kept, **theirs, "PYTHONPATH": os.pathsep.join([str(root), str(support)])},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("REPORT")]
    assert lines, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(lines[0].removeprefix("REPORT"))
    report["stderr"] = done.stderr
    return report


def test_litellm_payload_and_answer(litellm_report: dict[str, Any]) -> None:
    assert not litellm_report["imported_early"]
    body, headers = litellm_report["sent"]
    assert body["model"] == "some-model"
    assert body["messages"][1] == {"role": "user", "content": QUESTION}
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (body["temperature"], body["max_tokens"]) == (0, 64)
    assert headers["authorization"] == "Bearer none"
    assert "key-of" not in json.dumps(litellm_report["sent"])
    assert json.loads(litellm_report["text"])["label"] in LABELS
    asked, cached = litellm_report["tokens"]
    assert asked // 2 == cached > 0


def test_litellm_carries_images_in_the_form_of_openai(litellm_report: dict[str, Any]) -> None:
    same, [user] = litellm_report["seen"]
    assert same
    image, text = user["content"]
    assert image["image_url"]["detail"] == "high"
    assert text == {"type": "text", "text": "see"}


def test_litellm_sends_the_named_key_and_hides_it(litellm_report: dict[str, Any]) -> None:
    assert litellm_report["named"] == "Bearer NAMEDKEY-123456"
    assert "AccessDenied" in litellm_report["denied"]
    assert "NAMEDKEY-123456" not in litellm_report["denied"]
    assert "NAMEDKEY-123456" not in litellm_report["stderr"]


def test_litellm_faults(litellm_report: dict[str, Any]) -> None:
    found = litellm_report["errors"]
    assert {name: calls for name, (_, calls) in found.items()} == dict.fromkeys(found, 1)
    kinds = {name: kind for name, (kind, _) in found.items()}
    assert kinds["rate"] == "RateLimited"
    assert kinds["401"] == "AccessDenied"
    assert (kinds["400"], kinds["404"]) == ("RequestRejected", "NoSuchModel")
    assert kinds["hang"] == "CallTimedOut"
    transient = {"TransientError", "Unreachable"}
    assert {kinds["500"], kinds["truncated"], kinds["disconnect"]} <= transient
    assert litellm_report["retry_after"] == 7


def test_every_class_of_litellm_is_mapped(litellm_report: dict[str, Any]) -> None:
    assert litellm_report["classes"] > 20
    assert litellm_report["unmapped"] == []


def test_litellm_finds_its_own_key_but_only_that(litellm_report: dict[str, Any]) -> None:
    assert "MISTRAL_API_KEY" in litellm_report["missing"]
    assert litellm_report["secrets"] == ["from-dotenv-1"]
    assert litellm_report["exported"] == ["MISTRAL_API_KEY"]
    assert "machine's own credentials" in litellm_report["ambient"]
