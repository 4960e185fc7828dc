"""100,000 items: how long `eval` and `report` take, and how large the report is.

    python evals/large.py [--rows 100000]

Rows, predictions (80% right) and recorded answers (90% right, with a confidence) are made here:
20 classes, 20% wrong labels. Each command is measured as a whole process: wall seconds and peak
memory as the operating system counts them. Targets: eval under 60 s, report under 30 s and 5 MB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from machine import facts, keep, table

CLASSES, SEED = 20, 0
EVAL_SECONDS, REPORT_SECONDS, REPORT_MB = 60, 30, 5


def make_job(home: Path, rows: int) -> None:
    """Data, predictions, recorded answers and a job file."""
    rng = np.random.default_rng(SEED)
    names = np.array([f"topic_{number:02d}" for number in range(CLASSES)])
    truth = rng.integers(0, CLASSES, rows)

    def mostly(right: float) -> Any:
        return np.where(rng.random(rows) < right, truth, rng.integers(0, CLASSES, rows))

    ids = [f"r{row}" for row in range(rows)]
    texts = [f"message {row} about {names[code]} in a few plain words"
             for row, code in enumerate(truth)]  # fmt: skip
    data = {"id": ids, "text": texts, "label": names[mostly(0.8)], "gold": names[truth]}
    pq.write_table(pa.table(data), home / "data.parquet")
    predicted, belief = mostly(0.8), rng.uniform(0.4, 0.99, rows)
    probs = np.repeat(((1 - belief) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    probs[np.arange(rows), predicted] = belief
    pq.write_table(pa.table({"id": ids, "pred_probs": list(probs)}), home / "preds.parquet")
    confidence = np.round(rng.uniform(0.5, 1, rows), 2)
    answers = {"id": ids, "label": names[mostly(0.9)], "confidence": confidence,
               "rationale": ["The words name the topic."] * rows}  # fmt: skip
    pq.write_table(pa.table(answers), home / "answers.parquet")
    job = {
        "task": "classification",
        "data": {"path": "data.parquet", "text": "text", "label": "label", "id": "id",
                 "gold": "gold"},
        "labels": {str(name): f"The text is about {name}." for name in names},
        "model": {"predictions": "preds.parquet"},
        "judge": {"model": "recorded/answers.parquet"},
        "rounds": 2,
        "output": "run",
    }  # fmt: skip
    (home / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")


def measured(*words: str) -> dict[str, float]:
    """One command as a whole process."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_relabel", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(told.decode())
    return {
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_job(home, rows)
        results = {
            "run": measured("run", str(home / "job.yaml")),
            "eval": measured("eval", str(home / "job.yaml")),
            "report": measured("report", str(home / "run")),
        }
        megabytes = (home / "run" / "report.html").stat().st_size / 1e6
    about = facts("llm_relabel", "numpy", "scikit-learn", "pyarrow", "matplotlib")
    met = (
        results["eval"]["seconds"] < EVAL_SECONDS
        and results["report"]["seconds"] < REPORT_SECONDS
        and megabytes < REPORT_MB
    )
    markdown = (
        f"# {rows:,} items\n\n`python evals/large.py`, whole processes.\n\n"
        + table(
            ["command", "seconds", "CPU seconds", "peak MB", "target"],
            [
                [name, *found.values(), {"eval": "60 s", "report": "30 s"}.get(name, "")]
                for name, found in results.items()
            ],
        )
        + f"\n\n`report.html`: {megabytes:.2f} MB (target 5). Targets {'met' if met else 'MISSED'}."
        + f"\n\nMeasured on: {about}\n"
    )
    measures = {"about": about, "rows": rows, "results": results, "report_mb": megabytes}
    keep("large", {**measures, "met": met}, markdown)


if __name__ == "__main__":
    main()
