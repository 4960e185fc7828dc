"""What the judge plane costs: our whole path beside bare loops, whole runs, cached reruns.

    python evals/judge_throughput.py [--quick]

One loopback server in a process of its own answers after 50 ms. In this process, interleaved
and repeated, at two concurrencies: a bare loop over the fastest call of each SDK, a bare loop
over `litellm.acompletion`, and our whole path (plan, render, hash, look up, call, validate,
journal, cache). The medians are compared. Then whole processes: `llm-relabel run` over 2,000
short items, and over 100,000 whose answers are all in the cache; and the memory of reruns.

Targets: ours at least 0.8 of the bare SDK and 2.5 of litellm; 320 items a second end to end;
10,000 cached verdicts a second; a memory that does not grow with the cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cached_rerun
import call_loops
import loopback_job
from call_loops import Stage
from loopback_server import Loopback
from machine import facts, keep, table

LATENCY = 0.05
CONCURRENCIES = (64, 256)
CALLS, LITELLM_CALLS, ITEMS = 2000, 500, 2000
# Neighbours end to end on 2,000 short items, as measured once on a machine of this kind.
NEIGHBOURS = "dspy 161, instructor 132, curator 115, distilabel 73, autolabel 12"

Loop = Callable[[], tuple[float, float]]


def loops(home: Path, server: Loopback, calls: int, repeats: int) -> list[dict[str, Any]]:
    """Calls a second and CPU milliseconds a call of every loop, medians over the repeats."""
    found = []
    for concurrency in CONCURRENCIES:
        arms: dict[str, tuple[int, Loop]] = {}
        for provider, bare in (
            ("openai", call_loops.bare_openai), ("anthropic", call_loops.bare_anthropic),
        ):  # fmt: skip
            place = home / f"{provider}-{concurrency}"
            place.mkdir()
            loopback_job.write_data(place, calls)
            stage = Stage(place, {
                "model": f"{provider}/toy", "base_url": server.base_url(f"{provider}/toy"),
                "concurrency": concurrency, "max_cost": "none",
            })  # fmt: skip
            arms |= _arms(provider, bare, stage, calls)
        for _, loop in arms.values():
            loop()  # imports, and what a first call makes once
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for _ in range(repeats):
            for name, (_, loop) in arms.items():
                runs[name].append(loop())
        for name, (number, _) in arms.items():
            found.append({
                "concurrency": concurrency, "loop": name, "calls": number,
                "per_second": [round(number / wall, 1) for wall, _ in runs[name]],
                "cpu_ms": [round(cpu / number * 1000, 3) for _, cpu in runs[name]],
            })  # fmt: skip
    return found


def _arms(provider: str, bare: Any, stage: Stage, calls: int) -> dict[str, tuple[int, Loop]]:
    bodies = stage.bodies(calls)
    arms: dict[str, tuple[int, Loop]] = {
        f"{provider}, bare SDK": (calls, lambda: bare(stage, bodies)),
        f"{provider}, ours": (calls, lambda: call_loops.ours(stage, calls)),
    }
    if provider == "openai":
        fewer = bodies[: min(calls, LITELLM_CALLS)]
        arms["litellm, bare"] = (len(fewer), lambda: call_loops.bare_litellm(stage, fewer))
    return arms


def ratios(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours over bare, by throughput and by CPU, for each concurrency and provider."""
    rows = []
    for concurrency in CONCURRENCIES:
        speed = {r["loop"]: statistics.median(r["per_second"])
                 for r in found if r["concurrency"] == concurrency}  # fmt: skip
        for provider in ("openai", "anthropic"):
            ours = speed[f"{provider}, ours"]
            rows.append({
                "concurrency": concurrency, "provider": provider,
                "ours_over_sdk": round(ours / speed[f"{provider}, bare SDK"], 3),
                "ours_over_litellm": round(ours / speed["litellm, bare"], 2),
            })  # fmt: skip
    return rows


def end_to_end(home: Path, server: Loopback, items: int, repeats: int) -> dict[str, Any]:
    """`llm-relabel run` on `items` short items, from the start of the process to its end."""
    home.mkdir()
    loopback_job.write_data(home, items)
    speeds = []
    for number in range(repeats):
        loopback_job.write_job(home, {
            "model": "openai/toy", "base_url": server.openai_url, "concurrency": 256,
            "max_cost": "none", "cache": number == 0,
        })  # fmt: skip
        began = time.monotonic()
        if loopback_job.start(home, f"run-{number}").wait():
            sys.exit((home / f"run-{number}.log").read_text(encoding="utf-8")[-3000:])
        speeds.append(round(items / (time.monotonic() - began), 1))
    return {"items": items, "per_second": speeds}


