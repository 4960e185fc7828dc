"""`summary.json`: what a run did, in numbers that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_relabel.agreement import changes_against_gold
from llm_relabel.decide import resolved_policy
from llm_relabel.judge import Judges
from llm_relabel.judge_settings import PEOPLE
from llm_relabel.measure import title, told
from llm_relabel.preparation import Prepared
from llm_relabel.records import Action, Tokens, Verdict
from llm_relabel.units import Labels, differs, has_label


@dataclass
class RoundTally:
    """One round's counts: items, not asks. `judged` is the sum of the four after it."""

    number: int
    flagged: int = 0
    judged: int = 0
    replaced: int = 0
    kept: int = 0
    abstained: int = 0
    failed: int = 0
    deferred: int = 0
    """Flagged and not judged: over the budget, or nothing a verdict could change."""
    revised: int = 0
    """Changed by the evidence as a whole, without a verdict in this round; not in `judged`."""
    frozen: int = 0
    """Rows that came back to a label they had left, and are not touched again."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why verdicts abstained or failed."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The small model's own figures: what it is, its score on `data.dev`."""
    gold: dict[str, Any] = field(default_factory=dict)
    """Against gold, where it is known: the labels' measure afterwards, how good the flags were."""

    def count(self, action: Action) -> None:
        """One more judged item."""
        names = {"replace": "replaced", "abstain": "abstained", "failed": "failed"}
        name = names.get(action, "kept")
        setattr(self, name, getattr(self, name) + 1)
        self.judged += 1

    def told(self) -> str:
        """The round in one line."""
        text = (
            f"Round {self.number}: {self.flagged:,} flagged, {self.judged:,} judged: "
            f"{self.replaced:,} replaced, {self.kept:,} kept, {self.abstained:,} abstained, "
            f"{self.failed:,} failed"
        )
        if self.revised:
            text += f"; {self.revised:,} more changed without a new verdict"
        after = self.gold.get("labels_after")
        if after is not None:
            text += f"; {title(self.gold).lower()} now: {told(after, self.gold)}"
        return text

    def as_json(self) -> dict[str, Any]:
        """The round as `summary.json` holds it."""
        counts = {
            name: getattr(self, name)
            for name in (
                "flagged", "judged", "replaced", "kept", "abstained", "failed", "deferred",
                "revised", "frozen",
            )
        }  # fmt: skip
        return {
            "round": self.number,
            **counts,
            "reasons": dict(self.reasons),
            **self.facts,
            **({"gold": self.gold} if self.gold else {}),
        }


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
    heard = [tally.facts.get("sources", {}).get("spot_checks") for tally in rounds]
    standing = [tally for tally in rounds if "rolled_back" not in tally.facts]
    found: dict[str, Any] = dict(standing[-1].facts.get("sources", {})) if standing else {}
    last = next((each for each in reversed(heard) if each is not None), None)
    if found.get("spot_checks") is None and last is not None:
        found["spot_checks"] = {
            "answered": last["answered"],
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
