"""Chooses and measures the constants of the `embedded` judge.

    LLM_RELABEL_DATA=FOLDER python evals/embedded_judge.py

FOLDER holds `banking77/data.jsonl`. Only the 57 intents that the demo does NOT hold are read,
so nothing here looks at the demo's data or at any set that the project reports results on.
Labels are the published ones with noise injected here; the published label is the truth.

Cases (3 seeds each):
  fine conf15   57 intents, 2,500 rows, 15% flipped to one of the 3 nearest intents (centroids)
  fine sym20    the same, 20% flipped to any other intent
  small conf15  800 rows, about 14 an intent
  uneven conf15 intents' sizes fall to a tenth, 1,500 rows
  broad conf15  7 broad topics of unequal size, 1,500 rows, flipped to one of the 3 nearest
  multi 20      two messages joined, their topics the labels; a fifth has one topic wrong

The small model flags out of fold (prediction differs from label); rows not flagged are
trusted, as in a run. Each constant is moved on its own from its default. `score` is the mean
over cases of what policy `agree` and policy `replace` gain, in flagged rows put right less put
wrong, over all flagged rows. The optimum is flat; among near-equals the defaults are those
whose confidence is closest to the accuracy of the answers, as a confidence should be. Results go to
`evals/results/embedded_judge.{md,json}`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from llm_relabel.config.job import ModelSection
from llm_relabel.judge.without_llm.embedded import EmbeddingVote, Settings
from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.models.targets import ClassLabels, Targets
from llm_relabel.models.text_classifier import TextClassifier

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
SWEEP: dict[str, tuple[float, ...]] = {
    "neighbours": (5, 10, 20, 40),
    "vote_temperature": (0.02, 0.03, 0.05, 0.08, 0.12),
    "doubt": (0.01, 0.05, 0.1, 0.2),
    "size_correction": (0.0, 0.25, 0.5, 0.75, 1.0),
    "vote_weight": (0.4, 0.7, 1.0),
    "definition_temperature": (0.1, 0.2, 0.4),
    "answer_above": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "answer_each_above": (0.5, 0.6, 0.7, 0.8),
}


@dataclass
class Case:
    """One noisy dataset with its truth and the small model's out-of-fold prediction."""

    kind: str
    seed: int
    names: tuple[str, ...]
    vectors: list[NDArray[np.float32]]
    embeddings: NDArray[np.float32]
    groups: NDArray[np.int64]
    labels: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    exclusive: bool

    @property
    def flagged(self) -> NDArray[np.int64]:
        """Rows that the judge is asked about."""
        return np.flatnonzero((self.labels != self.predicted).any(axis=1))


