"""The lines of a run's journals: how each record is written, and read again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llm_relabel.records import Ask, Decision, LabelIssue, Tokens, Verdict
from llm_relabel.units import ITEM, label_json

EXCERPT = 300  # characters of an item that reports show


def with_todays_unit(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of changes or decisions, as this version names its unit.

    Before 0.2 the units of multi-label items were called by their class alone, and the item as a
    whole `label`, as a class may be called too.
    """
    values, unit = (line["old"], line["new"]), line["unit"]
    if any(isinstance(value, bool) for value in values) and not unit.startswith("class:"):
        return {**line, "unit": f"class:{unit}"}
    if unit == "label" and any(isinstance(value, list) for value in values):
        return {**line, "unit": ITEM}
    return dict(line)


def ask_line(ask: Ask) -> dict[str, Any]:
    """An ask as its journal line."""
    return {
        "ask_id": ask.ask_id,
        "id": ask.id,
        "purpose": ask.purpose,
        "evidence": ask.evidence,
        "candidates": [label_json(label) for label in ask.candidates],
        "judge": ask.judge,
        "repeat": ask.repeat,
        "wave": ask.wave,
        "control": ask.control,
        "control_label": label_json(ask.control_label),
    }


def issue_line(issue: LabelIssue, text: str) -> dict[str, Any]:
    """A label issue as its line, with the start of its text for people who read reports."""
    return {
        "id": issue.id,
        "given_label": label_json(issue.given_label),
        "current_label": label_json(issue.current_label),
        "predicted_label": label_json(issue.predicted_label),
        "label_quality": issue.label_quality,
        "reason": issue.reason,
        "text": text[:EXCERPT] + (" ..." if len(text) > EXCERPT else ""),
    }


def decision_line(decision: Decision) -> dict[str, Any]:
    """A decision as its line."""
    return {
        "id": decision.id,
        "unit": decision.unit,
        "action": decision.action,
        "old": decision.old,
        "new": decision.new,
        "source": decision.source,
        "confidence": decision.confidence,
        "why": decision.why,
        "ask_ids": list(decision.ask_ids),
    }


def verdict_line(verdict: Verdict) -> dict[str, Any]:
    """A verdict as its journal line."""
    tokens = verdict.tokens
    return {
        "ask_id": verdict.ask_id,
        "id": verdict.id,
        "outcome": verdict.outcome,
        "answer": verdict.answer,
        "confidence": verdict.confidence,
        "rationale": verdict.rationale,
        "reason": verdict.reason,
        "prompt_sha256": verdict.prompt_sha256,
        "tokens": {
            "input": tokens.input,
            "output": tokens.output,
            "cached": tokens.cached,
            "written": tokens.written,
        },
        "cost": verdict.cost,
        "cached": verdict.cached,
        "calls": verdict.calls,
        "seconds": verdict.seconds,
        "error": verdict.error,
        **({"repaired": True} if verdict.repaired else {}),
    }


def verdict_of(line: Mapping[str, Any]) -> Verdict:
    """A verdict from its journal line; keys that others added are left out."""
    known = {name: line[name] for name in Verdict.__dataclass_fields__ if name != "repaired"}
    known["repaired"] = line.get("repaired", False)  # older lines do not say
    known |= {name: shared(line[name]) for name in ("id", "outcome", "answer", "reason")}
    return Verdict(**{**known, "tokens": Tokens(**line["tokens"])})


def latest(verdicts: Sequence[Verdict]) -> dict[str, Verdict]:
    """The last verdict of each ask: a second try replaces a failure."""
    return {verdict.ask_id: verdict for verdict in verdicts}


def kept_ask(line: dict[str, Any]) -> Mapping[str, Any]:
    for name in ("id", "purpose", "evidence", "judge", "candidates"):
        line[name] = shared(line[name])
    return line


def shared(value: Any) -> Any:
    """The same JSON value, with one string in memory for each word that many lines repeat."""
    if isinstance(value, list):
        return [shared(each) for each in value]
    return sys.intern(value) if isinstance(value, str) else value


def replaced(line: Mapping[str, Any]) -> tuple[str, str, Any] | None:
    if line["action"] != "replace":
        return None
    line = with_todays_unit(line)
    return shared(line["id"]), shared(line["unit"]), shared(line["new"])
