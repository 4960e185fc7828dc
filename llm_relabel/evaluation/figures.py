"""Answers become figures: each judge against gold, and the judges against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement import measures, paired, raters
from llm_relabel.agreement.judged import Answers, choice_codes, figures, right
from llm_relabel.evaluation.gold_set import GoldSet
from llm_relabel.records import Verdict
from llm_relabel.tasks import Task, is_one_choice
from llm_relabel.units import no_labels


def answers_of(
    task: Task, ids: Sequence[str], verdicts: Mapping[str, Verdict]
) -> tuple[Answers, dict[str, Any]]:
    """One judge's answers on the items, in their order, and what they took.

    `verdicts` are by item id; an item without one counts as failed.
    """
    count = len(ids)
    labels = no_labels(count)
    confidence = np.full(count, np.nan)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for place, item_id in enumerate(ids):
        verdict = verdicts.get(item_id)
        outcomes[verdict.outcome if verdict is not None else "failed"] += 1
        if verdict is None or verdict.outcome != "answer":
            reasons[str(verdict.reason if verdict is not None else "not_asked")] += 1
            continue
        labels[place] = task.check(verdict.answer)
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
    return Answers(labels, confidence), took


def compare(
    task: Task, gold: GoldSet, by_judge: Mapping[str, Answers], *, seed: int
) -> dict[str, Any]:
    """Every judge's figures, the paired tests between them, and the people where there are."""
    truth = gold.truth
    found: dict[str, Any] = {
        "judges": {
            name: figures(task, truth, answers, seed=seed) for name, answers in by_judge.items()
        },
        "pairs": paired.compare({n: right(truth, a) for n, a in by_judge.items()}, seed=seed),
    }
    if is_one_choice(task):
        codes = {name: choice_codes(task, each.labels) for name, each in by_judge.items()}
        classes = len(task.names)
        found["between"] = _between(codes, classes)
        table = np.stack(list(codes.values()), axis=1)
        found["alpha_of_all"] = raters.alpha(
            raters.category_counts(table, classes), seed=seed
        ).as_json()
    if gold.raters is not None:
        classes = len(task.names)
        people = raters.people_agreement(gold.raters, classes, seed=seed)
        found["people"] = {
            **people,
            "judges": {
                name: _beside_people(gold, choice_codes(task, answers.labels), classes, seed)
                for name, answers in by_judge.items()
            },
        }
    return found


def _between(codes: Mapping[str, NDArray[np.int64]], classes: int) -> list[dict[str, Any]]:
    """Cohen's kappa of every pair of judges, on the items that both answered."""
    pairs = []
    for (one, first), (other, second) in combinations(codes.items(), 2):
        both = (first >= 0) & (second >= 0)
        if not both.any():
            continue
        a, b = first[both], second[both]
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
