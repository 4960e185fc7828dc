"""The forms of a report: the page, Markdown, JSON, and the lines a command ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_relabel.config.judges import PEOPLE
from llm_relabel.files.journal import write_whole
from llm_relabel.measure import title, told
from llm_relabel.people.questions import QuestionFolder
from llm_relabel.report.facts import gather, sentence
from llm_relabel.report.markdown import as_markdown
from llm_relabel.report.page import as_page
from llm_relabel.report.words import money, percent
from llm_relabel.run_folder.folder import RunFolder


def write_report(run: RunFolder, summary: Mapping[str, Any]) -> Path:
    """Write `report.html`, `report.md` and `report.json`, all with the same figures.

    Gives the page: one self-contained file in which everything from the data is escaped.
    """
    facts = gather(run, summary)
    forms = {
        "report.json": json.dumps(facts.as_json(), indent=1, ensure_ascii=False) + "\n",
        "report.md": as_markdown(facts),
        "report.html": as_page(facts),
    }
    for name, text in forms.items():
        write_whole(run.path / name, text.encode("utf-8", "replace"))
    return run.path / "report.html"


def markdown_report(run: RunFolder, summary: Mapping[str, Any]) -> str:
    """The report as Markdown text."""
    return as_markdown(gather(run, summary))


def told_summary(summary: Mapping[str, Any], path: Path) -> str:
    """What a command says at its end."""
    lines = [sentence(summary)]
    lines += _gold_lines(summary)
    lines += _status_lines(summary)
    lines += [f"Doubtful: {doubt}" for doubt in summary.get("doubts", [])]
    lines += [f"Warning: {warning}" for warning in summary.get("warnings", [])]
    waiting = QuestionFolder(path).waiting() if summary["status"] != "done" else 0
    if waiting:
        lines.append(
            f"{waiting:,} questions wait for people now: `llm-relabel review serve {path}`"
        )
    elif summary["status"] == "paused" and QuestionFolder(path).asked():
        lines.append("People have answered all questions; the same `run` goes on")
    if "rows" in summary:
        lines.append(f"Report: {path / 'report.html'}   Changes: {path / 'changes.jsonl'}")
    return "\n".join(lines)


def _status_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Status: {summary['status']}" + (f" ({summary['reason']})" if summary["reason"] else "")
    ]
    if "calls" not in summary:
        return lines
    cost, lost = summary["cost"], summary.get("cost_unaccounted") or 0.0
    price = "price unknown" if cost is None else money(cost)
    if not summary["calls"] and summary["judge"]["is_llm"]:
        price = "nothing spent"
    if lost:
        price += (
            f" (and {money(lost)} counted against the cap, at the worst case, for calls whose "
            "price was never told)"
        )
    names = [each["model"] for each in summary.get("judges", [])] or [summary["judge"]["model"]]
    called = "answers" if names[0] == PEOPLE else "calls"
    lines.append(
        f"Judge{'s' if len(names) > 1 else ''}: {', '.join(names)}; "
        f"{summary['calls']:,} {called}, {summary['cached']:,} "
        f"answers from the cache, {price}, {summary['seconds']:.0f} s"
    )
    failed = sum(r["failed"] for r in summary["rounds"])
    abstained = sum(r["abstained"] for r in summary["rounds"])
    judged = sum(r["judged"] for r in summary["rounds"])
    if judged:
        lines.append(
            f"Of {judged:,} judgements {abstained:,} abstained ({abstained / judged:.0%}) and "
            f"{failed:,} failed ({failed / judged:.0%}); those items keep their labels"
        )
    if unreached := sum(r["reasons"].get("transport", 0) for r in summary["rounds"]):
        lines.append(
            f"{unreached:,} of them could not be put to the judge (no connection, no time, too "
            "many requests): the same `llm-relabel run` asks them again and pays for nothing else"
        )
    if summary["rolled_back"]:
        lines.append(f"{summary['rolled_back']:,} changes were rolled back by people")
    return lines


def _gold_lines(summary: Mapping[str, Any]) -> list[str]:
    gold = summary.get("gold")
    if not gold or gold["labels_before"] is None:
        return []
    lines = [
        f"{title(gold)} before {told(gold['labels_before'], gold)}, after "
        f"{told(gold['labels_after'], gold)} of {gold['rows']:,} rows with a trusted label",
        f"{gold['fixed']:,} fixed, {gold['broken']:,} broken, {gold['wrong_to_wrong']:,} changed "
        f"from wrong to wrong, {gold['still_wrong']:,} still wrong and untouched",
    ]
    if gold.get("flag_precision") is not None and gold.get("flag_recall") is not None:
        lines.append(
            f"Of the rows flagged in round 1, {percent(gold['flag_precision'])} were wrong; of "
            f"the wrong ones {percent(gold['flag_recall'])} were flagged"
        )
    return lines
