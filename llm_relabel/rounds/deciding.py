"""One round's deciding: opinions and beliefs become decisions, decisions the current labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llm_relabel.audit import Audited
from llm_relabel.evidence import policies
from llm_relabel.evidence.beliefs import Beliefs
from llm_relabel.evidence.opinions import Opinion
from llm_relabel.prepared import Prepared
from llm_relabel.records import Change, Decision, LabelIssue
from llm_relabel.rounds.tally import RoundTally, SourceFacts
from llm_relabel.tasks import Task, is_one_choice
from llm_relabel.units import Labels, LabelValue, differs, has_label

HELD_BACK_THIN = "held back, the evidence is too thin: "
VANISHES = HELD_BACK_THIN + "no item would have this label any more"
STOOD_BY = (
    "the small model predicted this label before any was repaired, and the embedded judge sees "
    "only what that model sees"
)
BEYOND = ("drawn", "extended")
# Items of a label that must not all lose it without a person's look.
FEWEST_OF_A_LABEL = 3
HELD_BACK = "held back: the spot-checks do not prove that such changes do more good than harm"


@dataclass
class Decided:
    """What one round decided. `changes` are to be logged; `at_odds` (rows,) marks rows whose
    judges were silent, or one of them or all evidence contradicts the label that they have now."""

    decisions: list[Decision] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    by_item: list[tuple[list[Decision], Opinion | None]] = field(default_factory=list)
    judged: list[LabelIssue] = field(default_factory=list)
    at_odds: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    sources: SourceFacts | None = None
    frozen: int = 0

    def counted(self, tally: RoundTally) -> RoundTally:
        """The tally with the round's counts."""
        actions: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for decisions, opinion in self.by_item:
            actions[policies.item_action(decisions) if opinion is not None else "revised"] += 1
            if opinion is not None and opinion.reason is not None:
                reasons[opinion.reason] += 1
        revised = actions.pop("revised", 0)
        judged = actions.total()
        replaced, abstained = actions.pop("replace", 0), actions.pop("abstain", 0)
        failed = actions.pop("failed", 0)
        beyond = sum(issue.reason in BEYOND for issue in self.judged)
        return replace(
            tally, judged=judged, replaced=replaced, abstained=abstained, failed=failed,
            kept=actions.total(), deferred=tally.flagged - (judged - beyond), revised=revised,
            frozen=self.frozen, reasons=reasons, sources=self.sources,
        )  # fmt: skip


