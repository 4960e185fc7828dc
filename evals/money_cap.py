"""200 random runs under a money cap, against the server's own bill.

    python evals/money_cap.py [--quick]

Each run draws its wire format, prices, cap, faults, concurrency, and on some a panel, samples,
an escalation, controls, a raised cap, or kills (SIGKILL, then the same command again). The
server draws token counts up to the most that a request allows and adds up its own bill; a call
without an answer (hung, lost, cut) is billed at that most, all of its input at the dearest price.

- The bill never exceeds `max_cost`, and never what the run says that it spent at most.
- Where the cap stopped the run with work left, and held at least 20 calls at their worst case,
  at least 95% of it was spent (a call without an answer, or without usage, at its worst case).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import loopback_job
from call_loops import Stage
from loopback_server import Loopback
from machine import facts, keep, table

from llm_relabel import engine
from llm_relabel.config.job import load_job
from llm_relabel.config.judges import Prices
from llm_relabel.errors import Paused
from llm_relabel.judge import retry
from llm_relabel.judge.prices import worst_case
from llm_relabel.run_folder.folder import RunFolder

ROWS, LATENCY, TIMEOUT, SEED = 200, 0.002, 0.15, 0
KINDS = ("429", "500", "hang", "drop", "drop_midway", "cut_body", "cut_answer", "off_schema",
         "refusal", "no_usage", "no_input_usage", "no_output_usage")  # fmt: skip
# What a re-ask adds to a request: the unusable answer, at most 2,000 characters, and a sentence.
RE_ASK_BYTES = 2600
CENT = 1e-6  # figures of the summary are rounded to this


@dataclass
class Case:
    """One random run, and what came of it. Dollars; `worst` is of the dearest call there can be."""

    number: int
    judge: dict[str, Any]
    faults: dict[str, float]
    calls_in_cap: float
    kills: int
    raised: bool
    worst: float = 0.0
    caps: list[float] = field(default_factory=list)
    killed: int = 0
    bill: float = 0.0
    spent: float = 0.0
    paused: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def must_be_used(self) -> bool:
        """Whether the cap ended the run and was large enough to be used up."""
        return self.paused and self.caps[-1] >= 20 * self.worst


def draw(number: int, rng: random.Random, server: Loopback) -> Case:
    """A random run."""

    def member(name: str) -> dict[str, Any]:
        model = f"{rng.choice(['openai', 'anthropic'])}/{name}"
        price = round(rng.uniform(0.5, 5.0), 3)
        prices = {"input": price, "output": round(price * rng.uniform(1, 5), 3)}
        if rng.random() < 0.5:
            prices["cached_input"] = round(price * rng.uniform(0.1, 1.0), 3)
        if rng.random() < 0.5:
            prices["cache_write"] = round(price * rng.uniform(1.0, 2.0), 3)
        return {
            "model": model, "base_url": server.base_url(model), "prices": prices,
            "concurrency": rng.choice([1, 4, 16, 64]),
            "max_output_tokens": rng.choice([64, 256, 1024]),
        }  # fmt: skip

    # No breaker: faults are what is wanted here.
    names = ("failures_in_a_row", "failed", "invalid", "replacement")
    judge = {**member("first"), "breakers": dict.fromkeys(names)}
    if rng.random() < 0.2:
        judge["panel"] = [member(f"panel{n}") for n in range(rng.choice([1, 2]))]
    if rng.random() < 0.2:
        judge["samples"] = rng.choice([2, 3])
    if rng.random() < 0.2:
        judge["escalate"] = [{**member("stronger"), "below": 0.95}]
    if rng.random() < 0.2:
        judge["controls"] = 0.1
    kinds = rng.sample(KINDS, rng.randint(0, 6))
    faults = {kind: round(rng.uniform(0.01, 0.08), 3) for kind in kinds}
    # Short where calls hang; elsewhere a busy machine must not look like a silent provider.
    for each in (judge, *judge.get("panel", ()), *judge.get("escalate", ())):
        each["timeout"] = TIMEOUT if "hang" in faults else 30.0
    return Case(
        number, judge, faults,
        calls_in_cap=rng.uniform(0.5, 20) if rng.random() < 0.25 else rng.uniform(20, 120),
        kills=rng.choice([1, 2]) if rng.random() < 0.12 else 0,
        raised=rng.random() < 0.2,
    )  # fmt: skip


def worst_call(stage: Stage) -> float:
    """The most dollars that any one call of the job can cost, re-asks included."""
    judges = stage.judges(stage.prepared.cache)
    asks = stage.planner.first_wave(stage.issues)
    longest = max(asks, key=lambda ask: len(stage.prepared.dataset.text[ask.row].as_py()))
    dearest = 0.0
    for judge in judges:
        request = judge.question(longest, stage.prepared.dataset.item(longest.row)).request
        price = judge.prices
        each = max(price.input, price.cache_write or 0.0, price.cached_input or 0.0) / 1e6
        dearest = max(dearest, worst_case(request, price)[1] + RE_ASK_BYTES * each)
    return dearest


def billed(tokens: dict[str, list[int]], judge: dict[str, Any]) -> float:
    """The server's own count of tokens, at the job's prices."""
    total = 0.0
    members = [judge, *judge.get("panel", []), *judge.get("escalate", [])]
    for member in members:
        counted = tokens.get(member["model"].partition("/")[2])
        if counted is None:
            continue
        price = Prices(**member["prices"])
        asked, cached, written, said = counted
        total += (asked - cached - written) * price.input + said * price.output
        total += cached * (price.input if price.cached_input is None else price.cached_input)
        total += written * (price.input if price.cache_write is None else price.cache_write)
    return total / 1e6


def go(home: Path, case: Case) -> None:
    """The run in this process, over the cap or to its end."""
    try:
        engine.run_job(load_job(home / "job.yaml", ["output=run"]))
        case.paused = False
    except Paused as pause:
        case.paused = True
        if "max_cost" not in str(pause):
            case.problems.append(f"paused by something else: {pause}")


def go_under_kills(home: Path, case: Case, rng: random.Random) -> None:
    """The run as processes, killed after some verdicts; then once more in this process."""
    path = home / "run" / "round-1" / "verdicts.jsonl"
    lines = 0
    for _ in range(case.kills):
        wanted = lines + rng.randint(1, 60)
        process = loopback_job.start(home, "run")
        while process.poll() is None and lines < wanted:
            time.sleep(0.002)
            lines = path.read_bytes().count(b"\n") if path.exists() else 0
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            case.killed += 1
    go(home, case)


def measured(home: Path, case: Case, server: Loopback, rng: random.Random) -> None:
    """Run one case and check the money."""
    server.begin_again(faults=case.faults, seed=case.number)
    for name in ("run", "cache"):
        shutil.rmtree(home / name, ignore_errors=True)
    stage = Stage(home, {**case.judge, "max_cost": "none"})
    case.worst = worst_call(stage)
    caps = [round(case.worst * case.calls_in_cap, 6)]
    caps += [round(caps[0] * rng.uniform(1.1, 2.0), 6)] if case.raised else []
    for at, cap in enumerate(caps):
        case.caps.append(cap)
        loopback_job.write_job(home, {**case.judge, "max_cost": cap})
        if at == 0 and case.kills:
            go_under_kills(home, case, rng)
        else:
            go(home, case)
        summary = RunFolder(home / "run").summary()
        case.bill = billed(server.counts()["tokens"], case.judge)
        case.spent = (summary["cost"] or 0.0) + summary["cost_unaccounted"]
        if case.bill > cap + CENT:
            case.problems.append(f"the bill ${case.bill:.6f} exceeds the cap ${cap:.6f}")
        if case.bill > case.spent + 2 * CENT:
            case.problems.append(f"the bill ${case.bill:.6f} exceeds the told ${case.spent:.6f}")
        if case.must_be_used and case.spent < 0.95 * cap:
            case.problems.append(f"only ${case.spent:.6f} of the cap ${cap:.6f} was spent")


def told(cases: list[Case]) -> list[tuple[str, Any]]:
    """The runs in numbers."""
    used = [case for case in cases if case.must_be_used]
    plain = [case.bill / case.caps[-1] for case in used if not case.killed and not case.faults]
    shares = sorted(case.spent / case.caps[-1] for case in used)
    return [
        ("runs", len(cases)),
        ("with kills", sum(case.killed > 0 for case in cases)),
        ("with several judges", sum(
            any(k in case.judge for k in ("panel", "samples", "escalate")) for case in cases)),
        ("with a raised cap", sum(case.raised for case in cases)),
        ("stopped by the cap", sum(case.paused for case in cases)),
        ("highest bill, share of the cap", f"{max(c.bill / c.caps[-1] for c in cases):.4f}"),
        ("stopped by a cap of 20 worst-case calls or more", len(used)),
        ("their spending, share of the cap: least, median",
         f"{shares[0]:.4f}, {shares[len(shares) // 2]:.4f}"),
        ("the bill's share where nothing failed and nothing was killed: least",
         f"{min(plain):.4f}" if plain else "-"),
        ("runs with a problem", sum(bool(case.problems) for case in cases)),
    ]  # fmt: skip


async def _at_once(_seconds: float) -> None:
    """Instead of the waits between attempts, which only cost time here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20 runs, results not kept")
    quick = parser.parse_args().quick
    retry.sleep = _at_once
    rng = random.Random(SEED)
    began = time.monotonic()
    cases = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Loopback(latency=LATENCY, faults={}, random_usage=True) as server,
    ):
        home = Path(folder)
        loopback_job.write_data(home, ROWS)
        for number in range(20 if quick else 200):
            case = draw(number, rng, server)
            measured(home, case, server, rng)
            cases.append(case)
            for problem in case.problems:
                print(f"run {number}: {problem}; {json.dumps(case.judge)} {case.faults}")
    about = facts("llm_relabel", "openai", "anthropic", "aiohttp")
    seconds = round(time.monotonic() - began)
    markdown = (
        f"# The money cap: {len(cases)} random runs\n\n"
        f"`python evals/money_cap.py`, {seconds} s. At most {ROWS} items a run; faults among "
        f"{', '.join(KINDS)}.\n\n" + table(["", ""], told(cases)) + f"\n\nMeasured on: {about}\n"
    )
    failed = any(case.problems for case in cases)
    if quick:
        print(markdown)
    else:
        results = [
            {"worst": c.worst, "caps": c.caps, "bill": c.bill, "spent": c.spent,
             "paused": c.paused, "killed": c.killed, "faults": c.faults, "problems": c.problems}
            for c in cases
        ]  # fmt: skip
        keep("money_cap", {"about": about, "seconds": seconds, "runs": results}, markdown)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
