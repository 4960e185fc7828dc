"""Opinions become decisions. A policy decides one unit and knows nothing of tasks.

To add a policy: write a function of a Unit, and enter it in POLICIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm_relabel.config.job import Job
from llm_relabel.config.judges import PEOPLE
from llm_relabel.evidence.opinions import Opinion
from llm_relabel.records import Action, Decision, LabelIssue
from llm_relabel.tasks import Task, assembled, task_type, units_between, whole_item
from llm_relabel.units import LabelValue, Unit, label_json

Policy = Callable[[Unit], Any]


def replace(unit: Unit) -> Any:
    """The verdict replaces the label."""
    return unit.answered


def agree(unit: Unit) -> Any:
    """The verdict replaces the label only where the small model says the same."""
    return unit.answered if unit.answered == unit.predicted else unit.old


# `fuse` is no function of a unit: it weighs everything that is known of a row (beliefs.py).
POLICIES: Mapping[str, Policy] = {"replace": replace, "agree": agree}


def resolved_policy(job: Job) -> str:
    """What `auto` stands for; any other name is itself.

    What the task says, mostly `fuse`, wherever a language model judges. The `embedded` judge sees
    what the small model sees, so the two are no independent witnesses, and `agree` is safer. Where
    `people` judge, they decide.
    """
    if job.decide.policy != "auto":
        return job.decide.policy
    own = task_type(job.task).policy
    return {"embedded": "agree", PEOPLE: "replace"}.get(job.judge.provider, own)


def can_change(policy: str, issue: LabelIssue) -> bool:
    """Whether any verdict could change this issue's label; asking otherwise is waste."""
    return policy != "agree" or issue.predicted_label != issue.current_label


def decide(issue: LabelIssue, opinion: Opinion, task: Task, policy: str) -> list[Decision]:
    """What happens to one judged item: at least one decision, one for each open unit.

    Abstained and failed verdicts keep the current label.
    """

    def decision(action: Action, unit: str, old: Any, new: Any, why: str) -> Decision:
        return Decision(
            id=issue.id,
            row=issue.row,
            unit=unit,
            action=action,
            old=old,
            new=new,
            source="judge",
            confidence=opinion.confidence,
            why=why,
            ask_ids=opinion.ask_ids,
        )

    old = label_json(issue.current_label)
    if opinion.outcome == "failed":
        why = f"{opinion.reason}: {opinion.error}"
        return [decision("failed", whole_item(task), old, old, why)]
    if opinion.outcome == "abstain":
        why = opinion.rationale or str(opinion.reason)
        return [decision("abstain", whole_item(task), old, old, why)]
    answered = task.check(opinion.answer)
    decisions = []
    for unit in _units(task, issue, answered):
        new = POLICIES[policy](unit)
        if new != unit.old:
            decisions.append(decision("replace", unit.key, unit.old, new, opinion.rationale))
            continue
        why = (
            "the judge keeps the label"
            if unit.answered == unit.old
            else f"the judge says {unit.answered!r}, which the policy `{policy}` does not follow "
            f"because the small model says {unit.predicted!r}"
        )
        decisions.append(decision("keep", unit.key, unit.old, unit.old, why))
    return decisions


def decide_fused(
    issue: LabelIssue, opinion: Opinion | None, task: Task, label: LabelValue, belief: float
) -> list[Decision]:
    """What the evidence of all sources makes of one item: `label`, believed to `belief` in 0..1.

    `opinion` is None where no judge was asked in this round.
    """
    said, ask_ids = "no judge was asked in this round", tuple[str, ...]()
    if opinion is not None:
        said, ask_ids = opinion.rationale or "the judge gave no reason", opinion.ask_ids
    silent = opinion is not None and opinion.outcome != "answer"
    decisions = []
    for unit in _units(task, issue, label):
        action: Action = "replace" if unit.answered != unit.old else "keep"
        if action == "keep" and silent:
            action = "abstain"
        why = f"{said} (all evidence together: {belief:.0%})"
        decisions.append(
            Decision(
                id=issue.id, row=issue.row, unit=unit.key, action=action, old=unit.old,
                new=unit.answered, source="fused", confidence=belief, why=why, ask_ids=ask_ids,
            )
        )  # fmt: skip
    return decisions


def item_action(decisions: list[Decision]) -> Action:
    """One item's action for counting: replaced if any unit was."""
    actions = {decision.action for decision in decisions}
    return "replace" if "replace" in actions else decisions[0].action


def new_label(task: Task, old: LabelValue, decisions: list[Decision]) -> LabelValue:
    """The item's label after its decisions."""
    changed = {d.unit: d.new for d in decisions if d.action == "replace"}
    return assembled(task, old, changed)


def _units(task: Task, issue: LabelIssue, answered: LabelValue) -> list[Unit]:
    return units_between(
        task, issue.given_label, issue.current_label, answered, issue.predicted_label
    )
