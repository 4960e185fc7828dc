"""Tagging: what the small model finds, and what the labels become, on sets with real gold.

    LLM_RELABEL_DATA=... python evals/tagging.py [--seeds 3] [--only model|decide]

**Model.** Out of fold, by document where the set has documents: span F1 of the prediction against
gold, average precision of the sentences' ranking (quality, LOWER is worse), and the share of all
wrong spans (missing or spurious) in the 30% of the sentences that are expected to hold most of
them. Beside it cleanlab's four sentence scores, fed the marginals of the same model's first pass.

**Decide.** Of the 30% that are expected to hold most wrong spans the judge's whole sentence is
known: a recorded LLM's, or a simulated one's that gets 80% or 90% of the entities right and errs
independently of everything, which no real one does. `fuse` is what `auto` does without spot-checks.
`30 checks`: of all policies that spot-checks choose from the one that is best, cross-fitted, on 30
of these sentences drawn at random (mean of 5 draws), measured on the sentences not drawn. `both
sides` is fuse with the models of both sides' labels, which classification has and tagging has not,
beside `one model`, the same without them: a fifth of the 30% is then drawn at random.

**Good labels.** No judge here is as good as careful labels, and what the small model and a judge
take for an entity alike need not be one: so `fuse` changes a given label only where the evidence
believes in the other to more than .85. `fuse boldly` is without that care.

What was chosen on what: the .85 on finer_ord, seed 0, with its own labels and with gold of which
5%, 10% and 20% was damaged (of .75, .8, .85, .9); HIDDEN, the rates and the epochs of the tagger on
finer_ord, seed 0; POSSIBLE (.02 of .02, .05, .15) there, too, with its recorded judges. hausa_ner
and the other seeds had no part in any of it.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts, keep, rows_of, table

from llm_relabel.audit.candidates import AuditEvidence
from llm_relabel.audit.checks import FOLDS
from llm_relabel.config.definitions import load_definitions
from llm_relabel.config.job import make_job
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.data.spans import Span
from llm_relabel.evidence.beliefs import JudgeVotes, believe
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.evidence.views import Reading
from llm_relabel.models import Predictions
from llm_relabel.models.text_tagger import TextTagger
from llm_relabel.tasks import Task, open_task, task_type
from llm_relabel.units import (
    SILENT,
    Labels,
    column,
    column_of,
    differs,
    has_label,
    no_labels,
)

SETS = ("finer_ord", "hausa_ner")
SHARE = 0.3
CHECKS, DRAWS = 30, 5
# Where models of both sides are tried, which takes a minute each.
SIDES = ((0, "gpt-4o-2024-08-06"), (0, "simulated 80%"))
GOOD = (0.05, 0.1, 0.2)  # shares of wrong spans in labels that are better than a set's own


@dataclass
class Case:
    """One set, opened as a job would open it."""

    name: str
    task: Task
    data: Dataset
    given: Labels
    gold: Labels
    recorded: dict[str, Labels]


def opened(name: str, home: Path) -> Case:
    """A set of the data folder. Only rows that have a label and gold."""
    import json

    rows = [row for row in rows_of(name) if row["label"] is not None and row["gold"] is not None]
    rows = [row for row in rows if row.get("split", "train") == "train"]
    path = home / f"{name}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            # finer-12-3: the third sentence of document 12.
            document = row["id"].rpartition("-")[0] if name == "finer_ord" else row["id"]
            kept = {key: row[key] for key in ("id", "tokens", "label", "gold")}
            file.write(json.dumps({**kept, "document": document}) + "\n")
    types = sorted({tag[2:] for row in rows for tag in (*row["label"], *row["gold"]) if tag != "O"})
    data = {"path": str(path), "text": "tokens", "label": "label", "gold": "gold", "id": "id",
            "group": "document"}  # fmt: skip
    raw = {"task": "tagging", "labels": dict.fromkeys(types, "x"), "data": data, "output": "run"}
    job = make_job(raw, folder=home)
    found = read_dataset(job.data, job.resolve, cells_of=task_type("tagging").cells)
    task = open_task("tagging", load_definitions(job.labels), found.labels.type)
    assert found.gold is not None
    recorded: dict[str, Labels] = {}
    for judge in rows[0]["llm"] or {}:
        said = [row["llm"].get(judge) for row in rows]
        recorded[judge] = column(
            None if tags is None else task.check(tags, found.item(number))
            for number, tags in enumerate(said)
        )
    return Case(name, task, found, task.read(found.labels), task.read(found.gold), recorded)


def f1(case: Case, labels: Labels, rows: Any = slice(None)) -> float:
    """Span F1 against gold."""
    counts = case.task.measure.counts(labels[rows], case.gold[rows])
    return float(case.task.measure.value(counts.sum(axis=0)))


def average_precision(score: Any, wrong: Any) -> float:
    """Of a ranking, the highest score first."""
    hits = wrong[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def errors(case: Case) -> Any:
    """(rows,) missing and spurious spans."""
    both = zip(case.given.tolist(), case.gold.tolist(), strict=True)
    return np.array([len(set(given) ^ set(gold)) for given, gold in both])


def expected_errors(case: Case, found: Predictions) -> Any:
    """(rows,) how many spans are believed wrong: given ones that are none, and missing ones."""
    scores = {name: found.scores[f"span_{name}"] for name in ("start", "end", "type", "prob")}
    bounds = np.asarray(scores["prob"].offsets)
    start, end, kind, prob = (np.asarray(each.values) for each in scores.values())
    total = np.zeros(len(case.given))
    for row, given in enumerate(case.given.tolist()):
        own = {(s.start, s.end, found.names.index(s.type)) for s in given}
        for at in range(bounds[row], bounds[row + 1]):
            is_given = (start[at], end[at], kind[at]) in own
            total[row] += 1 - prob[at] if is_given else prob[at]
    return total


def cleanlabs(case: Case, model: TextTagger) -> dict[str, float]:
    """Average precision of cleanlab's sentence scores on the first pass's marginals."""
    from cleanlab.token_classification.rank import get_label_quality_scores

    from llm_relabel.models.parts.tagger_heads import chains
    from llm_relabel.models.text_tagger import _in_words

    tagger = model._tagger
    spans = [_in_words(label, at) for label, at in zip(case.given, model._places, strict=True)]
    heads = int(tagger.folds.max()) + 1
    held_out = tagger.folds[None] != np.arange(heads)[:, None]
    plain = tagger._train(spans, held_out, None)
    marginals, tags = [], []
    for row, chain in chains([plain], tagger._inputs, tagger.folds):
        marginals.append(chain.marginals)
        tags.append(tagger._tags(row, spans).tolist())
    wrong = differs(case.given, case.gold)
    ways: dict[str, dict[str, Any]] = {
        f"{way}, {token}": {"sentence_score_method": way, "token_score_method": token}
        for way in ("min", "softmin") for token in ("self_confidence", "normalized_margin")
    }  # fmt: skip
    return {
        name: average_precision(1 - get_label_quality_scores(tags, marginals, **options)[0], wrong)
        for name, options in ways.items()
    }


def measured_model(case: Case, model: TextTagger, found: Predictions, seconds: float) -> Any:
    """What the model finds of what is wrong."""
    predicted = Predicted(case.task, case.given, case.given, found)
    wrong, amiss = differs(case.given, case.gold), errors(case)
    expected = expected_errors(case, found)
    top = np.argsort(-expected)[: int(SHARE * len(expected))]
    others = cleanlabs(case, model)
    return {
        "given": f1(case, case.given),
        "f1": f1(case, found.labels),
        "ap": average_precision(1 - predicted.quality, wrong),
        "caught": float(amiss[top].sum() / amiss.sum()),
        "cleanlab_min": others["min, self_confidence"],
        "cleanlab": max(others.values()),
        "seconds": seconds,
    }


def simulated(case: Case, right: float, seed: int) -> Labels:
    """A judge that gets so many entities right; of the others half are of another type, half
    missing, and in one of five or ten sentences it marks a word that is none."""
    rng, names = random.Random(f"{case.name} {right} {seed}"), case.task.names
    said = []
    for row, gold in enumerate(case.gold.tolist()):
        spans = []
        for span in gold:
            luck = rng.random()
            others = [name for name in names if name != span.type]
            if luck < right:
                spans.append(span)
            elif luck < (1 + right) / 2 and others:
                spans.append(Span(span.start, span.end, rng.choice(others), span.text))
        start, end = rng.choice(case.data.item(row).words or ((0, 1),))
        free = all(end <= span.start or start >= span.end for span in spans)
        if rng.random() < 1 - right and free:
            text = case.data.text[row].as_py()[start:end]
            spans.append(Span(start, end, rng.choice(names), text))
        said.append(tuple(sorted(spans)))
    return column(said)


def decided(case: Case, model: TextTagger, found: Predictions, judge: Labels, sides: bool) -> Any:
    """What each way to decide makes of the labels."""
    expected = expected_errors(case, found)
    top = np.argsort(-expected)[: int(SHARE * len(expected))]
    asked = no_labels(len(judge))
    asked[top] = judge[top]
    rows = np.flatnonzero(has_label(asked))
    predicted = Predicted(case.task, case.given, case.given, found)
    votes = {"judge": JudgeVotes({int(row): (asked[row], None) for row in rows})}
    units = case.task.units({"given": case.given, "judge": asked, "predicted": found.labels})
    given, said, small = (
        case.task.codes(units, each) for each in (case.given, asked, found.labels)
    )
    same = (said == small) & (said != SILENT)

    def only(labels: Labels) -> Labels:
        return column_of(len(judge), {
            row: labels[row] if has_label(asked)[row] else case.given[row]
            for row in range(len(judge))
        })  # fmt: skip

    believed = believe(predicted, votes)
    ways = {
        "keep": case.given,
        "agree": only(case.task.labels(units, np.where(same, said, given))),
        "fuse": only(believed.labels),
        "boldly": only(believed.bold),
        "replace": only(asked),
    }
    result: dict[str, float] = {name: f1(case, labels) for name, labels in ways.items()}
    result["judge"] = f1(case, judge)
    result |= with_checks(case, predicted, votes, rows)
    if sides:
        result |= both_sides(case, model, found, judge, expected)
    return result


def with_checks(
    case: Case, predicted: Predicted, votes: dict[str, JudgeVotes], rows: Any
) -> dict[str, float]:
    """What 30 spot-checks of judged sentences choose among a run's policies."""
    evidence = AuditEvidence(predicted, votes, np.ones(len(case.given), dtype=np.bool_))
    rng, checked = np.random.default_rng(0), []
    for _ in range(DRAWS):
        sample = rng.permutation(rows)[:CHECKS]
        rest = np.setdiff1d(np.arange(len(case.given)), sample)
        parts = np.array_split(sample, FOLDS)
        scores: dict[str, Any] = {}
        for part in parts:  # what learns from the checks is measured on others
            others = {int(row): case.gold[row] for row in np.setdiff1d(sample, part)}
            for name, labels in evidence.candidates(others).items():
                counts = case.task.measure.counts(labels[part], case.gold[part]).sum(axis=0)
                scores[name] = scores.get(name, 0) + counts
        best = max(scores, key=lambda name: np.nan_to_num(case.task.measure.value(scores[name])))
        labels = evidence.candidates({int(row): case.gold[row] for row in sample})[best]
        checked.append(f1(case, labels, rest))
    return {"checks": float(np.mean(checked)), "least": float(min(checked))}


