"""How well every recorded LLM agrees with gold; and people with each other.

    LLM_RELABEL_DATA=... python evals/agreement.py

Runs `llm_relabel.evaluate` on every set with recorded answers and compares accuracy and kappa,
of the items that a model answered, with what the set's own README states. Then the sets that
several people labeled, and simulated raters of whom it is known who is good.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts, keep, rows_of, table
from sets import RECORDED, RecordedSet, answers_file, read_set, write_job

import llm_relabel as lr
from llm_relabel.agreement import raters
from llm_relabel.agreement.intervals import share


def evaluate(one: RecordedSet) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row for each recorded model, and all figures of the set."""
    with tempfile.TemporaryDirectory() as folder:
        job = write_job(Path(folder), "job", one)
        files = [Path(folder) / answers_file(model) for model in one.answers]
        figures = lr.evaluate(job, Path(folder) / "gold.jsonl", recorded=files).figures
    rows = []
    for model in one.answers:
        found = figures["judges"][f"recorded/{answers_file(model)}"]
        accuracy, answered, kappa = one.stated[model]
        ours = found["accuracy"]["answered_only"]
        our_kappa = found["kappa"]["answered_only"]
        rows.append({
            "set": one.name, "judge": model, "answered": ours["of"], "items": found["items"],
            "accuracy": ours, "accuracy_of_all": found["accuracy"]["abstained_wrong"],
            "macro_f1": found["macro_f1"]["answered_only"], "kappa": our_kappa,
            "stated": {"accuracy": accuracy, "answered": answered, "kappa": kappa},
            "equal": f"{ours['value']:.3f} {our_kappa['value']:.3f}"
            == f"{accuracy:.3f} {kappa:.3f}",
        })  # fmt: skip
    return rows, figures


def of_people() -> list[dict[str, Any]]:
    """Crowd ratings of `dices350_safety`, of which only counts are known."""
    rows = rows_of("dices350_safety")
    names = ("safe", "unsafe", "unsure")
    counts = np.array([[row["crowd_counts"].get(name, 0) for name in names] for row in rows])
    majority = sum(row["crowd_majority"] == row["gold"] for row in rows)
    return [{
        "set": "dices350_safety", "items": len(rows), "ratings": int(counts.sum()),
        "alpha": raters.alpha(counts).as_json(),
        "majority_against_expert": share(majority, len(rows)).as_json(),
    }]  # fmt: skip


def simulated(seeds: int = 20) -> dict[str, Any]:
    """How often the alternative annotator test passes a judge, by how right the judge is.

    Five people, right in 80%, otherwise uniform; 200 items, four classes, every item seen by all.
    """
    found = {}
    for quality in (0.5, 0.7, 0.8, 0.9):
        passed = 0
        for seed in range(seeds):
            rng = np.random.default_rng([seed, int(quality * 100)])
            truth = rng.integers(0, 4, 200)

            def noisy(right: float, rng: Any = rng, truth: Any = truth) -> Any:
                return np.where(rng.random(200) < right, truth, rng.integers(0, 4, 200))

            people = np.stack([noisy(0.8) for _ in range(5)], axis=1)
            result = raters.alternative_annotator(people, noisy(quality), list("abcde"))
            passed += bool(result["passed"])
        found[f"{quality:.1f}"] = {"passed": passed, "of": seeds}
    return found


def show(figure: dict[str, Any], *, percent: bool = False) -> str:
    """A figure with its interval."""
    factor, form = (100, "{:.1f}") if percent else (1, "{:.3f}")
    if figure["value"] is None:
        return "-"
    text = form.format(figure["value"] * factor)
    if figure["low"] is None:
        return text
    low, high = (form.format(figure[end] * factor) for end in ("low", "high"))
    return f"{text} [{low}, {high}]"


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results: list[dict[str, Any]] = []
    people: dict[str, Any] = {}
    for name in RECORDED:
        rows, figures = evaluate(read_set(name))
        results += rows
        if "people" in figures:
            people[name] = figures["people"]
        print(f"{name}: {len(rows)} models", file=sys.stderr)
    crowd, by_quality = of_people(), simulated()
    header = ["set", "recorded judge", "answered", "accuracy", "of all items", "macro F1",
              "kappa", "the set's README: accuracy, kappa", "equal"]  # fmt: skip
    lines = [
        [r["set"], r["judge"], f"{r['answered']}/{r['items']}", show(r["accuracy"]),
         show(r["accuracy_of_all"]), show(r["macro_f1"]), show(r["kappa"]),
         f"{r['stated']['accuracy']:.3f}, {r['stated']['kappa']:.3f}",
         "yes" if r["equal"] else "NO"]
        for r in results
    ]  # fmt: skip
    parts = [
        "# Agreement of recorded LLMs with gold",
        "`python evals/agreement.py`. Accuracy and kappa of the answers that were given; `of all "
        "items` counts a missing answer as wrong. 95% intervals in brackets.",
        table(header, lines),
        f"{sum(r['equal'] for r in results)} of {len(results)} equal the figures in the sets' "
        "READMEs to three decimals, accuracy and kappa.",
        "## People",
    ]
    for name, found in people.items():
        parts.append(
            f"{name}: {found['raters']} raters, {found['items']} items with two or more, alpha "
            f"{show(found['alpha'])}, two raters of one item agree in {found['pairwise']:.1%}."
        )
        parts.append(table(
            ["", "alternative annotator test", "alpha, with it among the people"],
            [[judge, each.get("why") or f"{'passed' if each['passed'] else 'not passed'}, wins over"
              f" {show(each['winning_rate'], percent=True)}%, advantage {each['advantage']:.3f}",
              show(each["alpha_with_people"])] for judge, each in found["judges"].items()],
        ))  # fmt: skip
    for each in crowd:
        parts.append(
            f"{each['set']}: {each['ratings']:,} crowd ratings of {each['items']} items (counts "
            f"only), alpha {show(each['alpha'])}; the crowd's majority is the expert's label in "
            f"{show(each['majority_against_expert'], percent=True)}%."
        )
    parts.append(
        "Simulated: five people who are right in 80%; how often the test passes a judge who is "
        "right in "
        + ", ".join(f"{q}: {each['passed']}/{each['of']}" for q, each in by_quality.items())
        + "."
    )
    about = facts("llm_relabel", "numpy", "scipy", "scikit-learn")
    parts.append(f"Measured on: {about}")
    measured = {"about": about, "results": results, "people": people, "crowd": crowd,
                "simulated": by_quality}  # fmt: skip
    keep("agreement", measured, "\n\n".join(parts))
    if not all(r["equal"] for r in results):
        sys.exit("a figure differs from the set's README")


if __name__ == "__main__":
    main()
