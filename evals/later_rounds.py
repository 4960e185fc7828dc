"""Is the certificate still true a round after the one that was spot-checked?

    python evals/later_rounds.py [--draws 20]

Each run judges one round with recorded answers of a real LLM, has 100 spot-checks answered from
gold, and then goes on for a second round: its model learned from those answers, and it flags and
asks anew. Spot-checked rows must be judged like all others, or they stand for nothing any more. The
certificate of the second round is held against gold. No default was chosen by it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts, keep, table
from sets import answers_file, read_set, write_job

import llm_relabel as lr
from llm_relabel.review import Review, draw_sample, export_items, import_answers

CASES = (("fomc_stance", "gpt-4"), ("numclaim_analyst", "llama-2-70b-chat/fewshot-complex"))
CHECKS = 100


def score(case: tuple[str, str, int]) -> dict[str, Any]:
    """One run of two rounds: what the second certifies, and what is true."""
    name, model, seed = case
    one = read_set(name)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        judge = {"model": f"recorded/{answers_file(model)}"}
        job = write_job(folder, "job", one, judge=judge, seed=seed)
        lr.relabel(job, overrides=["rounds=1"])
        review, sheet = Review(folder / "run"), folder / "sheet.jsonl"
        draw_sample(review, CHECKS)
        export_items(review, sheet)
        lines = [json.loads(line) for line in sheet.read_text(encoding="utf-8").splitlines()]
        told = [
            {**line, "answer": one.gold[line["id"]]} for line in lines if line["id"] in one.gold
        ]
        sheet.write_text("".join(json.dumps(line) + "\n" for line in told), encoding="utf-8")
        import_answers(review, sheet, "gold")
        summary = lr.relabel(job, overrides=["rounds=2"]).summary
        asked = {
            json.loads(line)["id"]
            for path in sorted((folder / "run").glob("round-*/asks.jsonl"))
            for line in path.read_text(encoding="utf-8").splitlines()
        }
    certified = summary["spot_checks"]["certificate"]["label_accuracy"]
    return {
        "set": name, "model": model, "seed": seed, "rounds": len(summary["rounds"]),
        "asked_again": summary["rounds"][-1]["judged"] if len(summary["rounds"]) > 1 else 0,
        "asked": len(asked), "policy": summary["policy"],
        **{end: certified[end] for end in ("value", "low", "high")},
        "true": summary["gold"]["labels_after"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["OMP_NUM_THREADS"] = "1"
    cases = [(name, model, seed) for name, model in CASES for seed in range(draws)]
    runs = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for run in pool.map(score, cases):
            runs.append(run)
            print(run, file=sys.stderr)
    sets = {name: _totals([run for run in runs if run["set"] == name]) for name, _ in CASES}
    measured = {
        "about": facts("llm_relabel", "numpy", "scipy", "scikit-learn", "torch"),
        "draws": draws, "sets": sets, "runs": runs,
    }  # fmt: skip
    keep("later_rounds", measured, _markdown(measured))


def _totals(runs: list[dict[str, Any]]) -> dict[str, Any]:
    off = np.array([run["value"] - run["true"] for run in runs])
    held = [run["low"] <= run["true"] <= run["high"] for run in runs]
    return {
        "model": runs[0]["model"], "runs": len(runs),
        "true": float(np.mean([run["true"] for run in runs])),
        "certified": float(np.mean([run["value"] for run in runs])),
        "off": float(off.mean()), "off_error": float(off.std(ddof=1) / np.sqrt(len(off))),
        "held": int(sum(held)),
    }  # fmt: skip


def _markdown(measured: dict[str, Any]) -> str:
    header = [
        "set",
        "judge",
        "runs",
        "truly right",
        "certified",
        "difference",
        "intervals that hold",
    ]
    rows = [
        [name, t["model"], t["runs"], f"{t['true']:.1%}", f"{t['certified']:.1%}",
         f"{t['off'] * 100:+.1f} points (standard error {t['off_error'] * 100:.1f})",
         f"{t['held']} of {t['runs']}"]
        for name, t in measured["sets"].items()
    ]  # fmt: skip
    return "\n".join(
        [
            "# The certificate a round after the spot-checks",
            "",
            f"`python evals/later_rounds.py`: one round, {CHECKS} spot-checks answered from gold, "
            f"then a second round that flags and asks anew; {measured['draws']} draws of each set.",
            "",
            table(header, rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
