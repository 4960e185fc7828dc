"""Does a judge lean to the labels it is shown? Five arms on the same items.

    blind           no label is shown
    blind repeat    the same once more: what differs here is the judge's own noise
    referenced      old label and prediction shown, as a run shows them
    swapped         the same candidates in the opposite order
    planted         a wrong label shown in the place of the old one

Pull to the old label: P(referenced = old | blind is another) less P(repeat = old | blind is
another), so that a judge which merely wavers is not called anchored; to the prediction
likewise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import bootstrapped, share
from llm_relabel.agreement.paired import mcnemar
from llm_relabel.evaluation.asking import VariantAsker, as_issues
from llm_relabel.evaluation.gold_set import GoldSet
from llm_relabel.records import Ask, Evidence, LabelIssue, Verdict
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.tasks import Task
from llm_relabel.units import LabelValue

# A pull that no interval tells from nothing, or that is smaller, is no reason to hide labels.
WORTH_A_CHANGE = 0.02


@dataclass(frozen=True)
class Subject:
    """One item of the experiment; `planted` is the wrong label, None if there is no other."""

    gold: LabelValue
    old: LabelValue
    predicted: LabelValue
    planted: LabelValue
    asks: Mapping[str, Ask]


def run_arms(desk: VariantAsker, gold: GoldSet, count: int) -> dict[str, Any]:
    """The rates of every language model among the desk's judges, on `count` items with gold."""
    prepared = desk.variant.prepared
    judges = [judge.name for judge in desk.judges if judge.is_llm]
    if not judges:
        return {"note": "no language model among the judges: nothing can be anchored"}
    rng = random.Random(f"{prepared.job.seed}:anchoring")
    places = sorted(rng.sample(range(len(gold.rows)), min(count, len(gold.rows))))
    subjects = {name: _subjects(desk, gold, places, name) for name in judges}
    asks = [ask for each in subjects.values() for one in each for ask in one.asks.values()]
    verdicts = desk.put(asks, f"Anchoring: {len(places):,} items, {len(asks):,} questions")
    return {
        "items": len(places),
        "judges": {
            name: _rates(prepared.task, subjects[name], verdicts) for name in judges
        },
    }  # fmt: skip


def _subjects(
    desk: VariantAsker, gold: GoldSet, places: Sequence[int], judge: str
) -> list[Subject]:
    prepared, predicted = desk.variant.prepared, desk.variant.predicted
    task, found = prepared.task, []
    planner = AskPlanner(prepared, 0, predicted)

    def ask(issue: LabelIssue, evidence: Evidence, **choice: Any) -> Ask:
        return planner.ask(issue, judge=judge, purpose="anchoring", evidence=evidence, **choice)

    rows = gold.rows[np.array(places, dtype=np.int64)]
    for place, issue in zip(places, as_issues(prepared, predicted, rows), strict=True):
        truth = gold.truth[place]
        referenced = ask(issue, "referenced")
        rng = random.Random(f"{prepared.job.seed}:planted:{issue.id}")
        avoid = tuple(
            label
            for label in (issue.current_label, issue.predicted_label, truth)
            if label is not None
        )
        planted = task.decoy(avoid, rng)
        turned = referenced.candidates[::-1]
        asks = {
            "blind": ask(issue, "blind"),
            "blind repeat": ask(issue, "blind", repeat=1),
            "referenced": referenced,
            "swapped": ask(issue, "referenced", wave=1, candidates=turned),
        }
        if planted is not None:
            shown = [planted, issue.predicted_label]
            rng.shuffle(shown)
            asks["planted"] = ask(issue, "referenced", wave=2, candidates=tuple(shown))
        found.append(Subject(truth, issue.current_label, issue.predicted_label, planted, asks))
    return found


