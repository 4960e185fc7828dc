"""The sentence that an evaluation ends with: who wins, by how much, and whether that is proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from scipy.special import betainc

from llm_relabel.agreement.judged import Answers
from llm_relabel.evidence.doubts import ALIKE, CHANCE, FEWEST_ALIKE
from llm_relabel.tasks import Task
from llm_relabel.units import Labels, hashable, label_json

GIVEN, MODEL = "given labels", "small model"
PROVED = 0.05  # a corrected p-value below this is called proof
FEWEST = 20  # items below which nothing is called a winner


def conclusion(figures: Mapping[str, Any]) -> str:
    """One sentence over all that was compared, by how often each is right, silence wrong."""
    items = figures["items"]
    right = {
        name: found["accuracy"]["abstained_wrong"]["value"]
        for name, found in figures["judges"].items()
    }
    known = {name: value for name, value in right.items() if value is not None}
    if not known or not items:
        return "Nothing can be concluded: no item has gold."
    ranked = sorted(known, key=lambda name: -known[name])
    best = ranked[0]
    if len(ranked) == 1:
        return (
            f"With {_name(best)} {known[best]:.1%} of {items:,} items are right; there is nothing "
            "to hold it against."
        )
    second = ranked[1]
    ahead, p = _between(figures["pairs"], best, second)
    around = ""
    if ahead["low"] is not None:
        around = f" (95% interval {100 * ahead['low']:+.1f} to {100 * ahead['high']:+.1f})"
    shown = f"{known[best]:.1%} of {items:,} items are right with"
    if known[best] == known[second]:
        return (
            f"There is no winner: {shown} {_name(best)} and as many with {_name(second)}{around}."
        )
    lead = f"{100 * ahead['value']:.1f} points more than with {_name(second)}{around}"
    if items < FEWEST:
        return (
            f"No winner is proved: {shown} {_name(best)}, {lead}, and {items:,} items are too few "
            "to tell."
        )
    if p < PROVED:
        return f"The winner is {_name(best)}: {shown} it, {lead}, and that is proved (p {_p(p)})."
    return f"No winner is proved: {shown} {_name(best)}, {lead}, which may be chance (p {_p(p)})."


def constant_judges(task: Task, truth: Labels, by_judge: Mapping[str, Answers]) -> list[str]:
    """A sentence on each judge that answers nearly always the same where gold does not."""
    found = []
    for name, answers in by_judge.items():
        said = answers.labels[answers.answered]
        if name in (GIVEN, MODEL) or len(said) < FEWEST_ALIKE:
            continue
        counts = Counter(map(hashable, map(label_json, said.tolist())))
        answer, count = counts.most_common(1)[0]
        usual = sum(hashable(label_json(each)) == answer for each in truth[answers.answered])
        share = (usual + 1) / (len(said) + 2)
        if count < ALIKE * len(said) or betainc(count, len(said) - count + 1, share) >= CHANCE:
            continue
        label = next(each for each in said.tolist() if hashable(label_json(each)) == answer)
        found.append(
            f"{name} says {task.show(label)} for {count:,} of the {len(said):,} items that it "
            f"answers, and gold for {usual:,}: it hardly looks at them; a shorter prompt "
            "(--prompt short) or a larger model may help"
        )
    return found


def _between(
    pairs: list[Mapping[str, Any]], best: str, second: str
) -> tuple[Mapping[str, Any], float]:
    """By how much the best is right more often, with its interval, and the corrected p-value."""
    for pair in pairs:
        if set(pair["judges"]) != {best, second}:
            continue
        found = pair["difference"]
        if pair["judges"][0] == best:
            return found, pair["p_corrected"]
        turned = {name: -found[name] if found[name] is not None else None for name in
                  ("value", "low", "high")}  # fmt: skip
        return {"value": turned["value"], "low": turned["high"], "high": turned["low"]}, pair[
            "p_corrected"
        ]
    raise KeyError((best, second))


def _name(name: str) -> str:
    """As it stands in a sentence."""
    return f"the {name}" if name in (GIVEN, MODEL) else name


def _p(value: float) -> str:
    return "under 0.001" if value < 0.001 else f"{value:.3f}"