def both_sides(
    case: Case, model: TextTagger, found: Predictions, judge: Labels, expected: Any
) -> dict[str, float]:
    """Fuse without and with the models of both sides; a fifth of the sentences is drawn at random
    from those that nobody doubts, as these models need it."""
    order, rng = np.argsort(-expected), np.random.default_rng(0)
    undoubted = rng.permutation(np.flatnonzero(~differs(case.given, found.labels)))
    few = int(SHARE * len(expected) / 5)
    drawn = set(undoubted[:few].tolist())
    rows = {int(row): judge[row] for row in [*order[: 4 * few], *drawn]}
    votes = {"judge": JudgeVotes({r: (said, None) for r, said in rows.items() if said is not None})}
    reading = Reading(case.task, case.given, model.out_of_fold, drawn)
    reading.remember(case.given, found)
    result = {}
    for name, how in (("one model", None), ("both sides", reading)):
        predicted = Predicted(case.task, case.given, case.given, found, how)
        labels = believe(predicted, votes).labels
        kept = np.array([row not in votes["judge"].answers for row in range(len(judge))])
        result[name] = f1(case, np.where(kept, case.given, labels))
    return result


def better(case: Case, wrong: float) -> Case:
    """The same set with good labels: gold, so many of its spans missing or of another type."""
    rng, names = random.Random(f"{case.name} {wrong}"), case.task.names
    given = []
    for gold in case.gold.tolist():
        spans = []
        for span in gold:
            luck = rng.random()
            if luck >= wrong:
                spans.append(span)
            elif luck < wrong / 2:
                other = rng.choice([name for name in names if name != span.type])
                spans.append(Span(span.start, span.end, other, span.text))
        given.append(tuple(spans))
    return replace(case, given=column(given))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("model", "decide"))
    wanted = parser.parse_args()
    models, decisions, good = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in SETS:
            case = opened(name, home)
            for seed in range(wanted.seeds):
                began = time.process_time()
                section = make_job(
                    {"task": "tagging", "labels": {"x": "x"}, "output": "r",
                     "data": {"path": "x", "text": "t", "label": "l"}}, folder=home,
                ).model  # fmt: skip
                model = case.task.model(
                    section, case.data, seed=seed, cache=None, folder=home, progress=None
                )
                assert isinstance(model, TextTagger)
                found = model.out_of_fold(case.given)
                seconds = time.process_time() - began
                about = {"set": name, "seed": seed}
                if wanted.only != "decide":
                    models.append(about | measured_model(case, model, found, seconds))
                    print(models[-1], flush=True)
                if wanted.only == "model":
                    continue
                judges = {
                    **case.recorded,
                    "simulated 80%": simulated(case, 0.8, seed),
                    "simulated 90%": simulated(case, 0.9, seed),
                }
                for judge, said in judges.items():
                    result = decided(case, model, found, said, sides=(seed, judge) in SIDES)
                    decisions.append({**about, "name": judge, **result})
                    print(decisions[-1], flush=True)
                for wrong in GOOD if seed == 0 and case.recorded else ():
                    other = better(case, wrong)
                    found = model.out_of_fold(other.given)
                    for judge, said in case.recorded.items():
                        result = decided(other, model, found, said, sides=False)
                        good.append({**about, "wrong": wrong, "name": judge, **result})
                        print(good[-1], flush=True)
    write(models, decisions, good)


def mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows if name in row] or [np.nan]))


def _shown(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def write(
    models: list[dict[str, Any]], decisions: list[dict[str, Any]], good: list[dict[str, Any]]
) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = []
    for name in SETS:
        of = [row for row in models if row["set"] == name]
        if of:
            values = [mean(of, key) for key in ("given", "f1", "ap", "cleanlab", "cleanlab_min",
                                                "caught", "seconds")]  # fmt: skip
            lines.append([name, *(f"{v:.3f}" for v in values[:-1]), f"{values[-1]:.0f}"])
    first = table(
        ["set", "given labels F1", "prediction F1", "average precision", "best of cleanlab's four",
         "cleanlab's min", "errors caught at 30%", "CPU seconds"], lines,
    )  # fmt: skip
    lines = []
    for name, judge in dict.fromkeys((row["set"], row["name"]) for row in decisions):
        of = [row for row in decisions if (row["set"], row["name"]) == (name, judge)]
        values = [mean(of, key) for key in ("judge", "keep", "fuse", "boldly", "agree", "replace",
                                            "checks", "one model", "both sides")]  # fmt: skip
        lines.append([name, judge, *map(_shown, values)])
    second = table(
        ["set", "judge", "judge's own F1", "keep", "fuse (auto)", "fuse boldly", "agree", "replace",
         "30 checks", "one model (seed 0)", "both sides (seed 0)"], lines,
    )  # fmt: skip
    lines = []
    for wrong in dict.fromkeys(row["wrong"] for row in good):
        for row in [each for each in good if each["wrong"] == wrong]:
            values = [row[key] for key in ("judge", "keep", "fuse", "boldly", "agree", "replace",
                                           "checks")]  # fmt: skip
            lines.append([f"{wrong:.0%}", row["name"], *(f"{value:.3f}" for value in values)])
    third = table(
        ["wrong spans", "judge", "judge's own F1", "keep", "fuse (auto)", "fuse boldly", "agree",
         "replace", "30 checks"], lines,
    )  # fmt: skip
    seeds = len({row["seed"] for row in models + decisions})
    text = (
        f"# Tagging\n\n`python evals/tagging.py`, {seeds} seeds; the script says what the words "
        f"mean and what was chosen on what.\n\n## The small model, out of fold\n\n{first}\n\n"
        f"Peak memory of the whole script: {peak:.0f} MB.\n\n## Span F1 after the judge saw 30% of "
        f"the sentences\n\n{second}\n\n## Where the labels are good: gold of finer_ord with few "
        f"wrong spans, recorded judges\n\n{third}\n"
    )
    about = facts("llm_relabel", "numpy", "torch", "transformers", "cleanlab")
    measured = {"about": about, "model": models, "decide": decisions, "good": good,
                "peak_mb": peak}  # fmt: skip
    keep("tagging", measured, f"{text}\nMeasured on: {about}\n")


if __name__ == "__main__":
    main()
