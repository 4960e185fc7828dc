"""Opinions become decisions. A policy decides one unit and knows nothing of tasks.

To add a policy: write a function of a Unit, and enter it in POLICIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm_relabel.combine import Opinion
from llm_relabel.records import Action, Decision, LabelIssue, LabelValue, label_json
from llm_relabel.tasks import Task, Unit

Policy = Callable[[Unit], Any]


def replace(unit: Unit) -> Any:
    """The verdict replaces the label."""
    return unit.answered


def agree(unit: Unit) -> Any:
    """The verdict replaces the label only where the small model says the same."""
    return unit.answered if unit.answered == unit.predicted else unit.old


# Where nobody has measured the judge, the safest rule that still repairs labels is `agree`:
# a judge worse than the labels cannot break what the small model believes.
POLICIES: Mapping[str, Policy] = {"replace": replace, "agree": agree, "auto": agree}


def resolved_policy(name: str) -> str:
    """What `auto` stands for; any other name is itself."""
    return "agree" if name == "auto" else name


def can_change(name: str, issue: LabelIssue) -> bool:
    """Whether any verdict could change this issue's label; asking otherwise is waste."""
    return resolved_policy(name) != "agree" or issue.predicted_label != issue.current_label


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
        return [decision("failed", task.whole, old, old, why)]
    if opinion.outcome == "abstain":
        return [decision("abstain", task.whole, old, old, opinion.rationale or str(opinion.reason))]
    answered = task.check_label(opinion.answer)
    decisions = []
    for unit in task.units(issue.current_label, answered, issue.predicted_label):
        new = POLICIES[policy](unit)
        if new != unit.old:
            decisions.append(decision("replace", unit.name, unit.old, new, opinion.rationale))
            continue
        why = (
            "the judge keeps the label"
            if unit.answered == unit.old
            else f"the judge says {unit.answered!r}, which the policy `{policy}` does not follow "
            f"because the small model says {unit.predicted!r}"
        )
        decisions.append(decision("keep", unit.name, unit.old, unit.old, why))
    return decisions


def item_action(decisions: list[Decision]) -> Action:
    """One item's action for counting: replaced if any unit was."""
    actions = {decision.action for decision in decisions}
    return "replace" if "replace" in actions else decisions[0].action


def new_label(task: Task, old: LabelValue, decisions: list[Decision]) -> LabelValue:
    """The item's label after its decisions."""
    changed = {d.unit: d.new for d in decisions if d.action == "replace"}
    return task.assemble(old, changed) if changed else old
