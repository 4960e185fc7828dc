"""`plan`: what a run would ask and cost, before it asks or costs anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from llm_relabel.config.job import Job
from llm_relabel.config.judges import PEOPLE
from llm_relabel.engine.projection import (
    SECONDS_A_CALL,
    Calls,
    calls_of,
    messages_of,
)
from llm_relabel.evidence import policies
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.judge.opening import open_judges
from llm_relabel.models.parts.encoder import MAX_TOKENS, MOST_WINDOWS
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.progress import Progress, Relay, Silent
from llm_relabel.prompts.builder import describe_messages
from llm_relabel.prompts.fit import estimated_tokens
from llm_relabel.records import Ask, LabelIssue, Message
from llm_relabel.rounds.allocate import Allocation, budget_left
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.rounds.beyond import drawn_issues, unflagged
from llm_relabel.rounds.controls import ControlPool
from llm_relabel.rounds.flag import flag
from llm_relabel.rounds.train import train
from llm_relabel.spellings import item_keys, text_key

SHOWN = 15
EXTRA = ("sample", "panel", "control")


@dataclass(frozen=True)
class Plan:
    """What a run would ask and cost. Counts are of round 1.

    `flagged` of `rows` are label issues, by `reasons`; `pairs` are (current label, predicted label,
    count) in words, the most frequent first; `kinds` are (kind of error, label, count) where the
    task has them. `asked` items are put to the `judge`, at most in `rounds` rounds; `stopped` says
    why not more. `drawn` of them nobody doubts; they may lead the run on to up to `further` more,
    which cost about as much each. `too_long` items are longer than the judge is shown at once
    (`shown_tokens`), and the small model reads `in_windows` texts in parts; so does the judge if
    `in_passages`.
    `calls` are by judge, those of LLMs only; `all_calls` counts them, of which `extra` by purpose.
    `questions` wait for people, at most where `questions_at_most`. `prompts` are (id, prompt as it
    would be sent); `worst` issues in words where no LLM judges.
    """

    warnings: tuple[str, ...]
    rows: int
    flagged: int
    reasons: Mapping[str, int]
    pairs: tuple[tuple[str, str, int], ...]
    kinds: tuple[tuple[str, str, int], ...]
    judge: str
    asked: int
    drawn: int
    further: int
    rounds: int
    stopped: str | None
    too_long: int
    shown_tokens: int
    in_passages: bool
    in_windows: int
    calls: tuple[Calls, ...]
    all_calls: int
    extra: Mapping[str, int]
    questions: int | None
    questions_at_most: bool
    prompts: tuple[tuple[str, str], ...]
    worst: tuple[str, ...]

    @property
    def cost(self) -> float | None:
        """US dollars of the calls that are sure to come; None where a price is not known."""
        if any(each.cost is None for each in self.calls):
            return None
        return sum((each.cost or 0.0 for each in self.calls if not each.at_most), 0.0)

    @property
    def minutes(self) -> float:
        """Of the slowest judge that is sure to be asked."""
        return max((each.minutes for each in self.calls if not each.at_most), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Everything, with the `cost` and `minutes` of all judges."""
        return {**asdict(self), "cost": self.cost, "minutes": self.minutes}

    def told(self) -> str:
        """The plan as text."""
        reasons = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in self.reasons.items())
        lines = [f"Warning: {warning}" for warning in self.warnings]
        lines.append(
            f"{self.flagged:,} of {self.rows:,} rows are label issues ({reasons or 'none'})."
        )
        if self.kinds:
            lines += ["", "What would be wrong with these labels if the small model were right:"]
            lines += [f"{count:7,}  {kind}: {label}" for kind, label, count in self.kinds]
        elif self.pairs:
            lines += ["", "Most frequent: current label -> predicted label"]
            lines += [f"{count:7,}  {old} -> {new}" for old, new, count in self.pairs]
        lines += [
            "",
            f"Round 1 asks the judge {self.judge} about {self.asked:,} items; at most "
            f"{self.rounds} rounds. Later rounds ask only what is new, usually a small part of "
            "round 1.",
        ]
        if self.stopped is not None:
            lines.append(f"It stops there: {self.stopped}.")
        if self.drawn:
            lines.append(self._beyond())
        if self.too_long:
            how = "asks about them passage by passage" if self.in_passages else "sees head and tail"
            lines.append(
                f"{self.too_long:,} items are longer than judge.max_item_tokens "
                f"({self.shown_tokens:,}): the judge {how}."
            )
        if self.in_windows:
            lines.append(
                f"About {self.in_windows:,} texts are longer than the {MAX_TOKENS} tokens that the "
                f"small model reads at once: it reads them in up to {MOST_WINDOWS} windows, the "
                "head and the tail among them."
            )
        lines += self._projection()
        for item_id, prompt in self.prompts:
            lines += ["", f"--- A prompt, as it would be sent (item {item_id!r}) ---", prompt]
        if self.worst:
            lines += ["", "The worst label issues:", *(f"  {issue}" for issue in self.worst)]
        return "\n".join(lines)

    def _beyond(self) -> str:
        text = (
            f"{self.drawn:,} of these items nobody doubts: they were drawn at random and show what "
            "flagging misses and which side the texts vouch for (detect.sample)."
        )
        if not self.further:
            return text
        money = ""
        if self.cost and self.asked:
            money = f", about ${self.cost * self.further / self.asked:.2f} more"
        return text + (
            f" Where they show that it pays, the run goes on to up to {self.further:,} further "
            f"items{money}, within detect.budget and judge.max_cost (detect.extend)."
        )

    def _projection(self) -> list[str]:
        people = list[str]()
        if self.questions is not None:
            most = "at most " if self.questions_at_most else ""
            end = ", only where the judges before are not sure" if self.questions_at_most else ""
            people.append(
                f"People are asked {most}{self.questions:,} questions on the review page "
                f"(`llm-relabel review serve RUN`); the run pauses for them{end}."
            )
        if not self.calls:
            return ["No LLM is called: no tokens, no money.", *people]
        parts = [f"{count:,} for {purpose}s" for purpose, count in self.extra.items() if count]
        of_them = f" (of them {', '.join(parts)})" if parts else ""
        money = "at a price that is not known" if self.cost is None else f"about ${self.cost:.2f}"
        return [
            f"Together {self.all_calls:,} calls{of_them}, {money}, about {self.minutes:.1f} "
            f"minutes, before escalation and retries; {SECONDS_A_CALL:g} s a call are assumed:",
            *(each.told() for each in self.calls),
            *people,
        ]


