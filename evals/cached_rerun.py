"""A rerun whose every answer is in the verdict cache: how fast, and in how much memory.

Part of `judge_throughput.py`, which keeps its results. The cache is filled without a provider,
under the keys that the job's own questions have.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import loopback_job
from call_loops import Stage

from llm_relabel.judge.cache import CachedAnswer, VerdictCache
from llm_relabel.records import Tokens

# Nobody listens here: a question that is not in the cache would fail.
NOWHERE = {"model": "openai/toy", "base_url": "http://127.0.0.1:1/v1", "max_cost": "none"}


def filled(home: Path, rows: int) -> None:
    """A job of `rows` issues in `home`, and the answer to each of its questions in the cache."""
    home.mkdir()
    loopback_job.write_data(home, rows)
    stage = Stage(home, NOWHERE)
    judges = stage.judges(stage.prepared.cache)
    judge: Any = judges.first
    cache = VerdictCache(stage.prepared.cache)
    answer = CachedAnswer(loopback_job.ANSWER, Tokens(400, 40), None)
    item = stage.prepared.dataset.item
    for issue in stage.issues:
        (ask,) = stage.planner.first_wave([issue])
        cache.put(judge.question(ask, item(ask.row)).key, answer)
    cache.close()
    asyncio.run(judges.aclose())


def peak_mb(pid: int) -> float:
    """A process's peak of resident memory; 0 when it is gone.

    Not what `wait4` gives: a child's begins there with its parent's size before `exec`.
    """
    try:
        told = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def rerun(home: Path, output: str) -> dict[str, Any]:
    """`llm-relabel run` into a new folder: seconds and peak memory of the whole process."""
    began = time.monotonic()
    process = loopback_job.start(home, output)
    peak = 0.0
    while process.poll() is None:
        peak = peak_mb(process.pid) or peak
        time.sleep(0.02)
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit((home / f"{output}.log").read_text(encoding="utf-8")[-3000:])
    summary = json.loads((home / output / "summary.json").read_text(encoding="utf-8"))
    if summary["calls"] or summary["cached"] != summary["rows"]:
        sys.exit(f"not everything came from the cache: {summary['calls']} calls")
    return {
        "verdicts": summary["cached"],
        "seconds": round(seconds, 2),
        "peak_mb": peak,
    }


def beside_a_growing_cache(home: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The rerun of one small job while the cache grows to each of `sizes` answers."""
    filled(home, sizes[0])
    found = []
    for size in sizes:
        cache = VerdictCache(home / "cache")
        answer = CachedAnswer(loopback_job.ANSWER, Tokens(400, 40), None)
        for number in range(len(cache), size):
            cache.put(hashlib.sha256(str(number).encode()).hexdigest(), answer)
        cache.close()
        found.append({"cached": size, **rerun(home, f"beside-{size}")})
    return found


def staged(home: Path) -> dict[str, Any]:
    """The judging alone, in a process of its own: verdicts a second and peak memory."""
    command = [sys.executable, __file__, str(home)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return dict(found)


def _judging(home: Path) -> None:
    stage = Stage(home, NOWHERE)
    before = peak_mb(os.getpid())
    began = time.perf_counter()
    judged = stage.judge(stage.issues, home / "cache", home / "staged")
    seconds = time.perf_counter() - began
    assert judged.pause is None
    assert len(judged.opinions) == len(stage.issues)
    print(json.dumps({
        "verdicts": len(judged.opinions), "seconds": round(seconds, 2),
        "before_mb": before, "peak_mb": peak_mb(os.getpid()),
    }))  # fmt: skip


if __name__ == "__main__":
    _judging(Path(sys.argv[1]))
