"""Does a further round lose what the one before it won?

    LLM_RELABEL_DATA=... python evals/rounds.py [--seeds 2]

Whole jobs of three rounds through the public API with the `embedded` judge and its default policy
`agree`, on the 57 intents of banking77 that the demo does not hold (and the same messages under 7
broad topics) and on TREC-6, each with injected noise (`noise.py`). The table has the share of right
labels after each round. The demo's own data is not looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml
from machine import data_folder, facts, keep, rows_of, table
from noise import flip

import llm_relabel as lr
from llm_relabel.config.job import ModelSection
from llm_relabel.models.targets import ClassLabels, Targets
from llm_relabel.models.text_classifier import TextClassifier

HERE = Path(__file__).resolve().parent
ROUNDS = 3
QUESTIONS = {
    "ABBR": "Asks what an abbreviation stands for, or for one.",
    "DESC": "Asks for a definition, a description, a manner or a reason.",
    "ENTY": "Asks for a thing: an animal, a product, a colour, a food, a film, a term.",
    "HUM": "Asks for a person, a group or an organisation.",
    "LOC": "Asks for a place: a city, a country, a mountain.",
    "NUM": "Asks for a number: a count, a date, a distance, money, an age.",
}
CASES = (
    ("57 intents", 2500, "conf", 0.15), ("57 intents", 2500, "sym", 0.2),
    ("57 intents", 2500, "conf", 0.4), ("57 intents", 800, "conf", 0.15),
    ("57 intents, uneven", 1500, "conf", 0.15), ("7 topics", 1500, "conf", 0.15),
    ("7 topics", 1500, "sym", 0.4), ("TREC-6", 5533, "sym", 0.2), ("TREC-6", 5533, "conf", 0.2),
    ("TREC-6", 5533, "sym", 0.4),
)  # fmt: skip


@cache
def texts_of(name: str) -> tuple[list[str], list[str], dict[str, str]]:
    """The texts of a set, their true labels, and the definitions."""
    if name == "TREC-6":
        rows = rows_of("trec_weak")
        return [row["text"] for row in rows], [row["gold"] for row in rows], QUESTIONS
    spec = yaml.safe_load((HERE / "banking57_labels.yaml").read_text(encoding="utf-8"))
    intents = spec["labels"]
    lines = (data_folder("banking77") / "data.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := json.loads(line))["label"] in intents]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    if name == "7 topics":
        return texts, [intents[label]["parent"] for label in labels], spec["topics"]
    return texts, labels, {label: intent["definition"] for label, intent in intents.items()}


def score(case: tuple[str, int, str, float, int]) -> list[float]:
    """The share of right labels as given and after each of a run's rounds."""
    name, count, kind, rate, seed = case
    texts, labels, definitions = texts_of(name)
    names = tuple(definitions)
    rng = np.random.default_rng(seed)
    true = np.array([names.index(label) for label in labels])
    weight = np.ones(len(true))
    if name.endswith("uneven"):
        weight = np.geomspace(1, 0.1, len(names))[rng.permutation(len(names))][true]
    rows = np.arange(len(true))
    if count < len(true):
        rows = np.sort(rng.choice(len(true), count, replace=False, p=weight / weight.sum()))
    picked, true = [texts[row] for row in rows], true[rows]
    groups = np.unique(picked, return_inverse=True)[1].astype(np.int64)
    model = TextClassifier(
        ModelSection(), picked, groups, ClassLabels((), exclusive=True), seed=0, cache=None
    )
    known = np.ones(len(true), dtype=np.bool_)
    probs = model.out_of_fold_probs(Targets(np.eye(len(names), dtype=np.bool_)[true], known, True))
    noisy = flip(kind, rate, true, probs, seed)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        lines = [
            {"text": text, "label": names[label], "gold": names[gold]}
            for text, label, gold in zip(picked, noisy, true, strict=True)
        ]
        path = folder / "data.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        job = {
            "task": "classification", "labels": definitions, "judge": {"model": "embedded"},
            "data": {"path": str(path), "text": "text", "label": "label", "gold": "gold"},
            "rounds": ROUNDS, "seed": seed, "output": str(folder / "run"),
        }  # fmt: skip
        lr.relabel(job)
        right = [float((noisy == true).mean())]
        for number in range(1, ROUNDS + 1):
            made = folder / "run" / f"round-{number}" / "dataset.jsonl"
            if made.exists():
                rows_now = map(json.loads, made.read_text(encoding="utf-8").splitlines())
                right.append(float(np.mean([row["label"] == row["gold"] for row in rows_now])))
            else:  # a round that changed nothing was the last
                right.append(right[-1])
    return right


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["OMP_NUM_THREADS"] = "1"
    cases = [(*case, seed) for case in CASES for seed in range(seeds)]
    found: dict[tuple[str, int, str, float], list[list[float]]] = defaultdict(list)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for case, right in zip(cases, pool.map(score, cases), strict=True):
            found[case[:-1]].append(right)
            print(case, [f"{share:.2%}" for share in right], file=sys.stderr)
    lines = []
    for (name, count, kind, rate), shares in found.items():
        means = [round(float(mean) * 100, 2) for mean in np.mean(shares, axis=0)]
        gains = [f"{after - before:+.2f}" for before, after in pairwise(means[1:])]
        lines.append([name, count, f"{kind}{round(rate * 100)}", *means, *gains])
    about = facts("torch", "transformers")
    header = ["set", "rows", "noise", "given"]
    header += [f"after round {n}" for n in range(1, ROUNDS + 1)]
    header += [f"gain of round {n}" for n in range(2, ROUNDS + 1)]
    text = "# What each round does to the labels\n\n"
    text += f"`python evals/rounds.py`: the `embedded` judge, {seeds} seeds, right labels in %.\n\n"
    text += f"{table(header, lines)}\n\nMeasured on: {about}\n"
    keep("rounds", {"measured": about, "header": header, "lines": lines}, text)


if __name__ == "__main__":
    main()
