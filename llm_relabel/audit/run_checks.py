"""A run's spot-checks: which of them decide a round, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from llm_relabel.agreement.intervals import TOO_FEW
from llm_relabel.audit.candidates import AuditEvidence
from llm_relabel.audit.certificate import certify
from llm_relabel.audit.checks import Audits, make_audits
from llm_relabel.audit.choosing import Choice, choose
from llm_relabel.prepared import Prepared
from llm_relabel.review import DrawnItem, SpotCheck
from llm_relabel.units import Labels, LabelValue

COUNTS = ("answered", "unsure", "drawn_at_random", "unanswered")


@dataclass(frozen=True)
class SpotCheckFacts:
    """What is told of one round's spot-checks, all of them counts of items.

    `note` says why they chose nothing; otherwise there is the `policy` that they chose, what each
    one's labels are estimated at (0..1), p of the test against keeping all labels, each group of
    changes at the gate, how many changes are `held_back`, and the certificate of what is written.
    """

    answered: int
    unsure: int
    drawn_at_random: int
    unanswered: int
    note: str | None = None
    policy: str | None = None
    estimates: Mapping[str, float] = field(default_factory=dict)
    p_against_keeping: float | None = None
    gate: Sequence[Mapping[str, Any]] = ()
    held_back: int = 0
    certificate: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As `summary.json` has it: without what is not known."""
        found = asdict(self)
        if self.policy is None:
            return {name: value for name, value in found.items() if value or name in COUNTS}
        found.pop("note")
        return found


@dataclass(frozen=True)
class Audited:
    """What people make of one round. `people` are their labels by row, final whatever else is
    said; `choice` is None where too few were drawn at random to choose by, `audits` likewise."""

    people: Mapping[int, LabelValue]
    choice: Choice | None
    facts: SpotCheckFacts
    audits: Audits | None = None

    def certified(self) -> Labels | None:
        """The labels that the certificate is of."""
        if self.choice is None:
            return None
        labels = self.choice.labels.copy()
        for row, label in self.people.items():
            labels[row] = label
        return labels

    def against(self, before: Audited) -> tuple[float, float] | None:
        """The audited accuracy of the round `before` and of this one, on the audits of both.

        No audit has its part in learning the labels that it judges, but all have it in the gate
        of both rounds: without itself, one can close a gate that just passed. None without audits.
        """
        if None in (self.choice, before.choice) or self.audits is None or before.audits is None:
            return None
        assert self.choice is not None
        assert before.choice is not None
        right_before = dict(
            zip(before.audits.rows.tolist(), before.choice.right_as_chosen, strict=True)
        )
        places = [n for n, row in enumerate(self.audits.rows.tolist()) if row in right_before]
        if not places:
            return None
        weights = self.audits.weights[places]
        then = [right_before[row] for row in self.audits.rows[places].tolist()]
        return (
            float(np.average(then, weights=weights)),
            float(np.average(self.choice.right_as_chosen[places], weights=weights)),
        )


def decide_by(
    checks: list[SpotCheck], unanswered: list[DrawnItem], number: int, prepared: Prepared,
    evidence: AuditEvidence,
) -> Audited | None:  # fmt: skip
    """Choose policy and changes of round `number` by the spot-checks that were drawn by then.

    None where there are none. `unanswered` were drawn too. Items that were chosen for their
    conflicts give their own labels and say nothing of other rows; so do answers that were not
    blind.
    """
    usable = [check for check in checks if check.round <= number and check.answer is not None]
    if not usable:
        return None
    row_of, section = prepared.row_of, prepared.job.decide
    people = {row_of[check.id]: check.answer for check in usable}
    drawn = [
        check
        for check in checks
        if check.round <= number and check.inclusion_probability is not None and check.blind
    ]
    left = [item for item in unanswered if item.round <= number]
    answered = sum(check.answer is not None for check in drawn)
    facts = SpotCheckFacts(
        answered=len(usable),
        unsure=sum(check.answer is None and check.round <= number for check in checks),
        drawn_at_random=answered,
        unanswered=len(left),
    )
    if answered < TOO_FEW:
        note = (
            f"fewer than {TOO_FEW} spot-checks were drawn at random: they choose no policy and "
            "certify nothing"
        )
        return Audited(people, None, replace(facts, note=note))
    audits: Audits = make_audits(
        [row_of[check.id] for check in drawn],
        [check.answer for check in drawn],
        # Rows of one stratum that further draws gave different chances stand for different numbers.
        [_cell(check) for check in drawn],
        [_cell(item) for item in left],
    )
    choice = choose(
        evidence, audits, policy=section.policy, min_precision=section.min_precision,
        gated=prepared.task.proves_changes or section.min_precision is not None,
        seed=prepared.job.seed,
    )  # fmt: skip
    facts = replace(
        facts,
        policy=choice.policy,
        estimates={name: round(value, 4) for name, value in choice.estimates.items()},
        p_against_keeping=choice.p,
        gate=choice.gate,
        held_back=int(choice.rejected.sum() - choice.rejected[list(people)].sum()),
        certificate=certify(
            audits, choice, int((~prepared.dataset.locked).sum()), seed=prepared.job.seed
        ),
    )
    return Audited(people, choice, facts, audits)


def _cell(drawn: SpotCheck | DrawnItem) -> tuple[str | None, float]:
    """A stratum and the chance that its rows were drawn with."""
    return drawn.stratum, round(drawn.inclusion_probability or 1.0, 9)