def reruns(home: Path, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Fully cached reruns of growing jobs: the whole process, and the judging alone."""
    found = []
    for size in sizes:
        place = home / f"cached-{size}"
        cached_rerun.filled(place, size)
        found.append({
            "verdicts": size,
            "run": cached_rerun.rerun(place, "again"),
            "judging": cached_rerun.staged(place),
        })  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it, results not kept")
    quick = parser.parse_args().quick
    os.environ["HF_HUB_OFFLINE"] = "1"
    calls, repeats = (400, 2) if quick else (CALLS, 5)
    sizes = (1_000, 10_000) if quick else (10_000, 100_000)
    caches = (10_000, 30_000) if quick else (10_000, 100_000, 1_000_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        Loopback(latency=LATENCY, canned=loopback_job.ANSWER) as server,
    ):
        home = Path(folder)
        found = loops(home, server, calls, repeats)
        whole = end_to_end(home / "whole", server, 500 if quick else ITEMS, repeats=min(3, repeats))
        cached = reruns(home, sizes)
        grown = cached_rerun.beside_a_growing_cache(home / "growing", caches)
    about = facts("llm_relabel", "openai", "anthropic", "litellm", "aiohttp", "diskcache")
    results = {"about": about, "loops": found, "ratios": ratios(found), "end_to_end": whole,
               "cached": cached, "growing_cache": grown}  # fmt: skip
    if quick:
        print(_markdown(results))
    else:
        keep("judge_throughput", results, _markdown(results))


def _markdown(results: dict[str, Any]) -> str:
    loop_rows = [
        [r["concurrency"], r["loop"], r["calls"], f"{statistics.median(r['per_second']):.0f}",
         f"{min(r['per_second']):.0f} to {max(r['per_second']):.0f}",
         f"{statistics.median(r['cpu_ms']):.2f}"]
        for r in results["loops"]
    ]  # fmt: skip
    ratio_rows = [
        [
            r["concurrency"],
            r["provider"],
            f"{r['ours_over_sdk']:.2f}",
            f"{r['ours_over_litellm']:.1f}",
        ]
        for r in results["ratios"]
    ]
    whole = results["end_to_end"]
    cached_rows = [
        [f"{r['verdicts']:,}",
         *(cell for part in (r["judging"], r["run"])
           for cell in (f"{r['verdicts'] / part['seconds']:,.0f}", part["peak_mb"]))]
        for r in results["cached"]
    ]  # fmt: skip
    small, large = results["cached"][0], results["cached"][-1]
    growth = {
        part: 1024 * (large[part]["peak_mb"] - small[part]["peak_mb"])
        / (large["verdicts"] - small["verdicts"])
        for part in ("judging", "run")
    }  # fmt: skip
    grown_rows = [[f"{r['cached']:,}", r["verdicts"], r["seconds"], r["peak_mb"]]
                  for r in results["growing_cache"]]  # fmt: skip
    return "\n\n".join([
        "# The judge plane's speed",
        "`python evals/judge_throughput.py`. One loopback server in its own process, "
        f"{LATENCY * 1000:.0f} ms latency, on the\nsame cores; medians of interleaved repeats.",
        table(["concurrency", "loop", "calls", "calls a second", "from, to", "CPU ms a call"],
              loop_rows),
        table(["concurrency", "provider", "ours / bare SDK", "ours / litellm"], ratio_rows),
        f"End to end, `llm-relabel run` on {whole['items']:,} short items: "
        f"**{statistics.median(whole['per_second']):.0f} items a second**, from the start of "
        f"the process to its end.\nNeighbours: {NEIGHBOURS}.",
        "A rerun in a new folder, every answer in the cache; the judging alone, and the whole run:",
        table(["verdicts", "judging: a second", "peak MB", "run: a second", "peak MB"],
              cached_rows),
        f"A further verdict takes {growth['judging']:.1f} KB in the judging (its ask, its verdict "
        f"and the opinion\nthat comes of it) and {growth['run']:.1f} KB in the run (decision, "
        "change, journals read for the summary).",
        "The same rerun beside a cache that grows:",
        table(["cached answers", "verdicts", "seconds", "peak MB"], grown_rows),
        f"Measured on: {results['about']}",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
