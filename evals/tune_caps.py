"""Tuning under caps and kills, against a loopback server's own counts.

    python evals/tune_caps.py [--runs N] [--kills N]

- Random runs: each draws prices, a money cap, `--max-calls`, faults and a concurrency. The server
  counts every call that reached it, and its bill; neither may go over its cap.
- Kills: one tuning is killed (SIGKILL) at random calls, each time after some calls more, and the
  same command goes on; the last one ends. Its file must be that of a tuning that nobody disturbed,
  and no call may be paid for twice but those that were in flight at a kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import loopback_job
from loopback_job import NAMES, text_of
from loopback_server import Loopback
from machine import facts, keep, table
from money_cap import billed

from llm_relabel import tune
from llm_relabel.errors import JobError, Paused
from llm_relabel.judge import retry

ROWS, GOLD, TIMEOUT, CENT = 400, 160, 5.0, 1e-6
KINDS = ("429", "500", "drop", "cut_body", "cut_answer", "off_schema", "refusal", "no_usage")


def write_data(home: Path) -> None:
    """Rows of which the given predictions agree with six of seven labels; gold for some."""
    with (
        (home / "data.jsonl").open("w") as data,
        (home / "predictions.jsonl").open("w") as probs,
        (home / "gold.jsonl").open("w") as gold,
    ):
        for row in range(ROWS):
            label = NAMES[row % 6]
            data.write(json.dumps({"id": f"i{row}", "text": text_of(row), "label": label}) + "\n")
            predicted = NAMES[(row + (row % 7 == 0)) % 6]
            values = [0.75 if name == predicted else 0.05 for name in NAMES]
            probs.write(json.dumps({"id": f"i{row}", "pred_probs": values}) + "\n")
            if row < GOLD:
                gold.write(json.dumps({"id": f"i{row}", "gold": label}) + "\n")


def one(home: Path, server: Loopback, number: int, rng: random.Random) -> dict[str, Any]:
    """One random run, in this process; what it spent and was allowed."""
    faults = {
        kind: round(rng.uniform(0.01, 0.06), 3) for kind in rng.sample(KINDS, rng.randint(0, 5))
    }
    server.begin_again(faults=faults, seed=number)
    for name in ("cache", "run-tune"):
        shutil.rmtree(home / name, ignore_errors=True)
    model = rng.choice(["openai/first", "anthropic/first"])
    price = round(rng.uniform(0.5, 5.0), 3)
    most = rng.randint(300, 900)
    cap = round(price * rng.uniform(0.05, 4.0), 4)
    judge = {
        "model": model, "base_url": server.base_url(model), "timeout": TIMEOUT,
        "concurrency": rng.choice([1, 4, 16, 64]), "max_cost": cap,
        "prices": {"input": price, "output": round(price * rng.uniform(1, 4), 3)},
        "breakers": dict.fromkeys(("failures_in_a_row", "failed", "invalid", "replacement")),
    }  # fmt: skip
    job = loopback_job.write_job(home, judge)
    status = "?"
    try:
        settings = tune.Settings(max_calls=most, copy=True)
        done = tune.tune(job, home / "gold.jsonl", settings=settings, output=home / "run-tune")
        status = done.status
    except Paused as pause:
        status = "paused by the money cap" if "max_cost" in str(pause) else f"paused: {pause}"
    except JobError as error:
        status = f"refused: {error}"
    counts = server.counts()
    return {
        "number": number, "status": status, "calls": sum(counts["calls"].values()),
        "max_calls": most, "bill": billed(counts["tokens"], judge), "max_cost": cap,
        "faults": faults,
    }  # fmt: skip


def start(home: Path, folder: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "llm_relabel", "tune", str(home / "job.yaml"), "--copy", "examples",
        "--gold", str(home / "gold.jsonl"), "-o", str(home / folder),
    ]  # fmt: skip
    env = {**os.environ, "LLM_RELABEL_CACHE": str(home / f"cache-{folder}"), "HF_HUB_OFFLINE": "1"}
    with (home / f"{folder}.log").open("ab") as log:
        return subprocess.Popen(command, env=env, start_new_session=True, stdout=log, stderr=log)


def killed(home: Path, server: Loopback, kills: int, rng: random.Random) -> dict[str, Any]:
    """A tuning that is killed so often, and one that is not."""
    model, concurrency = "openai/first", 4
    judge = {"model": model, "base_url": server.base_url(model), "concurrency": concurrency}
    loopback_job.write_job(home, judge)
    (home / "gold.jsonl.looks.jsonl").unlink(missing_ok=True)
    server.begin_again(faults={}, seed=1)
    start(home, "undisturbed").wait()
    needed = sum(server.counts()["calls"].values())
    (home / "gold.jsonl.looks.jsonl").unlink(missing_ok=True)
    server.begin_again(faults={}, seed=1)
    done, made, spread = 0, 0, max(1, needed // (kills + 1))
    while done < kills:
        wanted = made + rng.randint(1, max(1, 2 * spread - 1))
        process = start(home, "killed")
        while process.poll() is None and made < wanted:
            time.sleep(0.005)
            made = sum(server.counts()["calls"].values())
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
    start(home, "killed").wait()
    made = sum(server.counts()["calls"].values())
    folders = [home / name for name in ("undisturbed", "killed")]
    files = [(each / "labels.tuned.yaml").read_bytes() for each in folders]
    return {"kills": done, "calls undisturbed": needed, "calls killed": made,
            "in flight at most": done * concurrency,
            "the same file": files[0] == files[1]}  # fmt: skip


async def _at_once(_seconds: float) -> None:
    """Instead of the waits between attempts, which only cost time here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    rng, began = random.Random(0), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_data(home)
        with Loopback(latency=0.02) as server:
            deaths = killed(home, server, options.kills, rng)
        print(deaths, flush=True)
        os.environ["LLM_RELABEL_CACHE"] = str(home / "cache")
        waits, retry.sleep = retry.sleep, _at_once
        with Loopback(latency=0.002, random_usage=True) as server:
            runs = [one(home, server, number, rng) for number in range(options.runs)]
        retry.sleep = waits
    over_calls = [run for run in runs if run["calls"] > run["max_calls"]]
    over_cost = [run for run in runs if run["bill"] > run["max_cost"] + CENT]
    statuses = [run["status"].partition(":")[0] for run in runs]
    told: list[tuple[str, Any]] = [
        ("runs", len(runs)),
        *((f"ended: {name}", statuses.count(name)) for name in sorted(set(statuses))),
        ("over --max-calls", len(over_calls)),
        ("over max_cost", len(over_cost)),
        ("most calls, share of --max-calls",
         f"{max(r['calls'] / r['max_calls'] for r in runs):.3f}"),
        ("highest bill, share of max_cost", f"{max(r['bill'] / r['max_cost'] for r in runs):.3f}"),
        *deaths.items(),
    ]  # fmt: skip
    about, seconds = facts("llm_relabel", "openai", "anthropic"), round(time.monotonic() - began)
    markdown = (
        f"# Tuning under caps and kills\n\n`python evals/tune_caps.py`, {seconds} s.\n\n"
        + table(["", ""], told) + f"\n\nMeasured on: {about}\n"
    )  # fmt: skip
    keep("tune_caps", {"about": about, "seconds": seconds, "runs": runs, "kills": deaths}, markdown)
    twice = deaths["calls killed"] - deaths["calls undisturbed"] > deaths["in flight at most"]
    sys.exit(1 if over_calls or over_cost or twice or not deaths["the same file"] else 0)


if __name__ == "__main__":
    main()
