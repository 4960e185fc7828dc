"""Does a change of the code cost speed? Two checkouts side by side, pair after pair, in CPU time.

    python evals/before_after.py --before REV_OR_FOLDER [--after REV_OR_FOLDER] [--pairs N]
        [--only ARM ...]

Each arm is a whole process, run with one checkout and at once with the other, in turns who goes
first; the median of the pairs' ratios (before / after, so below 1 is slower now) is what counts.
CPU time of all threads, user and system, as the operating system counts it:

    overhead        10,000 items, recorded judge, two rounds, as in `overhead.py`
    cached          10,000 verdicts out of the cache, as in `cached_rerun.py`
    throughput      2,000 calls to a loopback server, as in `judge_throughput.py`
    fusion          `fuse` of 1,000,000 rows with 20 classes and three sources, as `fusion_speed.py`
    fusion of kinds 1,000,000 units of 5 kinds with 5 values: one table now, five calls before
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cached_rerun
import loopback_job
import overhead
from loopback_server import Loopback
from machine import facts, keep, table
from unchanged import checkout

ITEMS, CACHED = 2_000, 10_000

# What is timed inside a process, after the data is made: prints CPU seconds.
FUSION = """
import sys, time
import numpy as np
from llm_relabel.fusion import Source, fuse
rows, classes, kinds = 1_000_000, int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
truth = rng.integers(0, classes, rows)
def said(right, asked):
    codes = np.where(rng.random(rows) < right, truth, rng.integers(0, classes, rows))
    return np.where(rng.random(rows) < asked, codes, -1).astype(np.int32)
probs = rng.random((rows, classes), dtype=np.float32)
guess = np.where(rng.random(rows) < 0.7, truth, rng.integers(0, classes, rows))
probs[np.arange(rows), guess] += 2
probs /= probs.sum(axis=1, keepdims=True)
codes = {"given": said(0.8, 1.0), "one": said(0.85, 1 / 3), "two": said(0.7, 0.1)}
try:
    from llm_relabel.fusion import fuse_units
    from llm_relabel.units import Kind, Units
except ImportError:
    fuse_units = None
known = np.full(rows, -1, dtype=np.int32)
kind = np.arange(rows) % kinds
began = time.process_time()
if kinds == 1:
    fuse([Source(name, each) for name, each in codes.items()], probs)
elif fuse_units is None:
    for number in range(kinds):
        here = np.flatnonzero(kind == number)
        fuse([Source(name, each[here]) for name, each in codes.items()], probs[here],
             known=known[here])
else:
    values = tuple(range(classes))
    units = Units(tuple(Kind(f"k{n}", values, tuple(map(str, values))) for n in range(kinds)),
                  rows, np.arange(rows), kind.astype(np.int32),
                  np.full(rows, "k", dtype=object), np.zeros(kinds))
    fuse_units(units, codes, probs, known)
print(time.process_time() - began)
"""


def cpu_of(process: subprocess.Popen[bytes], log: Path) -> float:
    """CPU seconds of a whole process that ends well."""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(log.read_text(encoding="utf-8")[-3000:])
    return usage.ru_utime + usage.ru_stime


class Arms:
    """Each arm gives CPU seconds with one checkout, whose folder is first on the path."""

    def __init__(self, home: Path, server: Loopback) -> None:
        self.home = home
        self._runs = 0
        for name in ("overhead", "throughput"):
            (home / name).mkdir()
        overhead.make_job(home / "overhead")
        cached_rerun.filled(home / "cached", CACHED)
        loopback_job.write_data(home / "throughput", ITEMS)
        loopback_job.write_job(home / "throughput", {
            "model": "openai/toy", "base_url": server.openai_url, "concurrency": 256,
            "max_cost": "none", "cache": False,
        })  # fmt: skip
        self.all: dict[str, Callable[[Path], float]] = {
            "overhead": lambda side: self._run("overhead", side),
            "cached": lambda side: self._run("cached", side),
            "throughput": lambda side: self._run("throughput", side),
            "fusion": lambda side: self._fusion(side, 20, 1),
            "fusion of kinds": lambda side: self._fusion(side, 5, 5),
        }

    def _run(self, job: str, side: Path) -> float:
        self._runs += 1
        output = f"run-{self._runs}"
        os.environ["PYTHONPATH"] = str(side)
        process = loopback_job.start(self.home / job, output)
        return cpu_of(process, self.home / job / f"{output}.log")

    def _fusion(self, side: Path, classes: int, kinds: int) -> float:
        command = [sys.executable, "-c", FUSION, str(classes), str(kinds)]
        env = {**os.environ, "PYTHONPATH": str(side)}
        done = subprocess.run(command, env=env, cwd=self.home, check=True, capture_output=True)
        return float(done.stdout)


def paired(arm: Callable[[Path], float], sides: tuple[Path, Path], pairs: int) -> dict[str, Any]:
    """CPU seconds of both sides and the ratio of each pair, after one run of each unmeasured."""
    for side in sides:
        arm(side)
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            seconds[which].append(round(arm(sides[which]), 3))
    ratios = [round(before / after, 3) for before, after in zip(*seconds, strict=True)]
    return {
        "before": seconds[0], "after": seconds[1], "ratios": ratios,
        "median": statistics.median(ratios),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", required=True, help="a revision or a folder")
    parser.add_argument("--after", default=str(Path(__file__).parent.parent))
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", nargs="*", help="these arms; results are not kept then")
    wanted = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with (
        tempfile.TemporaryDirectory() as folder,
        checkout(wanted.before) as (before, was),
        checkout(wanted.after) as (after, now),
        Loopback(latency=0.05, canned=loopback_job.ANSWER) as server,
    ):
        found = {}
        for name, arm in Arms(Path(folder), server).all.items():
            if wanted.only and name not in wanted.only:
                continue
            found[name] = paired(arm, (before, after), wanted.pairs)
            print(f"{name}: {found[name]}", flush=True)
    about = facts("llm_relabel", "numpy", "scipy", "pyarrow", "torch")
    measured = {"about": about, "before": was, "after": now, "pairs": wanted.pairs, "arms": found}
    lines = [
        [name, f"{statistics.median(arm['before']):.2f}", f"{statistics.median(arm['after']):.2f}",
         f"{min(arm['ratios']):.3f} to {max(arm['ratios']):.3f}", f"**{arm['median']:.3f}**"]
        for name, arm in found.items()
    ]  # fmt: skip
    markdown = "\n\n".join([
        "# The speed of two versions, pair by pair",
        f"`python evals/before_after.py --before {was}`: {was} before, {now} after; "
        f"{wanted.pairs} interleaved pairs of each, CPU seconds (medians), and before / after.",
        table(["arm", "before, s", "after, s", "ratios", "median ratio"], lines),
        f"Measured on: {about}",
    ])  # fmt: skip
    if wanted.only:
        print(markdown)
    else:
        keep("before_after", measured, markdown)


if __name__ == "__main__":
    main()