def plan_job(job: Job, progress: Progress, *, prompts: int = 0) -> Plan:
    """What a run of the job would ask, with so many sample prompts.

    Raises what `run` would raise before spending: bad data, a missing key, a missing cap.
    """
    prepared = prepare(job)
    judges = open_judges(
        job, prepared.task, prepared.definitions,
        cache=prepared.cache, model=prepared.small_model(Relay()),
    )  # fmt: skip
    allocation = Allocation(prepared)
    issues, predicted = first_issues(prepared, progress=progress)
    policy = policies.resolved_policy(job)
    open_issues = [issue for issue in issues if policies.can_change(policy, issue)]
    open_rows = ~prepared.dataset.locked
    drawn = drawn_issues(prepared, predicted, issues, open_rows)
    chosen = [*allocation.foreseen(open_issues, predicted), *drawn]
    further = 0
    if drawn and job.detect.extend:
        further = len(unflagged(predicted, [*issues, *drawn], open_rows))
        if job.detect.budget is not None:
            left = budget_left(job.detect.budget, len(prepared.dataset), len(chosen))
            further = min(further, max(0, left))
    planner = AskPlanner(prepared, 1, predicted)
    asks = planner.first_wave(chosen, ControlPool(issues, prepared.given))
    first = [ask for ask in asks if ask.purpose == "label"]
    show, is_llm = prepared.task.show, judges.first.is_llm
    task, kinds = prepared.task, Counter[tuple[str, str]]()
    for issue in issues:
        kinds += task.kinds_between(issue.current_label, issue.predicted_label)
    pairs = Counter((show(issue.current_label), show(issue.predicted_label)) for issue in issues)
    llm_asks = [ask for ask in asks if judges[ask.judge].is_llm]
    section = job.judge
    questions = sum(ask.judge == PEOPLE for ask in asks)
    return Plan(
        warnings=(*prepared.warnings, *_flagged_examples(prepared, issues)),
        rows=len(prepared.dataset),
        flagged=len(issues),
        reasons=Counter(issue.reason for issue in issues),
        pairs=tuple((old, new, count) for (old, new), count in pairs.most_common(SHOWN)),
        kinds=tuple((kind, name, count) for (kind, name), count in kinds.most_common(SHOWN)),
        judge=judges.first.name,
        asked=len(first),
        drawn=len(drawn),
        further=further,
        rounds=job.rounds,
        stopped=allocation.stopped["why"] if allocation.stopped else None,
        too_long=_too_long(prepared, chosen),
        shown_tokens=section.max_item_tokens,
        in_passages=prepared.task.label_parts is not None,
        in_windows=_in_windows(prepared),
        calls=tuple(calls_of(prepared, asks, judges, len(chosen))),
        all_calls=len(llm_asks),
        extra={p: sum(ask.purpose == p for ask in llm_asks) for p in EXTRA},
        questions=(questions or len(chosen)) if PEOPLE in section.member_names else None,
        questions_at_most=not questions,
        prompts=tuple(
            (ask.id, describe_messages(parts[0])) for ask, parts in _shown(prepared, first, prompts)
        )
        if is_llm
        else (),
        worst=tuple(_issue_text(prepared, issue) for issue in chosen[:SHOWN])
        if prompts and asks and not is_llm
        else (),
    )


