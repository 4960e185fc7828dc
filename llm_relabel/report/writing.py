"""The forms of a report: `report.html`, Markdown, and the lines a command ends with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from llm_relabel.journal import write_whole
from llm_relabel.report.facts import Facts, gather, sentence
from llm_relabel.runs import RunFolder

_ROUND_COLUMNS = ("flagged", "judged", "replaced", "kept", "abstained", "failed", "deferred")


def write_report(run: RunFolder, summary: Mapping[str, Any]) -> Path:
    """Write `report.html`, one self-contained page; everything from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    facts = gather(run, summary)
    page = environment.get_template("page.html.jinja").render(
        facts=facts, summary=summary, columns=_ROUND_COLUMNS, gold=_gold_lines(summary)
    )
    path = run.path / "report.html"
    write_whole(path, page.encode("utf-8", "replace"))
    return path


def markdown_report(run: RunFolder, summary: Mapping[str, Any]) -> str:
    """The report as Markdown text."""
    facts = gather(run, summary)
    lines = [f"# Relabeling report: {run.path.name}", "", facts.sentence, ""]
    lines += _status_lines(summary)
    if gold := _gold_lines(summary):
        lines += ["", "## Against trusted labels", ""]
        lines += [f"- {line}" for line in gold]
    if summary.get("rounds"):
        lines += ["", "## Rounds", "", _row(("round", *_ROUND_COLUMNS)), _row(["---:"] * 8)]
        lines += [_row((r["round"], *(r[c] for c in _ROUND_COLUMNS))) for r in summary["rounds"]]
    if facts.moves:
        lines += ["", "## The largest sets of changes", ""]
        for move in facts.moves:
            lines.append(f"- **{move.count:,}** from {_code(move.old)} to {_code(move.new)}")
            for example in move.examples:
                lines.append(f"  - {_code(example['id'])} {_plain(example['text'])}")
                lines.append(f"    *{_plain(example['why'])}*")
    if facts.by_class:
        lines += ["", "## Labels before and after", "", _row(("label", "before", "after"))]
        lines.append(_row(("---", "---:", "---:")))
        lines += [_row((_code(name), before, after)) for name, before, after in facts.by_class]
    lines += _provenance_lines(facts)
    return "\n".join(lines) + "\n"


def told_summary(summary: Mapping[str, Any], path: Path) -> str:
    """What a command says at its end."""
    lines = [sentence(summary)]
    lines += _gold_lines(summary)
    lines += _status_lines(summary)
    lines += [f"Warning: {warning}" for warning in summary.get("warnings", [])]
    if "rows" in summary:
        lines.append(f"Report: {path / 'report.html'}   Changes: {path / 'changes.jsonl'}")
    return "\n".join(lines)


def _status_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Status: {summary['status']}" + (f" ({summary['reason']})" if summary["reason"] else "")
    ]
    if "calls" not in summary:
        return lines
    cost = summary["cost"]
    money = "price unknown" if cost is None else f"${cost:.4f}" if cost else "$0"
    lines.append(
        f"Judge: {summary['judge']['model']}; {summary['calls']:,} calls, {summary['cached']:,} "
        f"answers from the cache, {money}, {summary['seconds']:.0f} s"
    )
    failed = sum(r["failed"] for r in summary["rounds"])
    abstained = sum(r["abstained"] for r in summary["rounds"])
    judged = sum(r["judged"] for r in summary["rounds"])
    if judged:
        lines.append(
            f"Of {judged:,} judgements {abstained:,} abstained ({abstained / judged:.0%}) and "
            f"{failed:,} failed ({failed / judged:.0%}); those items keep their labels"
        )
    if summary["rolled_back"]:
        lines.append(f"{summary['rolled_back']:,} changes were rolled back by people")
    return lines


def _gold_lines(summary: Mapping[str, Any]) -> list[str]:
    gold = summary.get("gold")
    if not gold or gold["labels_before"] is None:
        return []
    lines = [
        f"Right labels before {_percent(gold['labels_before'])}, after "
        f"{_percent(gold['labels_after'])} of {gold['rows']:,} rows with a trusted label",
        f"{gold['fixed']:,} fixed, {gold['broken']:,} broken, {gold['wrong_to_wrong']:,} changed "
        f"from wrong to wrong, {gold['still_wrong']:,} still wrong and untouched",
    ]
    if gold.get("flag_precision") is not None and gold.get("flag_recall") is not None:
        lines.append(
            f"Of the rows flagged in round 1, {_percent(gold['flag_precision'])} were wrong; of "
            f"the wrong ones {_percent(gold['flag_recall'])} were flagged"
        )
    return lines


def _provenance_lines(facts: Facts) -> list[str]:
    versions = facts.summary.get("versions", {})
    hashes = facts.job["hashes"]
    return [
        "",
        "## Provenance",
        "",
        *(f"- {name} {_code(str(value))}" for name, value in {**versions, **hashes}.items()),
    ]


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _row(cells: Any) -> str:
    return "| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in cells) + " |"


def _code(text: str) -> str:
    """Untrusted text in a code span that it cannot close."""
    flat = " ".join(text.split()).replace("|", "\\|")
    ticks = "``" if "`" in flat else "`"
    return f"{ticks} {flat} {ticks}" if "`" in flat else f"`{flat}`"


def _plain(text: str) -> str:
    """Untrusted text with Markdown and HTML made harmless."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-!|~" else c for c in flat)
