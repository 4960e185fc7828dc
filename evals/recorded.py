"""The main job with what real LLMs once answered as the judge, recounted independently.

    LLM_RELABEL_DATA=... python evals/recorded.py

For every recorded LLM of `fomc_stance` and `numclaim_analyst`: the whole job through the
command line, default settings. An item without a recorded answer abstains as not_recorded.
The summary's counts are compared with a recount from the input and output files alone, which
shares no code with the package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from machine import facts, keep, rows_of, table

SETS = {
    "fomc_stance": {
        "dovish": "The sentence leans to easier monetary policy: weak growth or jobs, low "
        "inflation, cuts of interest rates or asset purchases.",
        "hawkish": "The sentence leans to tighter monetary policy: strong growth or jobs, high "
        "inflation, raises of interest rates or an end of purchases.",
        "neutral": "The sentence leans to neither side, is mixed, or is not about policy.",
    },
    "numclaim_analyst": {
        "INCLAIM": "The sentence makes a claim about the future with a number in it: an estimate, "
        "forecast or expectation.",
        "OUTOFCLAIM": "The sentence states a fact, a past figure or an assumption, or has no "
        "forward-looking number.",
    },
}


def run(name: str, model: str, rows: list[dict[str, Any]], policy: str) -> dict[str, Any]:
    """One job in a folder of its own; the summary and the recount."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with (home / "data.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                kept = {key: row[key] for key in ("id", "text", "label", "gold")}
                file.write(json.dumps(kept) + "\n")
        with (home / "recorded.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                if (answer := row["llm"].get(model)) is not None:
                    file.write(json.dumps({"id": row["id"], "label": answer}) + "\n")
        job = {
            "task": "classification",
            "data": {
                "path": "data.jsonl", "text": "text", "label": "label", "id": "id", "gold": "gold"
            },
            "labels": SETS[name],
            "judge": {"model": "recorded/recorded.jsonl"},
            "decide": {"policy": policy},
            "output": "run",
        }  # fmt: skip
        (home / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
        command = [sys.executable, "-m", "llm_relabel", "run", str(home / "job.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} {model}: exit {done.returncode}\n{done.stderr}")
        summary = json.loads((home / "run" / "summary.json").read_text(encoding="utf-8"))
        with (home / "run" / "dataset.jsonl").open(encoding="utf-8") as file:
            after = {row["id"]: row["label"] for row in map(json.loads, file)}
    counted = [row for row in rows if row["gold"] is not None]
    before_right = sum(row["label"] == row["gold"] for row in counted)
    after_right = sum(after[row["id"]] == row["gold"] for row in counted)
    fixed = sum(row["label"] != row["gold"] == after[row["id"]] for row in counted)
    broken = sum(row["label"] == row["gold"] != after[row["id"]] for row in counted)
    gold = summary["gold"]
    agree = (gold["fixed"], gold["broken"]) == (fixed, broken) and (
        abs(gold["labels_before"] - before_right / len(counted)) < 1e-9
        and abs(gold["labels_after"] - after_right / len(counted)) < 1e-9
    )
    answered = [row for row in counted if row["llm"].get(model) is not None]
    return {
        "set": name,
        "judge": model,
        "policy": policy,
        "status": summary["status"],
        "judge_accuracy": sum(r["llm"][model] == r["gold"] for r in answered) / len(answered),
        "labels_before": gold["labels_before"],
        "labels_after": gold["labels_after"],
        "fixed": fixed,
        "broken": broken,
        "not_recorded": sum(r["reasons"].get("not_recorded", 0) for r in summary["rounds"]),
        "judged": sum(r["judged"] for r in summary["rounds"]),
        "recount_agrees": agree,
    }


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results = []
    for name in SETS:
        rows = rows_of(name)
        for model in sorted({model for row in rows for model in row["llm"]}):
            for policy in ("agree", "replace"):
                results.append(run(name, model, rows, policy))
                print(results[-1], file=sys.stderr)
    about = facts("llm_relabel", "numpy", "scikit-learn", "torch")
    header = ["set", "recorded judge", "its accuracy", "policy", "labels before", "after",
              "fixed", "broken", "judged", "not recorded", "recount agrees"]  # fmt: skip
    lines = [
        [r["set"], r["judge"], f"{r['judge_accuracy']:.3f}", r["policy"],
         f"{r['labels_before']:.3f}", f"{r['labels_after']:.3f}", r["fixed"], r["broken"],
         r["judged"], r["not_recorded"], "yes" if r["recount_agrees"] else "NO"]
        for r in results
    ]  # fmt: skip
    markdown = (
        "# The main job with recorded LLM answers as the judge\n\n"
        "`python evals/recorded.py`. `labels before` and `after` are accuracies over the rows\n"
        "with gold; a missing label counts as wrong. `numclaim_analyst` has no label on 872 rows,\n"
        "which the job fills. The default policy is `agree`; `replace` is shown beside it.\n\n"
        + table(header, lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep("recorded", {"about": about, "results": results}, markdown)
    if not all(r["recount_agrees"] and r["status"] == "done" for r in results):
        sys.exit("a summary and its recount disagree")


if __name__ == "__main__":
    main()
