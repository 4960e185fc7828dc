"""`plan`: what a run would ask and cost, before it asks or costs anything."""

from __future__ import annotations

from collections import Counter

from llm_relabel import decide
from llm_relabel.api import first_issues
from llm_relabel.detect import within_budget
from llm_relabel.job import Job
from llm_relabel.judge import open_judge
from llm_relabel.planning import plan_asks
from llm_relabel.preparation import Prepared, prepare
from llm_relabel.progress import Progress
from llm_relabel.prompts import describe_messages
from llm_relabel.records import Ask, LabelIssue, Message

# English text has about four characters a token; an answer here is a short rationale.
CHARACTERS_A_TOKEN = 4
ANSWER_TOKENS = 80
# A round trip to a hosted model, unless requests_per_minute is slower.
SECONDS_A_CALL = 2.0
SHOWN = 15


def project(job: Job, progress: Progress, *, prompts: int) -> str:
    """The plan of a job as text: issues by class, sample prompts, calls, tokens, money, time.

    Raises what `run` would raise before spending: bad data, a missing key, a missing cap.
    """
    prepared = prepare(job)
    judge = open_judge(
        job, prepared.task, prepared.definitions, prepared.prompts,
        cache=prepared.cache, embed=lambda texts: prepared.small_model(_ignore).encode(texts),
    )  # fmt: skip
    issues, pred_probs = first_issues(prepared, progress=progress)
    chosen = within_budget(
        [issue for issue in issues if decide.can_change(job.decide.policy, issue)],
        job.detect.budget, len(prepared.dataset), set(),
    )  # fmt: skip
    asks = plan_asks(prepared, 1, chosen, pred_probs, judge.name)
    lines = [f"Warning: {warning}" for warning in prepared.warnings]
    lines += _issue_lines(prepared, issues)
    lines += ["", *_projection(prepared, asks, judge.is_llm)]
    if judge.is_llm:
        for ask in asks[:prompts]:
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


def _issue_text(prepared: Prepared, issue: LabelIssue) -> str:
    show = prepared.task.show_label
    text = " ".join(prepared.dataset.text[issue.row].as_py().split())
    return (
        f"{issue.label_quality:.2f}  {show(issue.current_label)} -> "
        f"{show(issue.predicted_label)}?  {text[:90]}"
    )


def _issue_lines(prepared: Prepared, issues: list[LabelIssue]) -> list[str]:
    rows, show = len(prepared.dataset), prepared.task.show_label
    reasons = Counter(issue.reason for issue in issues)
    told = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in reasons.items())
    lines = [f"{len(issues):,} of {rows:,} rows are label issues ({told or 'none'})."]
    pairs = Counter((show(issue.current_label), show(issue.predicted_label)) for issue in issues)
    if pairs:
        lines += ["", "Most frequent: current label -> predicted label"]
        lines += [f"{count:7,}  {old} -> {new}" for (old, new), count in pairs.most_common(SHOWN)]
    return lines


def _projection(prepared: Prepared, asks: list[Ask], is_llm: bool | None) -> list[str]:
    from llm_relabel.judge.prices import cost_of, price_of
    from llm_relabel.records import Tokens

    job = prepared.job
    lines = [
        f"Round 1 asks the judge {job.judge.model} about {len(asks):,} items; at most "
        f"{job.rounds} rounds. Later rounds ask only what is new, usually a small part of round 1."
    ]
    if not is_llm:
        return [*lines, "No LLM is called: no tokens, no money."]
    sample = asks[:: max(1, len(asks) // 200)]
    sizes = [sum(len(m.content) for m in _messages(prepared, ask)) for ask in sample]
    mean = sum(sizes) / max(1, len(sizes)) / CHARACTERS_A_TOKEN
    tokens = Tokens(input=int(mean * len(asks)), output=ANSWER_TOKENS * len(asks))
    lines.append(f"About {tokens.input:,} input and {tokens.output:,} output tokens.")
    cost = cost_of(tokens, price_of(job.judge))
    lines.append("The price is not known." if cost is None else f"About ${cost:.2f}.")
    seconds = len(asks) * SECONDS_A_CALL / job.judge.concurrency
    if job.judge.requests_per_minute:
        seconds = max(seconds, 60 * len(asks) / job.judge.requests_per_minute)
    if job.judge.tokens_per_minute:
        total = tokens.input + tokens.output
        seconds = max(seconds, 60 * total / job.judge.tokens_per_minute)
    lines.append(f"About {seconds / 60:.1f} minutes of judging, at {SECONDS_A_CALL:g} s a call.")
    return lines
