"""5,000 items through a faulty provider and under kills: nothing lost, nothing paid twice.

    python evals/faults.py [--quick]

Of the calls, 5% end with HTTP 429, 5% with 500, 3% with JSON that ends early, 2% hang past the
timeout and 1% name a label that does not exist. Every few hundred verdicts the run's process
group is killed (SIGKILL) and the same command started again, until it exits 0. Checked:

- each item has a verdict or a stated failure, and each verdict is in the journal once;
- a question is answered (and paid) more than once only if it was in flight at a kill;
- the dataset is that of an undisturbed run, byte for byte.

A call that hung, or whose answer was unusable, is asked again on purpose and counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import loopback_job
from loopback_server import Loopback
from machine import facts, keep, table

FAULTS = {"429": 0.05, "500": 0.05, "cut_answer": 0.03, "hang": 0.02, "off_schema": 0.01}
CONCURRENCY, TIMEOUT, LATENCY, SEED = 32, 1.0, 0.05, 0
# Nobody reads a verdict's price here; it makes the money visible in the summary.
PRICES = {"input": 0.15, "output": 0.60}


def judge_of(server: Loopback) -> dict[str, Any]:
    return {
        "model": "openai/toy", "base_url": server.openai_url, "concurrency": CONCURRENCY,
        "timeout": TIMEOUT, "prices": PRICES, "max_cost": 1000.0,
    }  # fmt: skip


def verdicts(home: Path, output: str) -> list[dict[str, Any]]:
    """The journal's verdicts; a last line that a kill tore is left out, as a resume does."""
    path = home / output / "round-1" / "verdicts.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def journaled(home: Path, output: str) -> int:
    path = home / output / "round-1" / "verdicts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def undisturbed(home: Path) -> float:
    """The same job with the same faults and no kill; the seconds it took."""
    began = time.monotonic()
    status = loopback_job.start(home, "undisturbed").wait()
    if status:
        sys.exit(f"status {status}: {(home / 'undisturbed.log').read_text()[-3000:]}")
    return time.monotonic() - began


def under_kills(home: Path, every: int) -> dict[str, Any]:
    """Run, kill after about `every` new verdicts, run again, until it exits 0."""
    rng, kills, starts = random.Random(SEED), 0, 0
    began = time.monotonic()
    while True:
        process = loopback_job.start(home, "killed")
        starts += 1
        wanted = journaled(home, "killed") + rng.randint(every // 2, every * 3 // 2)
        while process.poll() is None and journaled(home, "killed") < wanted:
            time.sleep(0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        elif process.returncode == 0:
            return {"kills": kills, "starts": starts, "seconds": time.monotonic() - began}
        elif process.returncode != 3:
            said = (home / "killed.log").read_text()
            sys.exit(f"status {process.returncode}: {said[-3000:]}")


def checked(
    home: Path, rows: int, counts: dict[str, Any], disturbed: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What came of the disturbed run, and what is wrong with it."""
    told = verdicts(home, "killed")
    last = {verdict["ask_id"]: verdict for verdict in told}
    outcomes = Counter(verdict["outcome"] for verdict in last.values())
    failed = [v for v in last.values() if v["outcome"] == "failed"]
    summary = json.loads((home / "killed" / "summary.json").read_text(encoding="utf-8"))
    good = Counter(counts["good"])
    repeated = sum(number - 1 for number in good.values() if number > 1)
    limit = disturbed["kills"] * CONCURRENCY
    same = (home / "killed/dataset.jsonl").read_bytes() == (
        home / "undisturbed/dataset.jsonl"
    ).read_bytes()
    tally = summary["rounds"][0]
    problems = [
        problem
        for problem, found in (
            ("an item has no verdict", len(last) != rows or len({v["id"] for v in told}) != rows),
            ("a failure states no reason", any(not v["reason"] or not v["error"] for v in failed)),
            ("a verdict was journaled twice", len(told) - len(last) != retried(told)),
            ("the summary does not add up", tally["judged"] != rows or rows != sum(
                tally[name] for name in ("replaced", "kept", "abstained", "failed"))),
            ("an answered question was never paid for", sum(outcomes.values()) - outcomes["failed"]
                > len(good)),
            (f"{repeated} answers were paid again, over {limit} in flight", repeated > limit),
            ("the dataset differs from the undisturbed run's", not same),
        )
        if found
    ]  # fmt: skip
    found = {
        **{f"calls: {kind}": number for kind, number in sorted(counts["kinds"].items())},
        "items": rows,
        "with a verdict": outcomes["answer"] + outcomes["abstain"],
        "with a stated failure": outcomes["failed"],
        "starts": disturbed["starts"],
        "kills": disturbed["kills"],
        "answers paid again": repeated,
        "most that were in flight at the kills": limit,
        "re-asked after an unusable answer": counts["kinds"]["cut_answer"]
        + counts["kinds"]["off_schema"],
        "called again after a hang": counts["kinds"]["hang"],
        "same dataset as undisturbed": same,
        "seconds": round(disturbed["seconds"], 1),
    }
    return found, problems


def retried(told: list[dict[str, Any]]) -> int:
    """Verdicts that a later process asked anew because the first was a transient failure."""
    return sum(verdict["reason"] == "transport" for verdict in told) - sum(
        verdict["reason"] == "transport"
        for verdict in {verdict["ask_id"]: verdict for verdict in told}.values()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="600 items, results not kept")
    quick = parser.parse_args().quick
    rows, every = (600, 150) if quick else (5000, 300)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        loopback_job.write_data(home, rows)
        with Loopback(latency=LATENCY, faults=FAULTS, seed=SEED) as server:
            loopback_job.write_job(home, judge_of(server))
            plain = undisturbed(home)
        before = journaled(home, "undisturbed")
        # A server and a cache of its own: nothing of the first run helps the second.
        (home / "cache").rename(home / "cache-of-undisturbed")
        with Loopback(latency=LATENCY, faults=FAULTS, seed=SEED) as server:
            loopback_job.write_job(home, judge_of(server))
            disturbed = under_kills(home, every)
            found, problems = checked(home, rows, server.counts(), disturbed)
    found["seconds undisturbed"] = round(plain, 1)
    about = facts("llm_relabel", "openai", "aiohttp", "diskcache")
    shares = ", ".join(f"{share:.0%} {kind}" for kind, share in FAULTS.items())
    markdown = (
        f"# Faults and kills: {rows:,} items\n\n"
        f"`python evals/faults.py`. Of the calls {shares}; concurrency {CONCURRENCY}, "
        f"timeout {TIMEOUT:g} s,\na SIGKILL of the process group every {every} verdicts or so.\n\n"
        + table(["", ""], list(found.items()))
        + f"\n\n{'FAILED: ' + '; '.join(problems) if problems else 'All checks hold.'}\n\n"
        f"Measured on: {about}\n"
    )
    assert before == rows
    if quick:
        print(markdown)
    else:
        keep("faults", {"about": about, **found, "problems": problems}, markdown)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