def _rates(
    task: Task, subjects: Sequence[Subject], verdicts: Mapping[str, Verdict]
) -> dict[str, Any]:
    """One judge's rates. An abstention is an answer of its own; a failure leaves a pair out."""

    def said(subject: Subject, arm: str) -> Any:
        ask = subject.asks.get(arm)
        verdict = verdicts.get(ask.ask_id) if ask is not None else None
        if verdict is None or verdict.outcome == "failed":
            return _FAILED
        return task.check(verdict.answer) if verdict.outcome == "answer" else _ABSTAINED

    table = {arm: [said(subject, arm) for subject in subjects] for arm in ARMS}
    old = [subject.old for subject in subjects]
    predicted = [subject.predicted for subject in subjects]
    planted = [subject.planted for subject in subjects]
    truth = [subject.gold for subject in subjects]
    theirs = [verdicts[a.ask_id] for s in subjects for a in s.asks.values() if a.ask_id in verdicts]
    costs = [verdict.cost for verdict in theirs if verdict.cost is not None]
    found: dict[str, Any] = {
        "took": {
            "calls": sum(verdict.calls for verdict in theirs),
            "cached": sum(verdict.cached for verdict in theirs),
            "cost": sum(costs) if costs else None,
        },
        "failed": sum(answer is _FAILED for arm in table.values() for answer in arm),
        "pull_to_old": _pull(table, old),
        "pull_to_prediction": _pull(table, predicted),
        "swap_flips": _differing(table["referenced"], table["swapped"]),
        "repeat_flips": _differing(table["blind"], table["blind repeat"]),
        "planted_kept": _equal(table["planted"], planted),
        "planted_given_blind": _equal(
            [blind if shown is not _FAILED else _FAILED
             for blind, shown in zip(table["blind"], table["planted"], strict=True)], planted,
        ),
        "accuracy": {arm: _equal(table[arm], truth) for arm in ARMS},
        "referenced_less_blind": _gain(table["referenced"], table["blind"], truth),
    }  # fmt: skip
    return {**found, "advice": advice(found)}


def advice(found: Mapping[str, Any]) -> str:
    """One sentence: use blind, or use referenced, and why."""
    gain, pull = found["referenced_less_blind"], found["pull_to_old"]
    if gain["value"] is None:
        return "Use referenced, the default: too few answers came to compare the arms."
    told = f"{gain['value']:+.1%} right with the labels shown"
    if gain["low"] is not None:
        told += f" (95% interval {gain['low']:+.1%} to {gain['high']:+.1%})"
    if _sign(gain) > 0:
        return f"Use referenced: {told}."
    if _sign(gain) < 0:
        return f"Use blind: {told}."
    if _sign(pull) > 0 and pull["value"] >= WORTH_A_CHANGE:
        return (
            f"Use blind: the judge follows the old label it is shown ({pull['value']:+.1%}), and "
            f"nothing is gained by it: {told}."
        )
    return (
        f"Use referenced: no pull to the old label shows, and {told} is within chance; "
        "the candidates make the rationales easier to check."
    )


def _sign(difference: Mapping[str, Any]) -> int:
    """1 or -1 where a difference is no chance, else 0."""
    value, low, high = difference["value"], difference["low"], difference["high"]
    if value is None:
        return 0
    if low is None:  # every item says the same, and so no interval could be drawn
        return 0 if difference.get("too_few") else int(value > 0) - int(value < 0)
    return int(low > 0) - int(high < 0)


ARMS = ("blind", "blind repeat", "referenced", "swapped", "planted")
_FAILED = object()
_ABSTAINED = object()


def _pull(table: Mapping[str, Sequence[Any]], label: Sequence[Any]) -> dict[str, Any]:
    """Pull to `label` among the items where the blind answer is another one."""
    cells = np.zeros(4, dtype=np.int64)
    arms = (table["blind"], table["blind repeat"], table["referenced"], label)
    for blind, repeat, shown, target in zip(*arms, strict=True):
        if target is None or _FAILED in (blind, repeat, shown) or blind == target:
            continue
        cells[2 * (shown == target) + (repeat == target)] += 1
    return _difference(cells)


def _gain(one: Sequence[Any], other: Sequence[Any], truth: Sequence[Any]) -> dict[str, Any]:
    """How much more often `one` is right than `other`, with McNemar's exact p."""
    cells = np.zeros(4, dtype=np.int64)
    for first, second, right in zip(one, other, truth, strict=True):
        if _FAILED not in (first, second):
            cells[2 * (first == right) + (second == right)] += 1
    return {**_difference(cells), "p": mcnemar(int(cells[2]), int(cells[1]))}


def _difference(cells: NDArray[np.int64]) -> dict[str, Any]:
    """P(first) - P(second) of paired yes and no: cells are neither, second, first, both."""

    def difference(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((drawn[:, 2] - drawn[:, 1]) / drawn.sum(1))

    return bootstrapped(cells, difference).as_json()


def _differing(one: Sequence[Any], other: Sequence[Any]) -> dict[str, Any]:
    pairs = [pair for pair in zip(one, other, strict=True) if _FAILED not in pair]
    return share(sum(first != second for first, second in pairs), len(pairs)).as_json()


def _equal(answers: Sequence[Any], labels: Sequence[Any]) -> dict[str, Any]:
    pairs = [
        (answer, label)
        for answer, label in zip(answers, labels, strict=True)
        if answer is not _FAILED and label is not None
    ]
    return share(sum(answer == label for answer, label in pairs), len(pairs)).as_json()