class Deciding:
    """The current labels, and what round after round makes of them."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.current = prepared.given.copy()
        self.policy = policies.resolved_policy(prepared.job)
        # Labels as they were without people's answers on the drawn items. What is flagged and
        # asked comes from these: drawn items must be judged like all others to stand for them.
        self.without_spot_checks = self.current
        self.answered_by_people: set[int] = set()
        self.frozen: set[int] = set()
        # The rows that the model of the given labels doubted.
        self.first_doubted: frozenset[int] = frozenset()
        self._left: dict[int, list[LabelValue]] = {}

    def decide(
        self,
        number: int,
        issues: Sequence[LabelIssue],
        opinions: Mapping[str, Opinion],
        beliefs: Beliefs,
        audited: Audited | None = None,
    ) -> Decided:
        """Decide the judged `issues` of round `number`, and under `fuse` every other open row.

        An issue without an opinion waits for its verdict. Where spot-checks chose, their choice
        decides every row, also against what an earlier round changed; a person's own answer is
        final.
        """
        task, decided = self._prepared.task, Decided()
        choice = audited.choice if audited is not None else None
        self._applied = choice.policy if choice is not None else self.policy
        # The evidence on frozen rows contradicts itself; they stay as they are.
        closed = set(self.frozen) | {issue.row for issue in issues}
        people = dict(audited.people) if audited is not None else {}
        closed |= set(people)
        labels = beliefs.labels if choice is None else choice.labels
        fused = self.policy == "fuse" or choice is not None
        held_back = choice.rejected if choice is not None else np.zeros_like(beliefs.judged)
        believed = beliefs.belief_in(labels)
        proposals = list[tuple[LabelIssue, list[Decision], Opinion]]()
        for issue in issues:
            opinion = opinions.get(issue.id)
            if opinion is None:
                continue
            if issue.row in people:
                mended = replace(issue, current_label=self.current[issue.row])
                decisions = _as_people_say(mended, opinion, task, people.pop(issue.row))
                proposals.append((mended, decisions, opinion))
                continue
            if choice is None and (thin := self._too_thin(issue, opinion, beliefs)):
                decisions = self._kept(issue, opinion, believed, thin)
            elif choice is None and number > 1 and self._stood_by(issue, opinion):
                decisions = self._kept(issue, opinion, believed, STOOD_BY)
            elif fused and (_is_open(opinion) or choice is not None):
                decisions = policies.decide_fused(
                    issue, opinion, task, labels[issue.row], float(believed[issue.row])
                )
                if held_back[issue.row]:
                    decisions = _because(HELD_BACK, decisions)
            else:
                decisions = policies.decide(issue, opinion, task, self.policy)
            proposals.append((issue, decisions, opinion))
        emptied = self._emptied([(issue, made) for issue, made, _ in proposals])
        for issue, decisions, opinion in proposals:
            own = decisions
            if choice is None and self._leaves(issue, decisions, emptied):
                own = self._kept(issue, opinion, believed, VANISHES)
            self._enter(number, issue, own, opinion, decided)
        if fused:
            may = beliefs.judged & ~beliefs.silent | ~has_label(self.current)
            if choice is not None:
                may = np.ones_like(may)
            self._revise(number, labels, may, believed, closed, held_back, decided)
        self._hear(number, people, decided)
        self._set_apart(audited)
        decided.frozen = len(self.frozen)
        overruled = beliefs.overruled(self.current)
        decided.at_odds = beliefs.silent | (
            beliefs.judged & (overruled | differs(self.current, beliefs.labels))
        )
        decided.sources = SourceFacts(
            accuracy_believed={name: round(a, 4) for name, a in beliefs.accuracy.items()},
            model_weight=round(beliefs.model_weight, 3),
            believed_before=_mean(beliefs.belief_in(self._prepared.given)),
            believed_after=_mean(beliefs.belief_in(self.current)),
            view=beliefs.view,
            lean=None if beliefs.lean is None else round(beliefs.lean, 3),
            doubts=tuple(beliefs.warnings),
            spot_checks=audited.facts if audited is not None else None,
        )
        return decided

    def _too_thin(self, issue: LabelIssue, opinion: Opinion, beliefs: Beliefs) -> str | None:
        """Why this item's label is not changed, whatever was answered; None: it may be."""
        if opinion.outcome != "answer" or self.policy == "replace":
            return None
        # A row without a label has nothing to be kept: under `fuse` the small model fills it.
        if beliefs.silent[issue.row] and (issue.current_label is not None or self.policy != "fuse"):
            return HELD_BACK_THIN + "its judge gives everybody the same answer"
        if self.policy == "agree" and beliefs.too_thin is not None:
            return HELD_BACK_THIN + beliefs.too_thin
        return None

    def _stood_by(self, issue: LabelIssue, opinion: Opinion) -> bool:
        """Whether a later round's agreement of model and `embedded` judge is no reason to change.

        Both learn from the repaired labels, so they agree with each other more than they are
        right. Where the model of the given labels predicted the label, that and the label itself
        are two older witnesses: of such changes two thirds were wrong on banking77's intents
        outside the demo and on TREC-6, while rows doubted from the start go on gaining.
        """
        same = self.policy == "agree" and self._prepared.job.judge.provider == "embedded"
        return same and opinion.outcome == "answer" and issue.row not in self.first_doubted

    def _kept(
        self, issue: LabelIssue, opinion: Opinion, believed: NDArray[np.float32], why: str
    ) -> list[Decision]:
        belief = float(believed[issue.row])
        task, label = self._prepared.task, issue.current_label
        return _because(why, policies.decide_fused(issue, opinion, task, label, belief))

    def _emptied(self, proposed: Sequence[tuple[LabelIssue, list[Decision]]]) -> set[LabelValue]:
        """The labels that some rows have now and none would have after what is proposed."""
        task = self._prepared.task
        if not is_one_choice(task):
            return set()
        left: Counter[LabelValue] = Counter(self.current[has_label(self.current)].tolist())
        some = {label for label, count in left.items() if count >= FEWEST_OF_A_LABEL}
        for issue, decisions in proposed:
            old = self.current[issue.row]
            left[old] -= 1
            left[policies.new_label(task, old, decisions)] += 1
        return {label for label in some if left[label] <= 0}

    def _leaves(
        self, issue: LabelIssue, decisions: list[Decision], emptied: set[LabelValue]
    ) -> bool:
        """Whether a judged item's change takes it out of a label that would be empty then."""
        changes = any(each.action == "replace" and each.source != "human" for each in decisions)
        return changes and issue.current_label in emptied and self.policy != "replace"

    def _set_apart(self, audited: Audited | None) -> None:
        """Take people's answers on drawn items out of what later rounds flag and ask by; all
        others that people answered are not asked about again."""
        self.without_spot_checks, self.answered_by_people = self.current, set()
        if audited is None:
            return
        drawn = list[int]() if audited.audits is None else audited.audits.rows.tolist()
        self.answered_by_people = set(audited.people) - set(drawn)
        if audited.choice is not None:
            self.without_spot_checks = self.current.copy()
            self.without_spot_checks[drawn] = audited.choice.without_spot_checks

    def _hear(self, number: int, people: Mapping[int, LabelValue], decided: Decided) -> None:
        """What people answered outranks everything and is final."""
        task = self._prepared.task
        for row, label in people.items():
            current = self.current[row]
            if label == current:
                continue
            issue = self._as_issue(row, current, label)
            decisions = _as_people_say(issue, None, task, label)
            self._enter(number, issue, decisions, None, decided)

    def _as_issue(self, row: int, current: LabelValue, label: LabelValue) -> LabelIssue:
        """A row that was not flagged, in the form that decisions are made from."""
        prepared = self._prepared
        return LabelIssue(
            row=row, id=prepared.dataset.ids[row].as_py(),
            given_label=prepared.given[row], current_label=current,
            predicted_label=label, label_quality=0.0, reason="low_quality",
        )  # fmt: skip

    def _revise(
        self,
        number: int,
        labels: Labels,
        may: NDArray[np.bool_],
        belief: NDArray[np.float32],
        closed: set[int],
        held_back: NDArray[np.bool_],
        decided: Decided,
    ) -> None:
        """Rows that were judged in an earlier round, or have no label, take what all now say.

        A labeled row that no judge saw keeps its label: the small model alone changes nothing.
        """
        task = self._prepared.task
        moved = differs(self.current, labels) & ~self._prepared.dataset.locked & may
        moved[list(closed)] = False
        for row in np.flatnonzero(moved).tolist():
            current, label = self.current[row], labels[row]
            issue = self._as_issue(row, current, label)
            decisions = policies.decide_fused(issue, None, task, label, float(belief[row]))
            if held_back[row]:
                decisions = _because(HELD_BACK, decisions)
            elif self._applied != self.policy:
                chose = f"the spot-checks chose the policy `{self._applied}`"
                decisions = _because(f"{chose} ({decisions[0].why})", decisions)
            self._enter(number, issue, decisions, None, decided)

    def _enter(
        self,
        number: int,
        issue: LabelIssue,
        decisions: list[Decision],
        opinion: Opinion | None,
        decided: Decided,
    ) -> None:
        task = self._prepared.task
        decided.decisions += decisions
        if opinion is not None:
            decided.judged.append(issue)
        decided.by_item.append((decisions, opinion))
        label = policies.new_label(task, issue.current_label, decisions)
        if label == issue.current_label:
            return
        self._move(issue, label, by_people=decisions[0].source == "human")
        decided.changes += [
            self._change(number, decision, opinion)
            for decision in decisions
            if decision.action == "replace"
        ]

    def _move(self, issue: LabelIssue, label: LabelValue, *, by_people: bool) -> None:
        """Set a row's current label; a row that comes back to a label it had left is frozen.

        The evidence on such a row contradicts itself, unless people brought it back. It stays at
        the label it came back to.
        """
        left = self._left.setdefault(issue.row, [])
        left.append(issue.current_label)
        if label in left and not by_people:
            self.frozen.add(issue.row)
        self.current[issue.row] = label

    def _change(self, number: int, decision: Decision, opinion: Opinion | None) -> Change:
        return Change(
            id=decision.id,
            unit=decision.unit,
            round=number,
            old=decision.old,
            new=decision.new,
            source=decision.source,
            why=decision.why,
            ask_ids=decision.ask_ids,
            judge=" + ".join(opinion.judges) if opinion is not None else None,
            prompt_sha256=opinion.prompt_sha256 if opinion is not None else None,
            definitions_sha256=self._prepared.definitions.sha256(),
            policy=self._applied,
        )


def _as_people_say(
    issue: LabelIssue, opinion: Opinion | None, task: Task, label: LabelValue
) -> list[Decision]:
    """A person's answer outranks what all others say."""
    return [
        replace(decision, source="human", why="a person answered so, blind")
        for decision in policies.decide_fused(issue, opinion, task, label, 1.0)
    ]


def _mean(belief: NDArray[np.float32]) -> float:
    return round(float(belief.mean()), 4) if len(belief) else 0.0


def _because(why: str, decisions: list[Decision]) -> list[Decision]:
    return [replace(each, why=why) for each in decisions]


def _is_open(opinion: Opinion) -> bool:
    """Whether the evidence may decide: a judge that abstained or failed keeps the label."""
    return opinion.outcome == "answer" or opinion.reason == "not_recorded"
