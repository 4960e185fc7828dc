"""What the program itself costs: 10,000 items, recorded judge, model and embeddings cached.

    python evals/overhead.py

The rows are made here (20 classes, 15% wrong labels). A first run fills the cache of
embeddings; then a run into a new folder is measured as a whole process: wall seconds and peak
memory, as the operating system counts them. Target: under 20 s and 1 GB on two cores.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from machine import facts, keep, table

ROWS, CLASSES, WRONG, SEED, RUNS = 10_000, 20, 0.15, 0, 3


def make_job(home: Path) -> None:
    """Data, recorded answers (90% right) and a job file."""
    rng = random.Random(SEED)
    names = [f"topic_{n:02d}" for n in range(CLASSES)]
    words = {name: [f"{name[-2:]}word{n}" for n in range(40)] for name in names}
    shared = [f"common{n}" for n in range(200)]
    with (home / "data.jsonl").open("w") as data, (home / "recorded.jsonl").open("w") as recorded:
        for row in range(ROWS):
            true = rng.choice(names)
            label = rng.choice(names) if rng.random() < WRONG else true
            answer = rng.choice(names) if rng.random() < 0.1 else true
            text = " ".join(rng.sample(words[true], 4) + rng.sample(shared, 8))
            line = {"id": f"r{row}", "text": text, "label": label, "gold": true}
            data.write(json.dumps(line) + "\n")
            recorded.write(json.dumps({"id": f"r{row}", "label": answer}) + "\n")
    job = {
        "task": "classification",
        "data": {
            "path": "data.jsonl", "text": "text", "label": "label", "id": "id", "gold": "gold"
        },
        "labels": {name: f"The text uses words of {name}." for name in names},
        "judge": {"model": "recorded/recorded.jsonl"},
        "output": "warm-up",
    }  # fmt: skip
    (home / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")


def measured(home: Path, output: str) -> dict[str, Any]:
    """One whole process into a new run folder."""
    command = [sys.executable, "-m", "llm_relabel", "run", str(home / "job.yaml"),
               "--set", f"output={output}"]  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if status:
        sys.exit(f"the run failed with status {status}")
    summary = json.loads((home / output / "summary.json").read_text(encoding="utf-8"))
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "judged": sum(r["judged"] for r in summary["rounds"]),
        "rounds": len(summary["rounds"]),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["LLM_RELABEL_CACHE"] = str(home / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        make_job(home)
        warm_up = measured(home, "warm-up")
        runs = [measured(home, f"run-{number}") for number in range(RUNS)]
    about = facts("llm_relabel", "numpy", "scikit-learn", "pyarrow", "torch")
    header = ["run", "seconds", "CPU seconds", "peak MB", "rounds", "judged"]
    lines = [
        [name, r["seconds"], r["cpu_seconds"], r["peak_mb"], r["rounds"], r["judged"]]
        for name, r in [("first, embeds all", warm_up), *((f"cached {n + 1}", r)
                        for n, r in enumerate(runs))]
    ]  # fmt: skip
    markdown = (
        f"# Overhead: {ROWS:,} items, {CLASSES} classes, recorded judge\n\n"
        "`python evals/overhead.py`. Whole processes, two rounds, every file of the run folder\n"
        "written; embeddings and word features from the cache except in the first run.\n\n"
        + table(header, lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep("overhead", {"about": about, "first": warm_up, "cached": runs}, markdown)


if __name__ == "__main__":
    main()
