"""Labels before and after, with what real LLMs once answered as the judge.

    LLM_RELABEL_DATA=... python evals/relabeling.py

For every recorded LLM of the sets in `sets.py`: the whole job through the public API, default
settings, no spot-check; beside it the judge alone on everything (its answer replaces every label;
where it has none the label stays), and cleanlab's fix as the peer (its label issues, by its own
default rule on our out-of-fold probabilities, take the predicted label; no judge). An item without
a recorded answer abstains as not_recorded; `calls` are questions that a judge would have been
paid for. The summary's counts are compared with a recount from the input and output files that
shares no code with the package.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from agreement import show
from cleanlab.filter import find_label_issues
from machine import facts, keep, table
from sets import RECORDED, RecordedSet, answers_file, read_set, write_job

import llm_relabel as lr
from llm_relabel.agreement.intervals import share

METHODS = ("given", "judge_alone", "ours", "cleanlab")


def accuracy(labels: dict[str, Any], gold: dict[str, str]) -> dict[str, Any]:
    """Share of the rows with gold whose label equals it, with its interval."""
    return share(sum(labels.get(i) == truth for i, truth in gold.items()), len(gold)).as_json()


def fixed_by_cleanlab(one: RecordedSet, run: Path) -> dict[str, Any]:
    """The given labels after cleanlab's fix; missing labels take the prediction too."""
    saved = pq.read_table(run / "round-1" / "predictions.parquet")
    probs = np.array(saved["pred_probs"].to_pylist())
    given, predicted = saved["given_label"].to_pylist(), saved["predicted_label"].to_pylist()
    # Columns stand in the order of the definitions, which YAML sorted as `one.classes` are.
    code = {name: number for number, name in enumerate(one.classes)}
    known = [place for place, label in enumerate(given) if label is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of classes with few rows
        wrong = find_label_issues(
            np.array([code[given[place]] for place in known]), probs[known], n_jobs=1
        )
    after = dict(zip(saved["id"].to_pylist(), given, strict=True))
    ids = saved["id"].to_pylist()
    for place, is_wrong in zip(known, wrong, strict=True):
        if is_wrong:
            after[ids[place]] = predicted[place]
    for place, label in enumerate(given):
        if label is None:
            after[ids[place]] = predicted[place]
    return after


def measure(one: RecordedSet, model: str, folder: Path) -> dict[str, Any]:
    """One judge: four methods, and whether the summary and the recount agree."""
    output = f"run-{answers_file(model)}"
    job = write_job(
        folder, "job", one, judge={"model": f"recorded/{answers_file(model)}"}, output=output
    )
    run = lr.relabel(job)
    gold, answers = one.gold, one.answers[model]
    given = {row["id"]: row["label"] for row in one.rows}
    lines = run.dataset_path().read_text(encoding="utf-8").splitlines()
    after = {row["id"]: row["label"] for row in map(json.loads, lines)}
    alone = {i: answers.get(i, label) for i, label in given.items()}
    summary = run.summary
    told = summary["gold"]
    fixed = sum(given[i] != truth == after[i] for i, truth in gold.items())
    broken = sum(given[i] == truth != after[i] for i, truth in gold.items())
    not_recorded = sum(r["reasons"].get("not_recorded", 0) for r in summary["rounds"])
    found = {
        "given": accuracy(given, gold),
        "judge_alone": accuracy(alone, gold),
        "ours": accuracy(after, gold),
        "cleanlab": accuracy(fixed_by_cleanlab(one, run.path), gold),
    }
    return {
        "set": one.name, "judge": model, **found,
        "judge_accuracy": accuracy(answers, {i: gold[i] for i in answers if i in gold}),
        "policy": summary["policy"], "fixed": fixed, "broken": broken,
        "calls": {"judge_alone": len(answers), "cleanlab": 0,
                  "ours": sum(r["judged"] for r in summary["rounds"]) - not_recorded},
        "recount_agrees": (told["fixed"], told["broken"]) == (fixed, broken)
        and abs(told["labels_after"] - found["ours"]["value"]) < 1e-9,
    }  # fmt: skip


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results = []
    for name in RECORDED:
        one = read_set(name)
        with tempfile.TemporaryDirectory() as folder:
            results += [measure(one, model, Path(folder)) for model in one.answers]
        print(f"{name}: {len(one.answers)} judges", file=sys.stderr)
    means = {method: float(np.mean([r[method]["value"] for r in results])) for method in METHODS}
    worse = [r for r in results if r["ours"]["value"] < r["given"]["value"]]
    header = ["set", "recorded judge", "its accuracy", "labels before", "judge alone on all",
              "this project", "cleanlab's fix", "fixed", "broken", "calls: alone, ours",
              "recount agrees"]  # fmt: skip
    lines = [
        [r["set"], r["judge"], f"{r['judge_accuracy']['value']:.3f}",
         *(show(r[method], percent=True) for method in METHODS), r["fixed"], r["broken"],
         f"{r['calls']['judge_alone']:,}, {r['calls']['ours']:,}",
         "yes" if r["recount_agrees"] else "NO"]
        for r in results
    ]  # fmt: skip
    about = facts("llm_relabel", "numpy", "scikit-learn", "torch", "cleanlab")
    told = ", ".join(f"{method.replace('_', ' ')} {value:.1%}" for method, value in means.items())
    markdown = (
        "# The main job with recorded LLM answers as the judge\n\n"
        "`python evals/relabeling.py`. Right labels in percent of the rows with gold, a missing\n"
        "label counted as wrong, 95% intervals in brackets. `numclaim_analyst` has no label on\n"
        "872 rows, which the job fills. No spot-check was used.\n\n"
        f"Mean over {len(results)} judges: {told}. Labels got worse with {len(worse)} judges"
        f"{': ' if worse else ''}"
        + "; ".join(
            f"{r['set']} {r['judge']} {r['given']['value']:.3f} to {r['ours']['value']:.3f}"
            for r in worse
        )
        + ".\n\n"
        + table(header, lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep("relabeling", {"about": about, "means": means, "results": results}, markdown)
    if not all(r["recount_agrees"] for r in results):
        sys.exit("a summary and its recount disagree")


if __name__ == "__main__":
    main()
