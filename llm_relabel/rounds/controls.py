"""Controls: questions that check the judge, mixed in among the others and told by nothing.

Three kinds. A `repeat` puts a question of this round once more. A `planted` one shows, among
the candidates of a row that nobody doubts, a wrong label in the place of the old one. A
`confirmed` one asks about a row whose label a person vouches for: `data.locked`, or a blind
spot-check of an earlier round. Controls are journaled like every ask; no decision is ever made
from one. Rows that merely look certain to the model are wrong too often to serve as truth, so the
judge's error rate comes from confirmed rows only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from llm_relabel.agreement import proportion
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.prepared import Prepared
from llm_relabel.records import Ask, LabelIssue, Verdict
from llm_relabel.tasks import Task
from llm_relabel.units import Labels, LabelValue, has_label


@dataclass(frozen=True)
class ControlPool:
    """What controls are drawn from: the round's `flagged` issues and `labels`, beside which people
    `confirmed` labels blind, by id."""

    flagged: Sequence[LabelIssue]
    labels: Labels
    confirmed: Mapping[str, LabelValue] = field(default_factory=dict)


class Planner(Protocol):
    """Who makes the asks of a round; see `planning.Planner`."""

    @property
    def prepared(self) -> Prepared:
        """The job."""
        ...

    @property
    def number(self) -> int:
        """The round's."""
        ...

    @property
    def predicted(self) -> Predicted:
        """What the small model says of the round's labels."""
        ...

    @property
    def ask(self) -> Callable[..., Ask]:
        """Makes one ask."""
        ...


def with_controls(asks: Sequence[Ask], planner: Planner, pool: ControlPool) -> list[Ask]:
    """The first wave's asks with the job's share of controls at random places among them."""
    prepared = planner.prepared
    share = prepared.job.judge.controls
    asked = [ask for ask in asks if ask.purpose == "label"]
    if not share or not asked:
        return list(asks)
    # Drawn anew for each part of a round's issues, and the same whenever a part is planned again.
    rng = random.Random(f"{prepared.job.seed}:controls:{planner.number}:{asked[0].ask_id}")
    wanted = max(1, round(share * len(asked)))
    flagged = {issue.row for issue in pool.flagged}
    makers = [_repeats(asked, planner, pool.flagged, rng)]
    if prepared.job.judge.evidence == "referenced":
        makers.append(_planted(planner, flagged, pool.labels, rng))
    makers.append(_confirmed(planner, pool.labels, pool.confirmed, rng))
    made: list[Ask] = []
    # In turn, so that each kind gets its share and one that runs out leaves it to the others.
    while makers and len(made) < wanted:
        for maker in list(makers):
            control = next(maker, None)
            if control is None:
                makers.remove(maker)
            elif len(made) < wanted:
                made.append(control)
    mixed = list(asks)
    for control in made:
        mixed.insert(rng.randint(0, len(mixed)), control)
    return mixed


def measure(
    asks: Iterable[Mapping[str, Any]], verdicts: Mapping[str, Verdict], task: Task
) -> dict[str, Any]:
    """What the controls say of the judge, with 95% intervals; `asks` are all lines of a round.

    `repeat_consistency`: share of repeats with the same answer (an abstention is an answer).
    `planted_kept`: share of planted wrong labels that the judge took for right.
    `confirmed_wrong`: share of confirmed rows to which the judge gave another label.
    """
    asks = list(asks)
    first = {line["id"]: line["ask_id"] for line in asks if line["purpose"] == "label"}
    same: list[bool] = []
    kept: list[bool] = []
    wrong: list[bool] = []
    unanswered = 0
    for line in asks:
        verdict = verdicts.get(line["ask_id"])
        if line.get("control") is None or verdict is None:
            continue
        if verdict.outcome == "failed":
            unanswered += 1
        elif line["control"] == "repeat":
            before = verdicts.get(first.get(line["id"], ""))
            if before is not None and before.outcome != "failed":
                same.append(before.answer == verdict.answer)
        elif verdict.outcome == "abstain":
            unanswered += 1
        else:
            hit = task.check(verdict.answer) == task.check(line["control_label"])
            (kept if line["control"] == "planted" else wrong).append(
                hit if line["control"] == "planted" else not hit
            )
    found: dict[str, Any] = {
        name: proportion(sum(values), len(values))
        for name, values in (
            ("repeat_consistency", same), ("planted_kept", kept), ("confirmed_wrong", wrong),
        )
        if values
    }  # fmt: skip
    return {**found, "without_answer": unanswered} if found or unanswered else {}


def _repeats(
    asked: Sequence[Ask], planner: Planner, issues: Sequence[LabelIssue], rng: random.Random
) -> Any:
    by_id = {issue.id: issue for issue in issues}
    # One more than the samples, so that it is a call of its own and not the cache's answer.
    repeat = planner.prepared.job.judge.samples
    for ask in rng.sample(asked, len(asked)):
        yield planner.ask(
            by_id[ask.id], judge=ask.judge, purpose="control", repeat=repeat,
            candidates=ask.candidates, control="repeat",
        )  # fmt: skip


def _planted(planner: Planner, flagged: set[int], current: Labels, rng: random.Random) -> Any:
    prepared = planner.prepared
    undoubted = has_label(current) & ~prepared.dataset.locked
    undoubted[list(flagged)] = False
    rows = np.flatnonzero(undoubted).tolist()
    for row in rng.sample(rows, len(rows)):
        label = current[row]
        wrong = prepared.task.decoy((label, planner.predicted.runner_up(row)), rng)
        if wrong is None:
            return
        shown = [wrong, label]
        rng.shuffle(shown)
        yield _of_row(planner, row, label, tuple(shown), "planted", wrong)


def _confirmed(
    planner: Planner, current: Labels, confirmed: Mapping[str, LabelValue], rng: random.Random
) -> Any:
    prepared = planner.prepared
    labels = {
        row: current[row]
        for row in np.flatnonzero(has_label(current) & prepared.dataset.locked).tolist()
    } | {prepared.row_of[item_id]: label for item_id, label in confirmed.items()}
    for row in rng.sample(list(labels), len(labels)):
        yield _of_row(planner, row, labels[row], None, "confirmed", labels[row])


def _of_row(
    planner: Planner,
    row: int,
    label: LabelValue,
    candidates: tuple[LabelValue, ...] | None,
    kind: Any,
    control_label: LabelValue,
) -> Ask:
    """A control on a row that is no issue: the question looks as if it were one."""
    prepared = planner.prepared
    issue = LabelIssue(
        row=row, id=prepared.dataset.ids[row].as_py(), given_label=label, current_label=label,
        predicted_label=planner.predicted.labels[row], label_quality=1.0, reason="low_quality",
    )  # fmt: skip
    return planner.ask(
        issue, judge=prepared.job.judge.member_names[0], purpose="control",
        candidates=candidates, control=kind, control_label=control_label,
    )  # fmt: skip