class Source:
    """The 57 intents: texts, intents, topics and definitions, embedded once."""

    def __init__(self, folder: Path) -> None:
        spec = yaml.safe_load((HERE / "banking57_labels.yaml").read_text(encoding="utf-8"))
        lines = (folder / "banking77" / "data.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for line in lines if (row := json.loads(line))["label"] in spec["labels"]]
        self.encoder = Encoder("embedded", cache=None)
        self.intents, self.topics = tuple(spec["labels"]), tuple(spec["topics"])
        self.texts = np.array([row["text"] for row in rows], dtype=object)
        self.intent = np.array([self.intents.index(row["label"]) for row in rows])
        parents = [self.topics.index(spec["labels"][name]["parent"]) for name in self.intents]
        self.topic = np.array(parents)[self.intent]
        self.embeddings = self.encoder.embed(list(self.texts))
        self.fine = self._definitions({n: d["definition"] for n, d in spec["labels"].items()})
        self.broad = self._definitions(spec["topics"])

    def _definitions(self, defined: dict[str, str]) -> list[NDArray[np.float32]]:
        texts = [f"{name.replace('_', ' ')}: {words}" for name, words in defined.items()]
        return [vector[None] for vector in self.encoder.embed(texts)]

    def exclusive(self, kind: str, seed: int) -> Case:
        """A case of `fine`, `small`, `uneven` or `broad`, noise in the second word of `kind`."""
        rng = np.random.default_rng(seed)
        size, noise = kind.split()
        classes = self.topic if size == "broad" else self.intent
        names = self.topics if size == "broad" else self.intents
        weight = np.ones(len(classes))
        if size == "uneven":
            weight = np.geomspace(1, 0.1, len(names))[rng.permutation(len(names))][classes]
        count = {"fine": 2500, "small": 800, "uneven": 1500, "broad": 1500}[size]
        pick = rng.choice(len(classes), count, replace=False, p=weight / weight.sum())
        pick.sort()
        gold = classes[pick]
        label = gold.copy()
        if noise.startswith("conf"):
            vectors = [self.embeddings[classes == one].mean(axis=0) for one in range(len(names))]
            centres = np.stack([vector / np.linalg.norm(vector) for vector in vectors])
            alike = centres @ centres.T
            np.fill_diagonal(alike, -1)
            wrong = np.argsort(-alike, axis=1, kind="stable")[gold, rng.integers(0, 3, count)]
        else:
            wrong = (gold + rng.integers(1, len(names), count)) % len(names)
        flip = rng.random(count) < int(noise[-2:]) / 100
        label[flip] = wrong[flip]
        unit = np.eye(len(names), dtype=np.bool_)
        return self._case(kind, seed, pick, unit[gold], unit[label], exclusive=True)

    def multi(self, kind: str, seed: int) -> Case:
        """Two messages joined; the label is the set of their topics."""
        rng = np.random.default_rng(seed)
        left, right = rng.choice(len(self.texts), (2, 1500))
        unit = np.eye(len(self.topics), dtype=np.bool_)
        truth = unit[self.topic[left]] | unit[self.topic[right]]
        labels = truth.copy()
        for row in np.flatnonzero(rng.random(len(left)) < 0.2):
            labels[row, rng.choice(np.flatnonzero(truth[row]))] = False
            labels[row, rng.choice(np.flatnonzero(~truth[row]))] = True
        pairs = zip(self.texts[left], self.texts[right], strict=True)
        texts = [f"{one} {other}" for one, other in pairs]
        return self._case(kind, seed, texts, truth, labels, exclusive=False)

    def _case(
        self,
        kind: str,
        seed: int,
        rows: Any,
        truth: NDArray[np.bool_],
        labels: NDArray[np.bool_],
        *,
        exclusive: bool,
    ) -> Case:
        texts = rows if isinstance(rows, list) else list(self.texts[rows])
        groups = np.unique(texts, return_inverse=True)[1].astype(np.int64)
        nobody = ClassLabels((), exclusive=exclusive)
        model = TextClassifier(ModelSection(), texts, groups, nobody, seed=seed, cache=None)
        known = np.ones(len(texts), dtype=np.bool_)
        probs = model.out_of_fold_probs(Targets(labels, known, exclusive))
        predicted = (
            np.eye(labels.shape[1], dtype=np.bool_)[probs.argmax(axis=1)]
            if exclusive
            else probs > 0.5
        )
        broad = labels.shape[1] == len(self.topics)
        names = self.topics if broad else self.intents
        vectors = self.broad if broad else self.fine
        arrays = (model.embeddings, groups, labels, truth, predicted)
        return Case(kind, seed, names, vectors, *arrays, exclusive)


def measure(case: Case, settings: Settings) -> dict[str, float]:
    """The judge on the flagged rows of one case; shares of flagged rows unless named rows."""
    flagged = case.flagged
    trusted = np.ones(len(case.labels), dtype=np.bool_)
    trusted[flagged] = False
    vote = EmbeddingVote(
        embeddings=case.embeddings,
        labels=case.labels,
        trusted=trusted,
        groups=case.groups,
        definition_vectors=case.vectors,
        class_names=case.names,
        exclusive=case.exclusive,
        settings=settings,
    )
    found = vote.answer_many(flagged)
    answered = np.array([answer.label is not None for answer in found])
    column = {name: index for index, name in enumerate(case.names)}
    said = np.zeros((len(flagged), len(case.names)), dtype=np.bool_)
    for index, answer in enumerate(found):
        for name in (answer.label,) if isinstance(answer.label, str) else answer.label or ():
            said[index, column[name]] = True
    truth, old, model = case.truth[flagged], case.labels[flagged], case.predicted[flagged]
    right, was = (said == truth).all(axis=1), (old == truth).all(axis=1)
    agreed = answered & (said == model).all(axis=1)
    before = (case.labels == case.truth).all(axis=1).mean()

    def gain(changed: NDArray[np.bool_]) -> float:
        return float(right[changed].sum() - was[changed].sum())

    sure = np.array([answer.confidence for answer in found])[answered]
    return {
        "rows": len(case.labels),
        "flagged": len(flagged),
        "model_right": float((model == truth).all(axis=1).mean()),
        "answered": float(answered.mean()),
        "accuracy_answered": float(right[answered].mean()),
        "confidence_answered": float(sure.mean()),
        "before": float(before),
        "after_agree": float(before + gain(agreed) / len(case.labels)),
        "after_replace": float(before + gain(answered) / len(case.labels)),
        "score": (gain(agreed) + gain(answered)) / 2 / len(flagged),
    }


def mean_of(cases: list[Case], settings: Settings) -> dict[str, float]:
    """The mean of `measure` over cases."""
    measured = [measure(case, settings) for case in cases]
    return {key: float(np.mean([one[key] for one in measured])) for key in measured[0]}


def table(rows: list[list[str]]) -> list[str]:
    """A Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def main() -> int:
    """Run everything and write the results; returns the exit code."""
    folder = Path(os.environ.get("LLM_RELABEL_DATA", ""))
    if not (folder / "banking77" / "data.jsonl").is_file():
        print("set LLM_RELABEL_DATA to the folder that holds banking77/data.jsonl", file=sys.stderr)
        return 2
    began = time.monotonic()
    source = Source(folder)
    kinds = ("fine conf15", "fine sym20", "small conf15", "uneven conf15", "broad conf15")
    cases = [source.exclusive(kind, seed) for kind in kinds for seed in SEEDS]
    cases += [source.multi("multi 20", seed) for seed in SEEDS]
    default = Settings()
    machine = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    by_kind = {
        kind: mean_of([case for case in cases if case.kind == kind], default)
        for kind in dict.fromkeys(case.kind for case in cases)
    }
    sweep: list[dict[str, Any]] = []
    for key, values in SWEEP.items():
        for value in values:
            settings = replace(default, **{key: int(value) if key == "neighbours" else value})
            for exclusive in (True, False):
                if key == ("answer_each_above" if exclusive else "answer_above"):
                    continue
                chosen = [case for case in cases if case.exclusive is exclusive]
                sweep.append(
                    {
                        "key": key,
                        "value": value,
                        "exclusive": exclusive,
                        **mean_of(chosen, settings),
                    }
                )
    results = {"machine": machine, "defaults": asdict(default), "cases": by_kind, "sweep": sweep}
    shown = list(next(iter(by_kind.values())))
    lines = ["# The `embedded` judge: constants and what they give", ""]
    lines += [" · ".join(f"{key} {value}" for key, value in machine.items()), ""]
    lines += ["Made by `evals/embedded_judge.py`, which says what every word here means.", ""]
    lines += ["## With the defaults, means of 3 seeds", ""]
    body = [
        [kind, *(f"{one[key]:.0f}" if one[key] > 1 else f"{one[key]:.3f}" for key in shown)]
        for kind, one in by_kind.items()
    ]
    lines += table([["case", *shown], *body])
    lines += ["", "## One constant moved at a time", ""]
    some = ("answered", "accuracy_answered", "confidence_answered", "score")
    body = [
        [
            f"{one['key']} {one['value']}" + " *" * (one["value"] == getattr(default, one["key"])),
            "exclusive" if one["exclusive"] else "multi-label",
            *(f"{one[key]:.3f}" for key in some),
        ]
        for one in sweep
    ]
    lines += table([["constant (* default)", "cases", *some], *body])
    text = "\n".join(lines) + "\n"
    print(text + f"\n{time.monotonic() - began:.0f} s")
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    (out / "embedded_judge.md").write_text(text, encoding="utf-8")
    (out / "embedded_judge.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
