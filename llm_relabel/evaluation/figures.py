"""Answers become figures: each judge against gold, and the judges against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement import measures, paired, raters
from llm_relabel.agreement.judged import Answers, figures, right
from llm_relabel.evaluation.gold_set import GoldSet
from llm_relabel.records import LabelValue, Targets, Verdict
from llm_relabel.tasks import Task


def answers_of(
    task: Task, ids: Sequence[str], verdicts: Mapping[str, Verdict]
) -> tuple[Answers, dict[str, Any]]:
    """One judge's answers on the items, in their order, and what they took.

    `verdicts` are by item id; an item without one counts as failed.
    """
    count = len(ids)
    targets = Targets(
        np.zeros((count, len(task.class_names)), dtype=np.bool_),
        np.zeros(count, dtype=np.bool_),
        task.exclusive,
    )
    confidence = np.full(count, np.nan)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for place, item_id in enumerate(ids):
        verdict = verdicts.get(item_id)
        outcomes[verdict.outcome if verdict is not None else "failed"] += 1
        if verdict is None or verdict.outcome != "answer":
            reasons[str(verdict.reason if verdict is not None else "not_asked")] += 1
            continue
        label: LabelValue = task.check_label(verdict.answer)
        task.put(targets, place, label)
        if verdict.confidence is not None:
            confidence[place] = verdict.confidence
    seconds = np.array([v.seconds for v in verdicts.values() if v.seconds is not None])
    costs = [v.cost for v in verdicts.values() if v.cost is not None]
    paid = sum(v.calls > 0 for v in verdicts.values())
    took = {
        "answered": outcomes["answer"],
        "abstained": outcomes["abstain"],
        "failed": outcomes["failed"],
        "reasons": dict(reasons),
        "calls": sum(verdict.calls for verdict in verdicts.values()),
        "cached": sum(verdict.cached for verdict in verdicts.values()),
        "cost": sum(costs) if costs else None,
        "cost_per_item": sum(costs) / paid if costs and paid else None,
        "seconds": None
        if not len(seconds)
        else {"p50": float(np.quantile(seconds, 0.5)), "p95": float(np.quantile(seconds, 0.95))},
    }
    return Answers(targets.matrix, targets.known, confidence), took


def compare(
    task: Task, gold: GoldSet, by_judge: Mapping[str, Answers], *, seed: int
) -> dict[str, Any]:
    """Every judge's figures, the paired tests between them, and the people where there are."""
    truth = gold.truth.matrix
    found: dict[str, Any] = {
        "judges": {
            name: figures(truth, answers, task.class_names, exclusive=task.exclusive, seed=seed)
            for name, answers in by_judge.items()
        },
        "pairs": paired.compare({n: right(truth, a) for n, a in by_judge.items()}, seed=seed),
    }
    if task.exclusive:
        classes = len(task.class_names)
        found["between"] = _between(by_judge, classes)
        table = np.stack([_codes(answers) for answers in by_judge.values()], axis=1)
        found["alpha_of_all"] = raters.alpha(
            raters.category_counts(table, classes), seed=seed
        ).as_json()
    if gold.raters is not None:
        classes = len(task.class_names)
        people = raters.people_agreement(gold.raters, classes, seed=seed)
        found["people"] = {
            **people,
            "judges": {
                name: _beside_people(gold, _codes(answers), classes, seed)
                for name, answers in by_judge.items()
            },
        }
    return found


def _between(by_judge: Mapping[str, Answers], classes: int) -> list[dict[str, Any]]:
    """Cohen's kappa of every pair of judges, on the items that both answered."""
    pairs = []
    for (one, first), (other, second) in combinations(by_judge.items(), 2):
        both = first.answered & second.answered
        if not both.any():
            continue
        a, b = _codes(first)[both], _codes(second)[both]
        kappa = float(measures.cohen_kappa(measures.confusion(a, b, classes).astype(float)))
        pairs.append({
            "judges": [one, other], "items": int(both.sum()), "same": float((a == b).mean()),
            "kappa": None if np.isnan(kappa) else kappa,
        })  # fmt: skip
    return pairs


def _beside_people(
    gold: GoldSet, codes: NDArray[np.int64], classes: int, seed: int
) -> dict[str, Any]:
    """A judge as one more rater: the test of it, and alpha once it has joined."""
    assert gold.raters is not None
    joined = raters.category_counts(np.column_stack([gold.raters, codes]), classes)
    return {
        **raters.alternative_annotator(gold.raters, codes, gold.rater_names),
        "alpha_with_people": raters.alpha(joined, seed=seed).as_json(),
    }


def _codes(answers: Answers) -> NDArray[np.int64]:
    return np.where(answers.answered, answers.labels.argmax(1), -1)
