"""What will be asked, wave by wave: which issue, of which judge, how often.

A wave is planned from completed waves only, so neither the order in which verdicts arrive nor
a kill changes what is asked. An ask's id follows from what is asked, so that a resumed run
knows what was answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llm_relabel.evidence.predicted import Predicted
from llm_relabel.prepared import Prepared
from llm_relabel.prompts.candidates import choose_candidates
from llm_relabel.records import Ask, ControlKind, Evidence, LabelIssue, Purpose
from llm_relabel.rounds.controls import ControlPool, with_controls
from llm_relabel.units import LabelValue, label_json


@dataclass(frozen=True)
class AskPlanner:
    """Plans the asks of one round.

    `states` holds, for each judge whose verdicts depend on the round's labels, what names them.
    """

    prepared: Prepared
    number: int
    predicted: Predicted
    states: dict[str, str] = field(default_factory=dict)

    def first_wave(
        self, issues: Sequence[LabelIssue], pool: ControlPool | None = None
    ) -> list[Ask]:
        """For each issue, in their order: the first judge, its samples, the panel.

        Among them, at random places, the job's share of controls from the `pool`, if any.
        """
        names = self.prepared.job.judge.member_names
        asks = [ask for issue in issues for ask in self._first_asks(issue, names)]
        return asks if pool is None else with_controls(asks, self, pool)

    def escalation(self, issues: Sequence[LabelIssue], step: int) -> list[Ask]:
        """The asks of the escalation's judge number `step`, from 0, in a wave of their own."""
        section = self.prepared.job.judge
        judge = section.member_names[1 + len(section.panel) + step]
        return [
            self.ask(issue, judge=judge, purpose="escalation", wave=step + 1) for issue in issues
        ]

    def ask(
        self,
        issue: LabelIssue,
        *,
        judge: str,
        purpose: Purpose,
        repeat: int = 0,
        wave: int = 0,
        candidates: tuple[LabelValue, ...] | None = None,
        evidence: Evidence | None = None,
        control: ControlKind | None = None,
        control_label: LabelValue = None,
    ) -> Ask:
        """One ask. Its candidates are shuffled anew for each sample, and shown to all judges.

        `evidence` None: as the job has it.
        """
        job = self.prepared.job
        evidence = evidence or job.judge.evidence
        if evidence == "blind":
            candidates = ()
        elif candidates is None:
            runner_up = self.predicted.runner_up(issue.row)
            shuffle = repeat if purpose == "sample" else 0
            candidates = choose_candidates(
                issue, runner_up=runner_up, seed=job.seed, shuffle=shuffle
            )
        state = self.states.get(judge, "")
        shown = [label_json(label) for label in candidates]
        asked = [self.number, issue.id, evidence, shown, judge, state]
        asked += [purpose, repeat, wave, control]
        return Ask(
            ask_id=hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:20],
            id=issue.id,
            row=issue.row,
            purpose=purpose,
            evidence=evidence,
            candidates=candidates,
            judge=judge,
            repeat=repeat,
            wave=wave,
            control=control,
            control_label=control_label,
        )

    def _first_asks(self, issue: LabelIssue, names: Sequence[str]) -> Iterator[Ask]:
        section = self.prepared.job.judge
        yield self.ask(issue, judge=names[0], purpose="label")
        for repeat in range(1, section.samples):
            yield self.ask(issue, judge=names[0], purpose="sample", repeat=repeat)
        for name in names[1 : 1 + len(section.panel)]:
            yield self.ask(issue, judge=name, purpose="panel")
