"""How long the fusion of a large dataset takes, and how much memory.

    python evals/fusion_speed.py [--rows 1000000] [--classes 20]

Three sources beside the small model: given labels on all rows, a judge on a third of them, another
on a tenth; the small model is right on 70%. Everything is simulated; the time is that of `fuse`
alone, on one thread of numpy.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from machine import facts, keep
from numpy.typing import NDArray

from llm_relabel.evidence.fusion import SourceCodes, fuse


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=20)
    wanted = parser.parse_args()
    rows, classes = wanted.rows, wanted.classes
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)

    def said(right: float, asked: float) -> NDArray[np.int32]:
        wrong = rng.integers(0, classes, rows)
        codes = np.where(rng.random(rows) < right, truth, wrong)
        return np.where(rng.random(rows) < asked, codes, -1).astype(np.int32)

    probs = rng.random((rows, classes), dtype=np.float32)
    guess = np.where(rng.random(rows) < 0.7, truth, rng.integers(0, classes, rows))
    probs[np.arange(rows), guess] += 2
    probs /= probs.sum(axis=1, keepdims=True)
    sources = [
        SourceCodes("given", said(0.8, 1.0)), SourceCodes("one", said(0.85, 1 / 3)),
        SourceCodes("two", said(0.7, 0.1)),
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    fused = fuse(sources, probs)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    right = float((fused.posterior.argmax(axis=1) == truth).mean())
    about = facts("llm_relabel", "numpy", "scipy")
    measured = {
        "about": about, "rows": rows, "classes": classes, "sources": len(sources),
        "seconds": seconds, "gigabytes": peak / 1e6, "gigabytes_before": before / 1e6,
        "right": right,
    }  # fmt: skip
    keep("fusion_speed", measured, "\n\n".join([
        "# Fusing a large dataset",
        f"`python evals/fusion_speed.py`: {rows:,} rows, {classes} classes, {len(sources)} sources "
        f"beside the small model: {seconds:.1f} s on one thread; the process had "
        f"{before / 1e6:.2f} GB before and {peak / 1e6:.2f} GB at most. {right:.1%} right.",
        f"Measured on: {about}",
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
