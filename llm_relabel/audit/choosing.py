"""Which policy, by the audits; and which of its changes are proved to do more good than harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.paired import mcnemar
from llm_relabel.audit.candidates import Evidence
from llm_relabel.audit.checks import FOLDS, Audits, Values, lower_bound
from llm_relabel.records import Targets
from llm_relabel.tasks import Task

# Audited changes that fixed or broke a label, from which on a class is judged by itself; changes
# from wrong to wrong say nothing of which label is better.
FEWEST_OF_A_CLASS = 20

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """What the audits chose. `labels` are final, `rejected` (rows,) marks changes held back.

    `estimates` is each policy's accuracy on all rows, cross-fitted and gated; `p` is McNemar's
    exact p-value of the chosen policy against keeping the given labels; `gate` says for each
    group of changes what the audits showed. `right` (n,) is whether each audit found the label
    right that the same procedure gave without that audit: it certifies. `right_as_chosen` (n,)
    lets each audit have its part in the choice and the gate.
    """

    policy: str
    labels: Targets
    rejected: Mask
    estimates: Mapping[str, float]
    p: float
    gate: list[dict[str, Any]]
    right: Values
    right_as_chosen: Values


@dataclass(frozen=True)
class _Seen:
    """One policy as the audits see it, learned without each audit: whether its label is right,
    and the group of its change, -1 where nothing changes. Both (n,)."""

    right: Values
    group: NDArray[np.int64]


def choose(
    evidence: Evidence, audits: Audits, *, policy: str = "auto", min_precision: float | None = None,
    gated: bool = True, seed: int = 0,
) -> Choice:  # fmt: skip
    """Choose among all policies (`auto`) or gate one of them, by cross-fitted audits."""
    task, given = evidence.task, evidence.given
    old = audits.right(task, given)
    seen = _cross_fitted(evidence, audits, seed)
    names = [policy] if policy != "auto" else list(seen)
    gate = _Gate(task, audits, old, min_precision, gated=gated)

    def result(name: str, mask: Mask) -> Values:
        """(n,) whether the gated label is right, the gate being set by the masked audits."""
        each = seen[name]
        passes = gate.passes(each, mask)
        return np.where((each.group < 0) | passes[each.group], each.right, old)

    def best(mask: Mask) -> tuple[str, Values]:
        results = {name: result(name, mask) for name in names}
        chosen = max(names, key=lambda name: audits.mean(results[name], mask))
        return chosen, results[chosen]

    right = np.zeros(len(audits))
    for place in range(len(audits)):
        others = np.ones(len(audits), dtype=np.bool_)
        others[place] = False
        right[place] = best(others)[1][place]
    everyone = np.ones(len(audits), dtype=np.bool_)
    final, as_chosen = best(everyone)
    labels = evidence.candidates(audits.people(task, everyone))[final]
    group = _groups(given, labels, len(task.class_names))
    rejected = (group >= 0) & ~gate.passes(seen[final], everyone)[group]
    labels = labels.copy()
    labels.matrix[rejected] = given.matrix[rejected]
    labels.known[rejected] = given.known[rejected]
    wins, losses = seen[final].right > old, seen[final].right < old
    return Choice(
        policy=final,
        labels=labels,
        rejected=rejected,
        estimates={name: audits.mean(result(name, everyone)) for name in names},
        p=mcnemar(int(wins.sum()), int(losses.sum())),
        gate=gate.told(seen[final], everyone) if gated else [],
        right=right,
        right_as_chosen=as_chosen,
    )


def _cross_fitted(evidence: Evidence, audits: Audits, seed: int) -> dict[str, _Seen]:
    """Every policy at the audited rows, each row's labels learned from the other folds."""
    task, folds = evidence.task, audits.folds(seed)
    classes = len(task.class_names)
    seen: dict[str, _Seen] = {}
    for fold in range(FOLDS):
        held = folds == fold
        for name, labels in evidence.candidates(audits.people(task, ~held)).items():
            each = seen.setdefault(
                name, _Seen(np.zeros(len(audits)), np.full(len(audits), -1, dtype=np.int64))
            )
            each.right[held] = audits.right(task, labels)[held]
            each.group[held] = _groups(evidence.given, labels, classes)[audits.rows[held]]
    return seen


class _Gate:
    """Which groups of changes are proved.

    A group is the changes to one label (of multi-label: all changes together). It passes where
    the one-sided 95% bound of P(new right | exactly one of old and new is right) is above a
    half: by its own audits where there are enough, otherwise by those of all changes. With
    `min_precision` the bound of P(new right) must reach that, too. A label where none was cannot
    do harm, and is in no group.
    """

    def __init__(
        self, task: Task, audits: Audits, old: Values, min_precision: float | None, *, gated: bool
    ) -> None:
        self._names = task.class_names
        self._old = old
        self._least = min_precision
        self._gated = gated
        self._count = len(audits)

    def passes(self, seen: _Seen, mask: Mask) -> Mask:
        """(classes + 1,) by group; the last is that of multi-label changes."""
        groups = len(self._names) + 1
        if not self._gated:
            return np.ones(groups, dtype=np.bool_)
        pooled, own = self._judge(seen, mask & (seen.group >= 0)), self._own(seen, mask)
        found = np.full(groups, pooled["applied"], dtype=np.bool_)
        for group in own:
            found[group] = self._judge(seen, mask & (seen.group == group))["applied"]
        return found

    def told(self, seen: _Seen, mask: Mask) -> list[dict[str, Any]]:
        """What the audits showed of each group that is judged by itself, and of all changes."""
        return [
            *(
                {
                    "changes_to": self._names[group],
                    **self._judge(seen, mask & (seen.group == group)),
                }
                for group in self._own(seen, mask)
            ),
            {"changes_to": "any label", **self._judge(seen, mask & (seen.group >= 0))},
        ]

    def _own(self, seen: _Seen, mask: Mask) -> list[int]:
        decisive = mask & (seen.group >= 0) & (seen.right != self._old)
        counts = np.bincount(seen.group[decisive], minlength=len(self._names) + 1)
        return np.flatnonzero(counts[:-1] >= FEWEST_OF_A_CLASS).tolist()

    def _judge(self, seen: _Seen, members: Mask) -> dict[str, Any]:
        wins = int((members & (seen.right > self._old)).sum())
        losses = int((members & (seen.right < self._old)).sum())
        bound = lower_bound(wins, wins + losses)
        precise = lower_bound(int(seen.right[members].sum()), int(members.sum()))
        enough = self._least is None or precise >= self._least
        return {
            "audited": int(members.sum()), "fixed": wins, "broken": losses,
            "better_than_old_low": round(bound, 4), "precision_low": round(precise, 4),
            "applied": bool(bound > 0.5 and enough),
        }  # fmt: skip


def _groups(given: Targets, labels: Targets, classes: int) -> NDArray[np.int64]:
    """(rows,) the group of each change of a label, -1 where nothing changes or none was."""
    changed = given.known & labels.known & (given.matrix != labels.matrix).any(axis=1)
    group = labels.matrix.argmax(axis=1) if given.exclusive else np.full(len(changed), classes)
    return np.where(changed, group, -1)
