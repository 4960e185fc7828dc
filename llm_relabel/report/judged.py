"""What the judges did: outcomes by reason, cost, confidence against gold, controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from llm_relabel.agreement import proportion, wrong
from llm_relabel.agreement.run_measures import calls_saved, judge_against_gold
from llm_relabel.records import Verdict
from llm_relabel.report.reading import RunRead
from llm_relabel.units import column

DECIDING = ("label", "panel", "escalation")
CONTROLS = ("repeat_consistency", "planted_kept", "confirmed_wrong")


def judges(read: RunRead, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each judge: calls, tokens and dollars as the summary has them; outcomes, reasons, latency.

    Outcomes are of the last verdict of each question, so a failure that was asked again and
    answered is no failure.
    """
    found = []
    for entry in summary.get("judges", []):
        verdicts = _verdicts(read, entry["model"])
        outcomes = Counter(verdict.outcome for verdict in verdicts)
        reasons = Counter((v.outcome, v.reason) for v in verdicts if v.outcome != "answer")
        seconds = [v.seconds for v in verdicts if v.seconds is not None]
        found.append({
            "model": entry["model"],
            "calls": entry["calls"], "cached": entry["cached"],
            "tokens": entry["tokens"], "cost": entry["cost"],
            "seconds": None if not seconds else {
                "p50": float(np.quantile(seconds, 0.5)), "p95": float(np.quantile(seconds, 0.95))
            },
            "questions": len(verdicts),
            "answered": outcomes["answer"],
            "abstained": outcomes["abstain"],
            "failed": outcomes["failed"],
            "reasons": [
                {"outcome": outcome, "reason": str(reason),
                 **proportion(count, len(verdicts))}
                for (outcome, reason), count in reasons.most_common()
            ],
            "against_gold": _against_gold(read, entry["model"]),
        })  # fmt: skip
    return found


def controls(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each round's controls as the summary has them, and all rounds together where several."""
    rounds = [
        {"round": each["round"], **each["controls"]}
        for each in summary.get("rounds", [])
        if each.get("controls")
    ]
    if len(rounds) < 2:
        return rounds
    together: dict[str, Any] = {"round": "all"}
    for name in CONTROLS:
        parts = [each[name] for each in rounds if name in each]
        if parts:
            together[name] = proportion(
                sum(part["count"] for part in parts), sum(part["of"] for part in parts)
            )
    together["without_answer"] = sum(each["without_answer"] for each in rounds)
    return [*rounds, together]


def saved(read: RunRead) -> dict[str, Any]:
    """Calls of this run against judging every open row once."""
    rounds = [sum(each.calls.values()) for each in read.rounds]
    first = len(read.rounds[0].calls) if read.rounds else 0
    each_item = rounds[0] / first if first else 0.0
    return calls_saved(int((~read.locked).sum()), each_item, sum(rounds))


def _verdicts(read: RunRead, judge: str) -> list[Verdict]:
    return [
        each.verdicts[line["ask_id"]]
        for each in read.rounds
        for line in each.asks
        if line["judge"] == judge and line["ask_id"] in each.verdicts
    ]


def _against_gold(read: RunRead, judge: str) -> dict[str, Any] | None:
    """The judge's last answer on each item with gold; samples and controls are left out."""
    if read.gold is None:
        return None
    last: dict[str, Verdict] = {}
    for each in read.rounds:
        for line in each.asks:
            verdict = each.verdicts.get(line["ask_id"])
            deciding = line["purpose"] in DECIDING and line["judge"] == judge
            if verdict is not None and deciding and read.gold[read.row_of[line["id"]]] is not None:
                last[line["id"]] = verdict
    if not last:
        return None
    answered = {key: verdict for key, verdict in last.items() if verdict.outcome == "answer"}
    rows = [read.row_of[key] for key in answered]
    said = column([read.task.check(verdict.answer) for verdict in answered.values()])
    right = ~wrong(read.task.measure, said, read.gold[rows])
    confidence = [np.nan if v.confidence is None else v.confidence for v in answered.values()]
    given_right = ~wrong(read.task.measure, read.given[rows], read.gold[rows])
    return judge_against_gold(
        right, np.array(confidence, dtype=np.float64), len(last),
        given_right,
    )  # fmt: skip
