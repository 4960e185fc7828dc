"""Several verdicts on one item become one opinion; each verdict stays apart in the journal.

Within a wave (the first judge, its samples, the panel) every verdict that came is one vote, an
abstention too; a label wins with more votes than anything else, and a tie is an abstention. A
later wave outranks an earlier one: it was asked because that one was not sure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_relabel.records import AbstainOrFailure, Ask, LabelIssue, Outcome, Verdict
from llm_relabel.tasks import Task, assembled, units_between, whole_item
from llm_relabel.units import LabelValue, hashable, label_json


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the judges together say of one item.

    `answer` is a label as JSON. `confidence` in 0..1 is the mean that the winning votes state,
    times their share of all votes; None where none states any and nobody else voted.
    """

    outcome: Outcome
    answer: Any
    confidence: float | None
    rationale: str
    reason: AbstainOrFailure | None
    error: str | None
    ask_ids: tuple[str, ...]
    judges: tuple[str, ...]
    prompt_sha256: str | None


Answered = tuple[Ask, Verdict]


def combine(task: Task, issue: LabelIssue, asked: Sequence[Answered]) -> Opinion:
    """The opinion from all verdicts on one issue, at least one."""
    waves = sorted({ask.wave for ask, _ in asked}, reverse=True)
    for wave in waves:
        votes = [(a, v) for a, v in asked if a.wave == wave and v.outcome != "failed"]
        if votes:
            return _of_wave(task, issue, votes, asked)
    return _opinion(asked[-1][1], asked)


def combine_votes(task: Task, verdicts: Sequence[Verdict]) -> tuple[LabelValue, float | None]:
    """One judge's several verdicts on one item as one: label (None: silent) and confidence.

    The label that most of the answers name, the earlier one at a tie; the mean confidence that
    is stated for it, times its share of the answers.
    """
    answers = [verdict for verdict in verdicts if verdict.outcome == "answer"]
    if not answers:
        return None, None
    counts = Counter(hashable(verdict.answer) for verdict in answers)
    winner = counts.most_common(1)[0][0]
    theirs = [verdict for verdict in answers if hashable(verdict.answer) == winner]
    stated = [verdict.confidence for verdict in theirs if verdict.confidence is not None]
    belief = sum(stated) / len(stated) * counts[winner] / len(answers) if stated else None
    return task.check(theirs[0].answer), belief


def is_unsure(opinion: Opinion, below: float) -> bool:
    """Whether a further judge should be asked.

    Not after a lost connection: that ask is put again, and the wave is not complete.
    """
    if opinion.outcome == "failed":
        return opinion.reason != "transport"
    if opinion.outcome == "abstain":
        return True
    return opinion.confidence is None or opinion.confidence < below


def _of_wave(
    task: Task, issue: LabelIssue, votes: Sequence[Answered], asked: Sequence[Answered]
) -> Opinion:
    if len(votes) == 1:
        return _opinion(votes[0][1], asked)
    answers = [(ask, verdict) for ask, verdict in votes if verdict.outcome == "answer"]
    if 2 * len(answers) <= len(votes):
        silent = next(verdict for _, verdict in votes if verdict.outcome == "abstain")
        return _opinion(silent, asked)
    winner = _vote(task, issue, [verdict.answer for _, verdict in answers], len(votes))
    if winner is None:
        told = Counter(str(verdict.answer) for _, verdict in answers).most_common()
        shown = ", ".join(f"{label} {count}" for label, count in told)
        return _opinion(votes[0][1], asked, outcome="abstain", answer=None, reason="unsure",
                        confidence=None, rationale=f"the judges disagree: {shown}")  # fmt: skip
    for_it = [verdict for _, verdict in answers if verdict.answer == winner]
    stated = [v.confidence for v in for_it if v.confidence is not None]
    belief = sum(stated) / len(stated) if stated else 1.0
    share = len(for_it) / len(votes)
    spokesman = for_it[0] if for_it else answers[0][1]
    return _opinion(spokesman, asked, answer=winner, confidence=belief * share)


def _vote(task: Task, issue: LabelIssue, answers: Sequence[Any], voters: int) -> Any:
    """The label that wins, as JSON; None for a tie. Units that can be decided apart are."""
    by_unit: dict[str, list[Any]] = {}
    old_of: dict[str, Any] = {}
    for answer in answers:
        label, old = task.check(answer), issue.current_label
        for unit in units_between(task, issue.given_label, old, label, issue.predicted_label):
            by_unit.setdefault(unit.key, []).append(unit.answered)
            old_of[unit.key] = unit.old
    whole = whole_item(task)
    if len(by_unit) > 1:
        by_unit.pop(whole, None)  # said by those who change nothing
    decided: dict[str, Any] = {}
    for key, told in by_unit.items():
        # Who does not mention a unit leaves it as it was.
        values = told + [old_of[key]] * (len(answers) - len(told))
        ranked = Counter(map(hashable, values)).most_common(2)
        tie = len(ranked) > 1 and ranked[0][1] == ranked[1][1]
        outvoted = ranked[0][1] <= voters - len(answers)
        if tie or outvoted:
            if key == whole:
                return None
            decided[key] = old_of[key]
        else:
            decided[key] = next(v for v in values if hashable(v) == ranked[0][0])
    return label_json(assembled(task, issue.current_label, decided))


def _opinion(verdict: Verdict, asked: Sequence[Answered], **changed: Any) -> Opinion:
    """The opinion that one verdict stands for, all asks named; `changed` fields win."""
    fields: dict[str, Any] = {
        "outcome": verdict.outcome,
        "answer": verdict.answer,
        "confidence": verdict.confidence,
        "rationale": verdict.rationale,
        "reason": verdict.reason,
        "error": verdict.error,
        "ask_ids": tuple(ask.ask_id for ask, _ in asked),
        "judges": tuple(dict.fromkeys(ask.judge for ask, _ in asked)),
        "prompt_sha256": verdict.prompt_sha256,
        **changed,
    }
    return Opinion(**fields)
