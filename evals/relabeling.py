"""Labels before and after, with what real LLMs once answered as the judge.

    LLM_RELABEL_DATA=... python evals/relabeling.py

For every recorded LLM of the sets in `sets.py`: the whole job through the public API, default
settings, no spot-check; beside it the judge alone on everything (its answer replaces every label;
where it has none the label stays), and cleanlab's fix as the peer (its label issues, by its own
default rule on our out-of-fold probabilities, take the predicted label; no judge). An item without
a recorded answer abstains as not_recorded; `calls` are questions that a judge would have been
paid for. The summary's counts are compared with a recount from the input and output files that
shares no code with the package.

Rows that had a label (repaired) and those that had none (filled) are told apart. The judges are
told in strata by how right they are on everything: better than the given labels, up to ten points
worse, and far worse; there over the sets whose rows all have a label. The constants of
`evidence/views.py`, `evidence/doubts.py` and `rounds/beyond.py` were chosen on these very sets
(`evals/leaning.py` leaves whole sets out), so sets that nobody chose by are the fairer figure.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
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
# Sets with unlabeled rows, and one of too few rows, are in the table and in no stratum.
APART = ("numclaim_analyst", "pledge_small")
STRATA = ("better", "up to ten points worse", "far worse")
LOST = 0.01  # of the labels


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
    had = {i: truth for i, truth in gold.items() if given[i] is not None}
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
        "repaired": {"rows": len(had), "before": accuracy(given, had)["value"],
                     "after": accuracy(after, had)["value"]},
        "filled": {"rows": len(gold) - len(had),
                   "right": sum(after[i] == gold[i] for i in gold.keys() - had.keys())},
        "believed": summary["believed"]["after"],
        "rows": len(one.rows), "doubts": list(summary["doubts"]),
        "calls": {"judge_alone": len(answers), "cleanlab": 0,
                  "ours": sum(r["judged"] for r in summary["rounds"]) - not_recorded},
        "recount_agrees": (told["fixed"], told["broken"]) == (fixed, broken)
        and abs(told["labels_after"] - found["ours"]["value"]) < 1e-9,
    }  # fmt: skip


def stratum(result: dict[str, Any]) -> str:
    """Where a judge stands by what it is worth on everything."""
    ahead = result["judge_alone"]["value"] - result["given"]["value"]
    return STRATA[0] if ahead > 0 else STRATA[1] if ahead >= -0.1 else STRATA[2]


def strata_of(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The means of each stratum, and who lost over a point or gained, warned or not."""
    some = [r for r in results if r["set"] not in APART]
    found: dict[str, Any] = {}
    for name in ("all", *STRATA):
        theirs = [r for r in some if name in ("all", stratum(r))]
        gain = [r["ours"]["value"] - r["given"]["value"] for r in theirs]
        warned = [bool(r["doubts"]) for r in theirs]
        found[name] = {
            "judges": len(theirs),
            **{m: float(np.mean([r[m]["value"] for r in theirs])) for m in METHODS},
            "calls": float(np.mean([r["calls"]["ours"] / r["rows"] for r in theirs])),
            "lost": sum(g < -LOST for g in gain),
            "lost_unwarned": sum(g < -LOST and not w for g, w in zip(gain, warned, strict=True)),
            "gained": sum(g > 1e-9 for g in gain),
            "gained_warned": sum(g > 1e-9 and w for g, w in zip(gain, warned, strict=True)),
        }
    return found


def believed_too_high(results: list[dict[str, Any]]) -> dict[str, Any]:
    """How far the belief in the labels, without a spot-check, was above the truth."""
    high = np.array([r["believed"] - r["ours"]["value"] for r in results if r["set"] not in APART])
    return {"judges": len(high), "middle": float(np.median(high)),
            "p90": float(np.quantile(high, 0.9)), "too_low": int((high < 0).sum())}  # fmt: skip


def _measured(case: tuple[str, str]) -> dict[str, Any]:
    name, model = case
    with tempfile.TemporaryDirectory() as folder:
        return measure(read_set(name), model, Path(folder))


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = [(name, model) for name in RECORDED for model in read_set(name).answers]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(_measured, cases))
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
        + _strata(results)
        + table(header, lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep(
        "relabeling",
        {
            "about": about,
            "means": means,
            "strata": strata_of(results),
            "believed_too_high": believed_too_high(results),
            "results": results,
        },
        markdown,
    )
    if not all(r["recount_agrees"] for r in results):
        sys.exit("a summary and its recount disagree")


def _strata(results: list[dict[str, Any]]) -> str:
    rows = [
        [name, s["judges"], *(f"{100 * s[m]:.1f}" for m in METHODS), f"{s['calls']:.0%}",
         f"{s['lost']} ({s['lost_unwarned']})", f"{s['gained']} ({s['gained_warned']})"]
        for name, s in strata_of(results).items()
    ]  # fmt: skip
    header = ["the judge is", "judges", "labels before", "judge alone", "this project",
              "cleanlab's fix", "calls of all rows", "lost over a point (unwarned)",
              "gained (warned)"]  # fmt: skip
    filled = [r for r in results if r["filled"]["rows"]]
    apart = "; ".join(
        f"{r['set']} {r['judge']}: repaired {100 * r['repaired']['before']:.1f} to "
        f"{100 * r['repaired']['after']:.1f}, filled "
        f"{100 * r['filled']['right'] / r['filled']['rows']:.1f}"
        for r in filled
    )
    high = believed_too_high(results)
    apart += (
        f".\n\nWhat the run believed of its labels (`believed`) was {100 * high['middle']:.0f} "
        f"points too high in the middle case, {100 * high['p90']:.0f} in the worst tenth, and too "
        f"low with {high['too_low']} of {high['judges']} judges"
    )
    return (
        f"Without {' and '.join(APART)}:\n\n" + table(header, rows)
        + f"\n\nRows that had a label and those that had none: {apart}.\n\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
