"""`summary.json`: what a run did, in numbers that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_relabel.agreement import changes_against_gold
from llm_relabel.config.judges import PEOPLE
from llm_relabel.evidence.policies import resolved_policy
from llm_relabel.judge.seam import Judges
from llm_relabel.prepared import Prepared
from llm_relabel.records import Tokens, Verdict
from llm_relabel.rounds.tally import RoundTally
from llm_relabel.units import Labels, differs, has_label


def make_summary(
    prepared: Prepared,
    judges: Judges,
    rounds: Sequence[RoundTally],
    asks: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    final: Labels,
    *,
    status: str,
    reason: str,
    seconds: float,
    rolled_back: int,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The whole summary.

    `asks` and `verdicts` are all lines of all rounds; `final` the newest labels.
    """
    judge = judges.first
    tokens = sum((verdict.tokens for verdict in verdicts), Tokens())
    costs = [verdict.cost for verdict in verdicts if verdict.cost is not None]
    changed = int(differs(prepared.given, final).sum())
    sources = _standing(rounds)
    checked = sources.get("spot_checks")
    policy = (checked or {}).get("policy") or resolved_policy(prepared.job)
    people_decided = "certificate" in (checked or {}) or judge.name == PEOPLE
    summary: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "task": prepared.job.task,
        "rows": len(prepared.dataset),
        "changed": changed,
        "missing_before": int((~has_label(prepared.given)).sum()),
        "missing_labels": int((~has_label(final)).sum()),
        "rounds": [tally.as_json() for tally in rounds],
        "calls": sum(verdict.calls for verdict in verdicts),
        "cached": sum(verdict.cached for verdict in verdicts),
        "tokens": _tokens(tokens),
        "cost": round(sum(costs), 6) if costs or not judge.is_llm else None,
        "cost_unaccounted": round(judges.budget.lost, 6),
        "seconds": round(seconds, 1),
        "judge": {
            "model": judge.name,
            "is_llm": judge.is_llm,
            "note": judge_note(judges),
        },
        "judges": _by_judge(asks, verdicts),
        "policy": policy,
        "gated": bool((checked or {}).get("gate")),
        "spot_checks": checked,
        "min_precision": prepared.job.decide.min_precision,
        "believed": sources.get("believed"),
        "spot_checks_to_settle": sources.get("spot_checks_to_settle"),
        # Where people's answers decided, nobody need guess any more.
        "doubts": [] if people_decided else sources.get("doubts", []),
        "rounds_allowed": prepared.job.rounds,
        "evidence": prepared.job.judge.evidence,
        "rolled_back": rolled_back,
        "warnings": list(prepared.warnings),
        "versions": dict(versions),
    }
    if prepared.gold is not None:
        measured = changes_against_gold(prepared.task, prepared.given, final, prepared.gold)
        first = rounds[0].gold if rounds else {}
        flags = {name: value for name, value in first.items() if name.startswith("flag_")}
        summary["gold"] = {**measured, **flags}
    return summary


def _standing(rounds: Sequence[RoundTally]) -> dict[str, Any]:
    """What the sources said in the newest round whose labels stand."""
    answered = [tally.sources.spot_checks for tally in rounds if tally.sources is not None]
    standing = [tally for tally in rounds if tally.rolled_back is None]
    newest = standing[-1].sources if standing else None
    found = newest.as_json() if newest is not None else {}
    last = next((each for each in reversed(answered) if each is not None), None)
    if found.get("spot_checks") is None and last is not None:
        found["spot_checks"] = {
            "answered": last.answered,
            "note": "the round that the spot-checks were drawn from was rolled back: people's own "
            "answers stand, and nothing is certified of the other labels",
        }
    return found


def _by_judge(
    asks: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]
) -> list[dict[str, Any]]:
    """What each judge was asked and took, in the order in which they were first asked."""
    judge_of = {line["ask_id"]: line["judge"] for line in asks}
    theirs: dict[str, list[Verdict]] = {line["judge"]: [] for line in asks}
    for verdict in verdicts:
        theirs[judge_of[verdict.ask_id]].append(verdict)
    return [
        {
            "model": name,
            "verdicts": len({verdict.ask_id for verdict in found}),
            **{
                word: sum(verdict.outcome == outcome for verdict in found)
                for word, outcome in (
                    ("answered", "answer"), ("abstained", "abstain"), ("failed", "failed"),
                )
            },
            "repaired": sum(verdict.repaired for verdict in found),
            "calls": sum(verdict.calls for verdict in found),
            "cached": sum(verdict.cached for verdict in found),
            "tokens": _tokens(sum((verdict.tokens for verdict in found), Tokens())),
            "cost": round(sum(verdict.cost or 0.0 for verdict in found), 6),
        }
        for name, found in theirs.items()
    ]  # fmt: skip


def _tokens(tokens: Tokens) -> dict[str, int]:
    return {"input": tokens.input, "output": tokens.output, "cached": tokens.cached,
            "written": tokens.written}  # fmt: skip


def judge_note(judges: Judges) -> str:
    """One sentence on who judged, so that no output is mistaken for an LLM's."""
    first, *others = judges
    besides = f"; besides, {', '.join(judge.name for judge in others)}" if others else ""
    called = "" if any(judge.is_llm for judge in judges) else "; no LLM was called"
    if first.name == PEOPLE:
        return f"people judged, on the review page{besides}{called}"
    if first.is_llm:
        return f"an LLM judged: {first.name}{besides}"
    if first.is_llm is None:
        return f"verdicts were recorded elsewhere: {first.name}{besides}{called}"
    how = f"label definitions and trusted neighbours decided, by embeddings{besides}"
    return f"no LLM was used: {how}" if called else how