def _shown(
    prepared: Prepared, asks: Sequence[Ask], count: int
) -> list[tuple[Ask, list[tuple[Message, ...]]]]:
    """The first asks whose question can be shown, with it."""
    found = ((ask, messages_of(prepared, ask)) for ask in asks)
    return list(islice(((ask, parts) for ask, parts in found if parts), count))


def _flagged_examples(prepared: Prepared, issues: Sequence[LabelIssue]) -> list[str]:
    """A warning of examples in the definitions that are flagged rows of the data."""
    example_of = {
        text_key(text): (text, name)
        for name, label in prepared.definitions.labels.items()
        for text in label.examples
    }
    if not example_of:
        return []
    found: dict[str, LabelIssue] = {}
    for issue in issues:
        for key in item_keys(prepared.dataset.item(issue.row).fields.values()):
            if key in example_of:
                found.setdefault(key, issue)
    if not found:
        return []
    show = prepared.task.show
    told = [
        f"{example_of[key][0][:60]!r} under {example_of[key][1]!r} (labeled "
        f"{show(issue.current_label)}, predicted {show(issue.predicted_label)})"
        for key, issue in found.items()
    ]
    more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return [
        f"{len(told)} examples in the label definitions are label issues themselves; keep those "
        f"that are right: {'; '.join(told[:SHOWN])}{more}"
    ]


def _issue_text(prepared: Prepared, issue: LabelIssue) -> str:
    show = prepared.task.show
    text = " ".join(prepared.dataset.text[issue.row].as_py().split())
    return (
        f"{issue.label_quality:.2f}  {show(issue.current_label)} -> "
        f"{show(issue.predicted_label)}?  {text[:90]}"
    )


def _too_long(prepared: Prepared, issues: Sequence[LabelIssue]) -> int:
    """How many items are longer than a judge is shown; people are shown all of an item."""
    if all(member.provider == PEOPLE for member in prepared.job.judge.members):
        return 0
    limit = prepared.job.judge.max_item_tokens
    long = 0
    for issue in issues:
        fields = prepared.dataset.item(issue.row).fields.values()
        long += sum(map(len, fields)) > limit and sum(map(estimated_tokens, fields)) > limit
    return long


def _in_windows(prepared: Prepared) -> int:
    """How many texts the encoder reads in more than one part, by an estimate of their tokens."""
    if prepared.own_predictions is not None:
        return 0
    texts = (text.as_py() or "" for text in prepared.dataset.text)
    return sum(len(text) > MAX_TOKENS and estimated_tokens(text) > MAX_TOKENS for text in texts)


def first_issues(
    prepared: Prepared, *, progress: Progress | None = None
) -> tuple[list[LabelIssue], Predicted]:
    """Round 1's label issues and the predictions they come from, with no run folder."""
    with (progress if progress is not None else Silent()).step("Small model, out of fold") as step:
        model = prepared.small_model(step)
        predicted = train(prepared, model, prepared.given)
    return flag(prepared, predicted, ~prepared.dataset.locked), predicted
