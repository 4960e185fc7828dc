"""`plan`: what a run would ask and cost, before it asks or costs anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llm_relabel import decide
from llm_relabel.allocation import Allocation
from llm_relabel.api import first_issues
from llm_relabel.controls import ControlPool
from llm_relabel.job import Job
from llm_relabel.judge import Judges, open_judges
from llm_relabel.judge.image_tokens import message_tokens
from llm_relabel.judge.prices import cost_of, price_of
from llm_relabel.judge_settings import PEOPLE, JudgeMember, JudgeSection, Prices
from llm_relabel.planning import AskPlanner
from llm_relabel.preparation import Prepared, prepare
from llm_relabel.progress import Progress
from llm_relabel.prompts import ANSWER_TOKENS, describe_messages, estimated_tokens
from llm_relabel.records import Ask, LabelIssue, Message, Tokens
from llm_relabel.spellings import item_keys, text_key

# Below so many tokens neither OpenAI nor Anthropic keeps a prefix.
SHORTEST_PREFIX = 1024
# A round trip to a hosted model, unless requests_per_minute is slower.
SECONDS_A_CALL = 2.0
SHOWN = 15


def project(job: Job, progress: Progress, *, prompts: int) -> str:
    """The plan of a job as text: issues by class, sample prompts, calls, tokens, money, time.

    Raises what `run` would raise before spending: bad data, a missing key, a missing cap.
    """
    prepared = prepare(job)
    judges = open_judges(
        job, prepared.task, prepared.definitions,
        cache=prepared.cache, model=prepared.small_model(_ignore),
    )  # fmt: skip
    allocation = Allocation(prepared)
    issues, predicted = first_issues(prepared, progress=progress)
    policy = decide.resolved_policy(job)
    open_issues = [issue for issue in issues if decide.can_change(policy, issue)]
    chosen = allocation.foreseen(open_issues, predicted)
    planner = AskPlanner(prepared, 1, predicted)
    asks = planner.first_wave(chosen, ControlPool(issues, prepared.given))
    first = [ask for ask in asks if ask.purpose == "label"]
    lines = [f"Warning: {warning}" for warning in prepared.warnings]
    lines += _flagged_examples(prepared, issues)
    lines += _issue_lines(prepared, issues)
    lines += [
        "",
        f"Round 1 asks the judge {judges.first.name} about {len(first):,} items; at most "
        f"{job.rounds} rounds. Later rounds ask only what is new, usually a small part of round 1.",
        *([f"It stops there: {allocation.stopped['why']}."] if allocation.stopped else []),
        *_cut_lines(prepared, chosen),
        *_projection(prepared, asks, judges, len(chosen)),
    ]
    if judges.first.is_llm:
        for ask in first[:prompts]:
            lines += ["", f"--- A prompt, as it would be sent (item {ask.id!r}) ---"]
            lines.append(describe_messages(_messages(prepared, ask)))
    elif prompts and asks:
        lines += ["", "The worst label issues:"]
        lines += [f"  {_issue_text(prepared, issue)}" for issue in chosen[:SHOWN]]
    return "\n".join(lines)


def _ignore(done: int, total: int) -> None:
    """Nobody watches the definitions being encoded."""


def _messages(prepared: Prepared, ask: Ask) -> tuple[Message, ...]:
    item = prepared.dataset.item(ask.row)
    return prepared.prompts.build(item, ask.candidates)


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
        f"Warning: {len(told)} examples in the label definitions are label issues themselves; "
        f"keep those that are right: {'; '.join(told[:SHOWN])}{more}"
    ]


def _issue_text(prepared: Prepared, issue: LabelIssue) -> str:
    show = prepared.task.show
    text = " ".join(prepared.dataset.text[issue.row].as_py().split())
    return (
        f"{issue.label_quality:.2f}  {show(issue.current_label)} -> "
        f"{show(issue.predicted_label)}?  {text[:90]}"
    )


def _issue_lines(prepared: Prepared, issues: list[LabelIssue]) -> list[str]:
    rows, show = len(prepared.dataset), prepared.task.show
    reasons = Counter(issue.reason for issue in issues)
    told = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in reasons.items())
    lines = [f"{len(issues):,} of {rows:,} rows are label issues ({told or 'none'})."]
    pairs = Counter((show(issue.current_label), show(issue.predicted_label)) for issue in issues)
    if pairs:
        lines += ["", "Most frequent: current label -> predicted label"]
        lines += [f"{count:7,}  {old} -> {new}" for (old, new), count in pairs.most_common(SHOWN)]
    return lines


def _cut_lines(prepared: Prepared, issues: Sequence[LabelIssue]) -> list[str]:
    """How many items are longer than a judge is shown; people are shown all of an item."""
    if all(member.provider == PEOPLE for member in prepared.job.judge.members):
        return []
    limit = prepared.job.judge.max_item_tokens
    long = 0
    for issue in issues:
        fields = prepared.dataset.item(issue.row).fields.values()
        long += sum(map(len, fields)) > limit and sum(map(estimated_tokens, fields)) > limit
    if not long:
        return []
    return [f"{long:,} items are longer than judge.max_item_tokens ({limit:,}): the judge sees "
            "their head and tail."]  # fmt: skip


def _projection(prepared: Prepared, asks: Sequence[Ask], judges: Judges, issues: int) -> list[str]:
    """Calls, tokens, money and time of round 1, for each judge that takes any."""
    section = prepared.job.judge
    members = dict(zip(section.member_names, section.members, strict=True))
    by_judge = {name: [ask for ask in asks if ask.judge == name] for name in members}
    escalation = section.member_names[1 + len(section.panel) :]
    lines: list[str] = []
    total, slowest, known = 0.0, 0.0, True
    for name, member in members.items():
        if not judges[name].is_llm:
            continue
        most = name in escalation
        theirs = asks_like(by_judge[section.member_names[0]], issues) if most else by_judge[name]
        prices = price_of(member, uncapped=section.max_cost == "none")
        tokens, prefix = _tokens(prepared, theirs, member)
        minutes = _minutes(member, len(theirs), tokens)
        told = (
            f"  {name}: {'at most ' if most else ''}{len(theirs):,} calls, "
            f"{tokens.input:,} input and {tokens.output:,} output tokens"
        )
        if prices is None:
            known, told = False, told + ", price unknown"
        else:
            cost = cost_of(tokens, prices)
            saving = _saving(prefix, len(theirs), prices)
            told += f", about ${cost:.2f}"
            if saving >= 0.005:
                told += f" (about ${saving:.2f} less if the provider's prompt cache hits)"
            total += 0.0 if most else cost
        if most:
            told += ", asked only where the judges before it are not sure"
        else:
            slowest = max(slowest, minutes)
        told += "; hours, by the batch API" if member.batch else f", {minutes:.1f} minutes"
        lines.append(told)
    people = _people_lines(section, asks, issues)
    if not lines:
        return ["No LLM is called: no tokens, no money.", *people]
    calls = [ask for ask in asks if judges[ask.judge].is_llm]
    extra = {p: sum(ask.purpose == p for ask in calls) for p in ("sample", "panel", "control")}
    parts = [f"{count:,} for {purpose}s" for purpose, count in extra.items() if count]
    of_them = f" (of them {', '.join(parts)})" if parts else ""
    money = f"about ${total:.2f}" if known else "at a price that is not known"
    head = f"Together {len(calls):,} calls{of_them}, {money}, about {slowest:.1f} minutes, before "
    return [
        head + f"escalation and retries; {SECONDS_A_CALL:g} s a call are assumed:",
        *lines,
        *people,
    ]


def _people_lines(section: JudgeSection, asks: Sequence[Ask], issues: int) -> list[str]:
    """How many questions people will find on the review page."""
    if PEOPLE not in section.member_names:
        return []
    theirs = sum(ask.judge == PEOPLE for ask in asks)
    where = "on the review page (`llm-relabel review serve RUN`); the run pauses for them"
    if theirs:
        return [f"People are asked {theirs:,} questions {where}."]
    return [f"People are asked at most {issues:,} questions {where}, only where the judges before "
            "are not sure."]  # fmt: skip


def asks_like(asks: Sequence[Ask], count: int) -> list[Ask]:
    """At most `count` asks, one for each issue."""
    return [ask for ask in asks if ask.purpose == "label"][:count]


def _tokens(prepared: Prepared, asks: Sequence[Ask], member: JudgeMember) -> tuple[Tokens, float]:
    """The tokens of all asks, estimated on some of them, and those of the stable prefix."""
    sample = asks[:: max(1, len(asks) // 200)]
    sizes = [message_tokens(_messages(prepared, ask), member) for ask in sample]
    mean = sum(sizes) / max(1, len(sizes))
    prefix = estimated_tokens(prepared.prompts.system.text)
    return Tokens(input=int(mean * len(asks)), output=ANSWER_TOKENS * len(asks)), prefix


def _saving(prefix: float, calls: int, prices: Prices) -> float:
    """US dollars that a prompt cache saves when every call but the first hits it."""
    if prefix < SHORTEST_PREFIX or prices.cached_input is None or not calls:
        return 0.0
    saved = prefix * (calls - 1) * (prices.input - prices.cached_input)
    written = prefix * ((prices.cache_write or prices.input) - prices.input)
    return max(0.0, (saved - written) / 1_000_000)


def _minutes(member: JudgeMember, calls: int, tokens: Tokens) -> float:
    seconds = calls * SECONDS_A_CALL / member.concurrency
    for rate, amount in (
        (member.requests_per_minute, calls),
        (member.tokens_per_minute, tokens.input + tokens.output),
        (member.input_tokens_per_minute, tokens.input),
        (member.output_tokens_per_minute, tokens.output),
    ):
        if rate:
            seconds = max(seconds, 60 * amount / rate)
    return seconds / 60
