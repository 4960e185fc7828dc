"""Which policy, by the audits; and which of its changes are proved to do more good than harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement.intervals import lower_bounds
from llm_relabel.agreement.paired import mcnemar
from llm_relabel.audit.candidates import AuditEvidence
from llm_relabel.audit.checks import FOLDS, Audits, Values
from llm_relabel.measure import Measure
from llm_relabel.tasks import is_one_choice
from llm_relabel.units import Labels, differs, has_label

# Audited changes that fixed or broke a label, from which on a class is judged by itself; changes
# from wrong to wrong say nothing of which label is better.
FEWEST_OF_A_CLASS = 20

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """What the audits chose. `labels` are final, `rejected` (rows,) marks changes held back.

    `estimates` is each policy's measure (accuracy, ...) on all rows, cross-fitted and gated; `p` is
    McNemar's exact p-value of the chosen policy against keeping the given labels; `gate` says for
    each group of changes what the audits showed. `right` (n,) is whether each audit found the label
    right that the same procedure gave without that audit: it certifies. `right_as_chosen` (n,)
    lets each audit have its part in the choice and the gate. `without_spot_checks` (n,) are
    the labels that the audited rows would have if people had not answered on them.
    """

    policy: str
    labels: Labels
    rejected: Mask
    estimates: Mapping[str, float]
    p: float
    gate: list[dict[str, Any]]
    right: Values
    right_as_chosen: Values
    without_spot_checks: Labels


@dataclass(frozen=True)
class _Old:
    """(n,) whether the given labels of the audits are right, and how near they are to the truth."""

    right: Values
    score: Values


@dataclass(frozen=True)
class _Seen:
    """One policy as the audits see it, learned without each audit: its label, whether that is
    right, how near it is to the truth, and the group of its change, -1 where nothing changes. All
    of n rows."""

    labels: Labels
    right: Values
    score: Values
    group: NDArray[np.int64]


def choose(
    evidence: AuditEvidence, audits: Audits, *, policy: str = "auto",
    min_precision: float | None = None, gated: bool = True, seed: int = 0,
) -> Choice:  # fmt: skip
    """Choose among all policies (`auto`) or gate one of them, by cross-fitted audits."""
    task, given = evidence.task, evidence.given
    old = _Old(audits.right(given), audits.score(given, task.measure))
    seen = _cross_fitted(evidence, audits, seed)
    names = [policy] if policy != "auto" else list(seen)
    gate = _Gate(task.names, old, min_precision, gated=gated)
    open_ = {name: gate.passes(seen[name]) for name in names}
    with_all = {name: _gated(seen[name], open_[name], old.right) for name in names}
    scores = {name: _gated_score(seen[name], open_[name], old.score) for name in names}
    estimates = {
        name: audits.mean(with_all[name])
        if task.measure.proportion
        else _measured(audits, task.measure, _applied(seen[name], open_[name], given, audits))
        for name in names
    }
    near = {name: audits.mean(score) for name, score in scores.items()}
    final = max(names, key=lambda name: near[name])
    everyone = np.ones(len(audits), dtype=np.bool_)
    labels = evidence.candidates(audits.people(everyone))[final]
    group = _groups(evidence, labels)
    rejected = (group >= 0) & ~gate.passes(seen[final])[group]
    labels = np.where(rejected, given, labels)
    right = with_all[final]
    return Choice(
        policy=final,
        labels=labels,
        rejected=rejected,
        estimates=estimates,
        p=mcnemar(int((scores[final] > old.score).sum()), int((scores[final] < old.score).sum())),
        gate=gate.told(seen[final]) if gated else [],
        right=_without_itself(audits, gate, [seen[name] for name in names], old),
        right_as_chosen=right,
        without_spot_checks=_applied(seen[final], gate.passes(seen[final]), given, audits),
    )


def _without_itself(audits: Audits, gate: _Gate, policies: Sequence[_Seen], old: _Old) -> Values:
    """(n,) whether each audit's label is right where the other audits choose and gate.

    Without one audit only the gate of its own group and the mean of its own stratum can be other
    than with all, so each policy has few different gates, and every mean is a sum less one.
    """
    best, found = np.full(len(audits), -np.inf), np.zeros(len(audits))
    places = np.arange(len(audits))
    for seen in policies:
        patterns, which = np.unique(gate.passes_without_each(seen), axis=0, return_inverse=True)
        right = np.stack([_gated(seen, passes, old.right) for passes in patterns])
        score = np.stack([_gated_score(seen, passes, old.score) for passes in patterns])
        mean = audits.means_without_each(score, which.reshape(-1))
        better = mean > best
        best[better] = mean[better]
        found[better] = right[which.reshape(-1), places][better]
    return found


def _gated(seen: _Seen, passes: Mask, old: Values) -> Values:
    """(n,) whether the label is right that the gate leaves."""
    return np.where((seen.group < 0) | passes[seen.group], seen.right, old)


def _gated_score(seen: _Seen, passes: Mask, old: Values) -> Values:
    """(n,) how near the label is to the truth that the gate leaves."""
    return np.where((seen.group < 0) | passes[seen.group], seen.score, old)


def _applied(seen: _Seen, passes: Mask, given: Labels, audits: Audits) -> Labels:
    """The labels of the audited rows that the gate leaves, learned without each."""
    applied = (seen.group < 0) | passes[seen.group]
    return np.where(applied, seen.labels, given[audits.rows])


def _measured(audits: Audits, measure: Measure, labels: Labels) -> float:
    """The task's measure of the audited rows' labels, each standing for as many rows as it does."""
    counts = measure.counts(labels, audits.truth)
    return float(measure.value(audits.weights @ counts))


def _cross_fitted(evidence: AuditEvidence, audits: Audits, seed: int) -> dict[str, _Seen]:
    """Every policy at the audited rows, each row's labels learned from the other folds."""
    folds, rows = audits.folds(seed), audits.rows
    seen: dict[str, _Seen] = {}
    for fold in range(FOLDS):
        held = folds == fold
        for name, labels in evidence.candidates(audits.people(~held)).items():
            each = seen.setdefault(name, _nothing_seen(evidence.given, audits))
            each.labels[held] = labels[rows[held]]
            each.right[held] = audits.right(labels)[held]
            each.score[held] = audits.score(labels, evidence.task.measure)[held]
            each.group[held] = _groups(evidence, labels)[rows[held]]
    return seen


