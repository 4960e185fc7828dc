"""How far the evidence should lean to the side that the texts vouch for, whole sets left out.

    LLM_RELABEL_DATA=... python evals/leaning.py

Every recorded LLM of the sets in `sets.py` that label all their rows is the judge of every item;
no spot-check. For each weight of the lean (`LEANING` of `evidence/views.py`, in items) the labels
after one fusion are held against gold; 0 chooses the view and does not lean, "no views" is the
fusion under the model of the given labels alone. "Left out" chooses the weight for each set by the
mean of the other sets. The right labels are means over the judges, in percent; `lost` counts those
of a stratum that end over a point below the given labels.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts, keep, table
from relabeling import APART, LOST, STRATA, stratum
from sets import RECORDED, read_set, write_job

from llm_relabel.config.job import load_job
from llm_relabel.evidence.doubts import constant_answers
from llm_relabel.evidence.fusion import fuse_units
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.evidence.views import LEANING, Reading, leaned, weigh
from llm_relabel.prepared import prepare
from llm_relabel.rounds.train import train
from llm_relabel.units import Labels, best, column_of, differs, has_label

WEIGHTS = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0)


def of_set(name: str) -> list[dict[str, Any]]:
    """For every judge of a set: right labels by weight, and of both sides."""
    one, found = read_set(name), []
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(load_job(write_job(Path(folder), "job", one)))
        task, given, gold = prepared.task, prepared.given, prepared.gold
        assert gold is not None
        model = prepared.small_model(lambda _done, _total: None)
        first = train(prepared, model, given)
        reading = Reading(task, given, model.out_of_fold)
        reading.remember(given, first.predictions)
        for judge, answers in one.answers.items():
            verdicts = column_of(
                len(given), {prepared.row_of[i]: label for i, label in answers.items()}
            )
            alone = np.where(has_label(verdicts), verdicts, given)

            def right(labels: Labels, truth: Labels = gold) -> float:
                return float((~differs(labels, truth))[has_label(truth)].mean())

            found.append({
                "set": name, "judge": judge, "given": {"value": right(given)},
                "judge_alone": {"value": right(alone)},
                **{k: right(v) for k, v in _by_weight(first, reading, verdicts).items()},
            })  # fmt: skip
    return found


def _by_weight(first: Predicted, reading: Reading, verdicts: Labels) -> dict[str, Labels]:
    task, given = first.task, first.given
    if constant_answers(first, {"judge": verdicts}):
        return dict.fromkeys(["no views", *map(str, WEIGHTS)], given)
    units = task.units({"given": given, "said": verdicts, "small": first.labels})
    codes = {"given": task.codes(units, given), "judge": task.codes(units, verdicts)}
    beliefs = first.beliefs_over(units)
    nobody = np.full(len(units), -1, dtype=np.int32)
    plain = fuse_units(units, codes, beliefs, nobody).posterior
    weighed = weigh(
        reading, units, codes, beliefs, nobody, current=given, verdicts=verdicts
    )  # fmt: skip
    found = {"no views": task.labels(units, best(plain))}
    for weight in WEIGHTS:
        lean = weight * (weighed.lean or 0.0) / LEANING
        posterior = leaned(weighed.fused.posterior, codes["given"], codes["judge"], lean)
        found[str(weight)] = task.labels(units, best(posterior))
    return found


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results = []
    for name in RECORDED:
        if name not in APART:
            results += of_set(name)
            print(name, file=sys.stderr)
    chosen = {}
    for name in dict.fromkeys(r["set"] for r in results):
        others = [r for r in results if r["set"] != name]
        chosen[name] = max(map(str, WEIGHTS), key=lambda w: np.mean([r[w] for r in others]))
    for r in results:
        r["left out"] = r[chosen[r["set"]]]
    ways = ["given labels", "judge on everything", "no views", *map(str, WEIGHTS), "left out"]
    for r in results:
        r |= {"given labels": r["given"]["value"], "judge on everything": r["judge_alone"]["value"]}
    parts = [results, *([r for r in results if stratum(r) == part] for part in STRATA)]
    rows = [
        [way, *(f"{100 * np.mean([r[way] for r in some]):.2f}" for some in parts),
         sum(r[way] < r["given labels"] - LOST for r in results)]
        for way in ways
    ]  # fmt: skip
    about = facts("llm_relabel", "numpy", "scipy", "scikit-learn")
    markdown = (
        f"# Leaning to the side that the texts vouch for: {len(results)} judges\n\n"
        "`python evals/leaning.py`; the script says what the words mean. The judge is\n\n"
        + table(["weight", "all", *STRATA, "lost over a point"], rows)
        + f"\n\nChosen with the set left out: {chosen}.\n\nMeasured on: {about}\n"
    )
    keep("leaning", {"about": about, "chosen": chosen, "results": results}, markdown)


if __name__ == "__main__":
    main()
