"""The loops that `judge_throughput.py` times: bare SDKs, litellm, and our whole path.

Each makes its client, puts `calls` questions with `concurrency` in flight, closes, and gives
wall and CPU seconds of this process. The bare loops send what our providers send, made
beforehand: no prompt is rendered, no answer read, nothing is kept.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import loopback_job
import numpy as np

from llm_relabel.config.job import load_job
from llm_relabel.judge.opening import open_judges
from llm_relabel.judge.seam import Judges, RoundEvidence
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.progress import Silent
from llm_relabel.records import LabelIssue
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.rounds.flag import flag
from llm_relabel.rounds.train import train
from llm_relabel.rounds.waves import Judged, Judging
from llm_relabel.run_folder.folder import RunFolder

# Predictions are given, and a language model needs no vectors.
_NO_MODEL: Any = None


class Stage:
    """A job up to its judging, everything before that done and its caches its own."""

    def __init__(self, home: Path, judge: dict[str, Any]) -> None:
        os.environ["LLM_RELABEL_CACHE"] = str(home / "cache")
        self.prepared: Prepared = prepare(load_job(loopback_job.write_job(home, judge)))
        prepared = self.prepared
        everything = np.ones(len(prepared.dataset), dtype=np.bool_)
        predicted = train(prepared, _NO_MODEL, prepared.given)  # its own are given
        self.issues = flag(prepared, predicted, everything)
        self.planner = AskPlanner(prepared, 1, predicted)

    def judges(self, cache: Path, folder: Path | None = None) -> Judges:
        """The job's judges over the verdict cache in `cache`."""
        prepared = self.prepared
        return open_judges(
            prepared.job, prepared.task, prepared.definitions,
            cache=cache, model=_NO_MODEL, folder=folder,
        )  # fmt: skip

    def bodies(self, calls: int) -> list[dict[str, Any]]:
        """What our provider would send for the first issues."""
        judges = self.judges(self.prepared.cache)
        judge: Any = judges.first
        asks = self.planner.first_wave(self.issues[:calls])
        item = self.prepared.dataset.item
        found = [judge._provider.payload(judge.question(ask, item(ask.row)).request)
                 for ask in asks]  # fmt: skip
        asyncio.run(judges.aclose())
        return found

    def judge(self, issues: Sequence[LabelIssue], cache: Path, folder: Path) -> Judged:
        """Plan, render, hash, look up, call, validate, journal and cache, as a run does."""
        evidence = RoundEvidence(
            model=_NO_MODEL,
            labels=self.prepared.given,
            trusted=np.zeros(len(self.prepared.dataset), dtype=np.bool_),
            groups=self.prepared.dataset.groups,
        )
        run = RunFolder(folder)
        with asyncio.Runner() as loop:
            judges = self.judges(cache, folder)
            judging = Judging(self.prepared, run, judges, loop, Silent())
            judged = judging.judge(self.planner, issues, issues, evidence)
            loop.run(judges.aclose())
        return judged


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of `work`, garbage of what came before collected first."""
    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def ours(stage: Stage, calls: int) -> tuple[float, float]:
    """Our whole path, into an empty cache and an empty run folder."""

    def work() -> None:
        judged = stage.judge(stage.issues[:calls], Path(folder) / "cache", Path(folder) / "run")
        assert judged.pause is None, judged.pause
        assert all(opinion.outcome == "answer" for opinion in judged.opinions.values())
        assert len(judged.opinions) == calls, (len(judged.opinions), calls, len(stage.issues))

    with tempfile.TemporaryDirectory() as folder:
        return timed(work)


def bare_openai(stage: Stage, bodies: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The openai SDK's fastest call: `client.post`, raw response, aiohttp transport."""
    import httpx
    import openai

    section = stage.prepared.job.judge
    limits = httpx.Limits(max_connections=section.concurrency)

    async def loop() -> None:
        client = openai.AsyncOpenAI(
            api_key="none", base_url=section.base_url, max_retries=0, timeout=None,
            http_client=openai.DefaultAioHttpClient(limits=limits, timeout=None, trust_env=False),
        )  # fmt: skip

        async def call(body: dict[str, Any]) -> None:
            await client.post("/chat/completions", cast_to=httpx.Response, body=body)

        await _all(call, bodies, section.concurrency)
        await client.close()

    return timed(lambda: asyncio.run(loop()))


def bare_anthropic(stage: Stage, bodies: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The anthropic SDK's fastest call, likewise."""
    import anthropic
    import httpx2

    section = stage.prepared.job.judge
    limits = httpx2.Limits(max_connections=section.concurrency)

    async def loop() -> None:
        client = anthropic.AsyncAnthropic(
            api_key="none", base_url=section.base_url, max_retries=0, timeout=None,
            open_telemetry=False,
            http_client=anthropic.DefaultAioHttpClient(
                limits=limits, timeout=None, trust_env=False
            ),
        )  # fmt: skip

        async def call(body: dict[str, Any]) -> None:
            await client.post("/v1/messages", cast_to=httpx2.Response, body=body)

        await _all(call, bodies, section.concurrency)
        await client.close()

    return timed(lambda: asyncio.run(loop()))


def bare_litellm(stage: Stage, bodies: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """`litellm.acompletion` against the same server."""
    from llm_relabel.judge.providers.litellm import load_litellm

    litellm = load_litellm()
    section = stage.prepared.job.judge

    async def loop() -> None:
        async def call(body: dict[str, Any]) -> None:
            await litellm.acompletion(
                **{**body, "model": section.model}, api_base=section.base_url, api_key="none"
            )

        await _all(call, bodies, section.concurrency)
        await litellm.close_litellm_async_clients()
        litellm.in_memory_llm_clients_cache.flush_cache()

    return timed(lambda: asyncio.run(loop()))


async def _all(
    call: Callable[[dict[str, Any]], Awaitable[None]],
    bodies: Sequence[dict[str, Any]],
    concurrency: int,
) -> None:
    waiting: Iterator[dict[str, Any]] = iter(bodies)

    async def worker() -> None:
        for body in waiting:
            await call(body)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
