"""A tuning in words: `tune.md`, and `tune.html` where people tick what they accept."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

MARKDOWN, PAGE = "tune.md", "tune.html"
_FOLDER = Path(__file__).parent


def by_label(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The proposals' lines by label, in their order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["label"], []).append(line)
    return found


def heading(result: Mapping[str, Any]) -> str:
    """The tuning in one line."""
    return {
        "proved": "A better guideline, proved on gold that it had not seen",
        "not proved": "A guideline that the test does not prove to be better",
        "nothing found": "No better guideline was found",
        "proposals only": "Proposals, unproved: there is too little gold for a proof",
        "stopped early": "Nothing to prove here: the judge errs too rarely on this gold",
    }[result["status"]]


def facts_told(result: Mapping[str, Any]) -> list[str]:
    """What there is to know beside the proposals."""
    before, after = result["prompt"]["before"], result["prompt"]["after"]
    told = [f"{before['tokens']:,} tokens of guideline stand before each item, and would be "
            f"{after['tokens']:,}"]  # fmt: skip
    if after["dollars_per_1000"] is not None:
        told[0] += (
            f": ${before['dollars_per_1000']:.3f} and ${after['dollars_per_1000']:.3f} for 1,000 "
            "items, before any prompt cache"
        )
    calls = result["calls"]
    told.append(
        f"{result['search']['tried']} guidelines were tried with {calls['questions']:,} questions "
        f"({calls['calls']:,} calls"
        + (f", ${calls['dollars']:.4f}" if calls["dollars"] is not None else "")
        + ")"
        + (
            f"; the search ended because {result['search']['ended']}"
            if result["status"] != "stopped early"
            else ""
        )
    )
    test = result["test"]
    if test is not None:
        low, high = test["interval"]
        told.append(
            f"Difference on the test: {test['difference']:+.1%}, 95% interval {low:+.1%} to "
            f"{high:+.1%}"
        )
        for each in test["fell"]:
            told.append(f"Found less often than before: {each['label']}, {each['after']} instead "
                        f"of {each['before']} of {each['of']}")  # fmt: skip
    if result["smallest_provable_gain"] is not None:
        told.append(
            f"The least gain that this gold proves in four of five cases: "
            f"{result['smallest_provable_gain']:.1%}"
        )
    told += [each["told"] for each in result["advice"]]
    if result["suspects"]:
        told.append(
            f"{result['suspects']} gold items on which judge and small model agree on another "
            "label are in suspects.jsonl; most such items are merely hard"
        )
    return told


def as_markdown(result: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """`tune.md`."""
    text = [f"# {heading(result)}", "", f"{_sentence(result['told'])}", ""]
    text += [f"- {_sentence(each)}" for each in facts_told(result)]
    for name, mine in by_label(lines).items():
        text += ["", f"## {name}", "", f"{_sentence(_why(mine[0]))} {_where(mine[0])}", ""]
        for line in mine:
            text += [f"- {line['field']}, before: {_shown(line['old'])}",
                     f"- {line['field']}, new: {_shown(line['new'])}"]  # fmt: skip
    if lines:
        text += ["", "Accept with `llm-relabel tune JOB --accept all`, or name the labels; "
                 "`--reject LABEL` puts one aside."]  # fmt: skip
    return "\n".join(text) + "\n"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _why(line: Mapping[str, Any]) -> str:
    return f"{line['why']} (by {line['by']})"


def _where(line: Mapping[str, Any]) -> str:
    came = line["select"]
    return (
        f"With {came['labels']} labels changed at once: {came['fixed']} items fixed and "
        f"{came['broken']} broken where guidelines are chosen. Status: {line['status']}."
    )


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def as_page(result: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], job: str) -> str:
    """`tune.html`: one file that loads nothing; `job` is the job file as its user calls it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = (_FOLDER.parent / "report" / "page.css").read_text(encoding="utf-8")
    style += (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    labels = [
        {"name": name, "why": _sentence(_why(mine[0])), "where": _where(mine[0]),
         "lines": mine, "status": mine[0]["status"], "evidence": mine[0]["evidence"]}
        for name, mine in by_label(lines).items()
    ]  # fmt: skip
    return environment.get_template("page.html.jinja").render(
        heading=heading(result), told=_sentence(result["told"]), result=result, labels=labels,
        facts=[_sentence(each) for each in facts_told(result)], job=job,
        style=style, script=script, style_hash=_hash(style), script_hash=_hash(script),
    )  # fmt: skip


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