def _nothing_seen(given: Labels, audits: Audits) -> _Seen:
    rows = audits.rows
    nothing = np.zeros(len(rows))
    return _Seen(given[rows], nothing, nothing.copy(), np.full(len(rows), -1, dtype=np.int64))


class _Gate:
    """Which groups of changes are proved.

    A group is the changes to one label (where items have several units: all changes together). It
    passes where the one-sided 95% bound of P(new nearer to the truth | one of old and new is
    nearer) is above a half; where labels are right or wrong, that is P(new right | exactly one of
    the two is right). It goes by its own audits where there are enough, otherwise by those of all
    changes. With `min_precision` the bound of P(new right) must reach that, too. A label where none
    was cannot do harm, and is in no group.
    """

    def __init__(
        self, names: Sequence[str], old: _Old, min_precision: float | None, *, gated: bool
    ) -> None:
        self._names = names
        self._old = old
        self._least = min_precision
        self._gated = gated

    def passes(self, seen: _Seen) -> Mask:
        """(classes + 1,) by group; the last is that of items of several units."""
        return self._decided(self._counts(seen))

    def passes_without_each(self, seen: _Seen) -> Mask:
        """(n, classes + 1): `passes` as it would be without each audit."""
        counts = np.repeat(self._counts(seen)[None], len(seen.group), axis=0)
        changed = np.flatnonzero(seen.group >= 0)
        counts[changed, seen.group[changed]] -= self._kinds(seen)[changed]
        return self._decided(counts)

    def told(self, seen: _Seen) -> list[dict[str, Any]]:
        """What the audits showed of each group that is judged by itself, and of all changes."""
        counts = self._counts(seen)
        own = np.flatnonzero(_decisive(counts)[:-1] >= FEWEST_OF_A_CLASS).tolist()
        groups = [(self._names[group], counts[group]) for group in own]
        return [self._told(name, each) for name, each in [*groups, ("any label", counts.sum(0))]]

    def _kinds(self, seen: _Seen) -> NDArray[np.int64]:
        """(n, 4): each audit as one of: audited, right now, nearer to the truth, further off."""
        right, score, old = seen.right, seen.score, self._old.score
        each = [np.ones_like(right), right, score > old, score < old]
        return np.stack(each, axis=1).astype(int)

    def _counts(self, seen: _Seen) -> NDArray[np.int64]:
        """(groups, 4): the sums of `_kinds` over each group's changes."""
        found = np.zeros((len(self._names) + 1, 4), dtype=np.int64)
        changed = seen.group >= 0
        np.add.at(found, seen.group[changed], self._kinds(seen)[changed])
        return found

    def _decided(self, counts: NDArray[np.int64]) -> Mask:
        """(..., groups): which groups pass, from (..., groups, 4) counts."""
        if not self._gated:
            return np.ones(counts.shape[:-1], dtype=np.bool_)
        pooled = self._proved(counts.sum(axis=-2))
        own = _decisive(counts) >= FEWEST_OF_A_CLASS
        own[..., -1] = False
        return np.where(own, self._proved(counts), pooled[..., None])

    def _proved(self, counts: NDArray[np.int64]) -> Mask:
        audited, right, fixed, broken = np.moveaxis(counts, -1, 0)
        proved = lower_bounds(fixed, fixed + broken) > 0.5
        if self._least is not None:
            proved &= lower_bounds(right, audited) >= self._least
        return proved

    def _told(self, name: str, counts: NDArray[np.int64]) -> dict[str, Any]:
        audited, right, fixed, broken = counts.tolist()
        return {
            "changes_to": name, "audited": audited, "fixed": fixed, "broken": broken,
            "better_than_old_low": round(float(lower_bounds(fixed, fixed + broken)), 4),
            "precision_low": round(float(lower_bounds(right, audited)), 4),
            "applied": bool(self._proved(counts)),
        }  # fmt: skip


def _decisive(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., groups): changes of which exactly one of old and new label is right."""
    return np.asarray(counts[..., 2] + counts[..., 3])


def _groups(evidence: AuditEvidence, labels: Labels) -> NDArray[np.int64]:
    """(rows,) the group of each change of a label, -1 where nothing changes or none was."""
    task, given = evidence.task, evidence.given
    changed = has_label(given) & has_label(labels) & differs(given, labels)
    group = np.full(len(changed), len(task.names))
    if is_one_choice(task):
        group = task.codes(evidence.predicted.units, labels).astype(np.int64)
    return np.where(changed, group, -1)
