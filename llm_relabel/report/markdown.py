"""The report as Markdown: the page's figures for terminals, pull requests and diffs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from llm_relabel.measure import title
from llm_relabel.report.facts import Facts
from llm_relabel.report.words import KINDS, counted, duration, latency, measured, money, percent
from llm_relabel.spellings import visible_name

ROUND_COLUMNS = ("flagged", "judged", "replaced", "kept", "abstained", "failed", "deferred")
EXAMPLES = 3
CONTROL_WORDS = {
    "repeat_consistency": "the same answer when asked again",
    "planted_kept": "planted wrong labels kept",
    "confirmed_wrong": "another label for rows that a person confirmed",
}


def as_markdown(facts: Facts) -> str:
    """The whole report; what comes from the data can neither end a table nor make a link."""
    lines = [f"# Relabeling report: {_plain(facts.name)}", "", _plain(facts.sentence), ""]
    lines.append(f"Status: {facts.status}" + (f" ({_plain(facts.reason)})" if facts.reason else ""))
    for note in facts.notes:
        lines += ["", f"> {_plain(note)}"]
    for warning in facts.warnings:
        lines += ["", f"> Warning: {_plain(warning)}"]
    parts = (
        _headline, _gold, _rounds, _sets, _by_class, _kinds, _judges, _controls, _confusable,
        _confusions,
    )  # fmt: skip
    for part in parts:
        lines += part(facts)
    return "\n".join([*lines, *_provenance(facts)]) + "\n"


def _headline(facts: Facts) -> list[str]:
    if not facts.totals:
        return []
    lines = ["", "## Headline", ""]
    lines += _table(("figure", "value", "95% interval", ""), [
        *((_plain(f["title"]), f["value"], f["interval"], _plain(f["said"]))
          for f in facts.headline),
        *((what, value, "counted", "") for value, what in counted(facts.totals)),
    ], "lrrl")  # fmt: skip
    return lines


def _gold(facts: Facts) -> list[str]:
    found = facts.measures
    if found is None:
        return []
    bound = found["fixed_of_changed"]["one_sided_low"]
    return [
        "", "## Against trusted labels", "",
        f"{title(found)} before {measured(found['labels_before'])}, after "
        f"{measured(found['labels_after'])} of {found['rows']:,} rows with a trusted label.",
        f"{found['fixed']:,} fixed, {found['broken']:,} broken, {found['wrong_to_wrong']:,} "
        f"changed from wrong to wrong, {found['missed']:,} missed ({found['missed_unflagged']:,} "
        f"never flagged, {found['missed_kept']:,} flagged and kept).",
        *_by_origin(found),
        *([f"A change that made a difference fixed a label with a probability of at least "
           f"{percent(bound)} (one-sided 95% bound)."] if bound is not None else []),
        "Trusted labels measure the result; they decide nothing.",
    ]  # fmt: skip


def _by_origin(measures: Mapping[str, Any]) -> list[str]:
    if (apart := measures["by_origin"]) is None:
        return []
    repaired, filled = apart["repaired"], apart["filled"]
    return [
        f"Of {repaired['rows']:,} that had a label: before {measured(repaired['labels_before'])}, "
        f"after {measured(repaired['labels_after'])}. Of {filled['rows']:,} that had none, now "
        f"filled: {measured(filled['labels_after'])}.",
    ]


def _rounds(facts: Facts) -> list[str]:
    if not facts.rounds:
        return []
    rights = facts.measures["rounds"] if facts.measures is not None else []
    dev = any(entry["dev"] for entry in facts.rounds)
    header = ["round", *ROUND_COLUMNS]
    header += [f"{title(facts.measures).lower()} after"] if facts.measures else []
    header += ["small model on dev"] if dev else []
    rows = []
    for entry, right in zip_longest(facts.rounds, rights):
        row = [entry["round"], *(entry[name] for name in ROUND_COLUMNS)]
        row += [measured(right and right["labels_after"])] if facts.measures else []
        row += [measured(entry["dev"])] if dev else []
        rows.append(row)
    return ["", "## Rounds", "", *_table(header, rows, "r" * len(header))]


def _sets(facts: Facts) -> list[str]:
    if not facts.sets:
        return []
    if facts.flows:
        return _flows(facts)
    lines = ["", "## The largest sets of changes", ""]
    if facts.sets_in_all > len(facts.sets):
        lines += [f"{len(facts.sets)} of {facts.sets_in_all:,} sets; the rest is in "
                  "changes.jsonl.", ""]  # fmt: skip
    for entry in facts.sets:
        known = ", ".join(f"{count:,} {word}" for word, count in
                          entry.get("against_gold", {}).items())  # fmt: skip
        lines.append(f"- **{entry['count']:,}** from {_code(entry['old'])} to "
                     f"{_code(entry['new'])}" + (f" ({known})" if known else ""))  # fmt: skip
        examples = [
            c for c in facts.changes if (c["old"], c["new"]) == (entry["old"], entry["new"])
        ]
        for example in examples[:EXAMPLES]:
            lines.append(f"  - {_code(example['id'])} {_plain(example['text'])}")
            if example["why"]:
                lines.append(f"    *{_plain(example['why'])}*")
    return lines


def _flows(facts: Facts) -> list[str]:
    rows = [(_code(e["label"]), e["before"], e["left"], e["came"], e["after"]) for e in facts.flows]
    return [
        "", "## The labels that most rows left or came to", "",
        f"The changes make {facts.sets_in_all:,} sets from one label to another, most of a few "
        "rows; the sets are in changes.jsonl.", "",
        *_table(("label", "before", "left", "came", "after"), rows, "lrrrr"),
    ]  # fmt: skip


def _by_class(facts: Facts) -> list[str]:
    if not facts.by_class:
        return []
    rows = [
        (_code(entry["label"]), entry["before"], entry["after"],
         f"{entry['after'] - entry['before']:+,}")
        for entry in facts.by_class
    ]  # fmt: skip
    header = ("label", "before", "after", "difference")
    return ["", "## Labels before and after", "", *_table(header, rows, "lrrr")]


def _kinds(facts: Facts) -> list[str]:
    if not facts.kinds:
        return []
    gold = "before" in facts.kinds[0]
    header = (
        "kind",
        "label",
        "doubted",
        "changed",
        *(("wrong before", "wrong now") if gold else ()),
    )
    names = ("doubted", "changed", *(("before", "after") if gold else ()))
    rows = [
        (each["kind"], _code(each["label"]), *(each[name] for name in names))
        for each in facts.kinds
    ]  # fmt: skip
    return ["", "## Kinds of errors", "", KINDS, "", *_table(header, rows, "ll" + "r" * len(names))]


def _judges(facts: Facts) -> list[str]:
    if not facts.judges:
        return []
    header = ("judge", "questions", "answered", "abstained", "failed", "calls", "cached",
              "tokens in", "of them cached", "tokens out", "cost", "p50, p95")  # fmt: skip
    rows, reasons, right = [], [], []
    for judge in facts.judges:
        tokens, took = judge["tokens"], judge["seconds"]
        rows.append((
            _code(judge["model"]), judge["questions"], judge["answered"], judge["abstained"],
            judge["failed"], judge["calls"], judge["cached"], tokens["input"], tokens["cached"],
            tokens["output"], money(judge["cost"]),
            f"{latency(took['p50'])}, {latency(took['p95'])}" if took else "",
        ))  # fmt: skip
        reasons += [
            f"- {_code(judge['model'])} {entry['outcome']} ({entry['reason']}): "
            f"{entry['count']:,}, {measured(entry)}"
            for entry in judge["reasons"]
        ]
        if (known := judge["against_gold"]) is not None:
            right.append(
                f"- {_code(judge['model'])} was right on "
                f"{measured(known['accuracy']['answered_only'])} of the items that it "
                f"answered, and on {measured(known['accuracy']['abstained_wrong'])} of all it was "
                "asked about, silence counted wrong; the given labels of those that it answered "
                f"were right on {measured(known['given_labels'])}: it is "
                f"{known['against_labels']}"
            )
    lines = ["", "## Judges, cost and time", "", *_table(header, rows, "l" + "r" * 11)]
    totals = facts.totals
    lines += ["", f"{money(totals['cost'])}, {duration(totals['seconds'])} in all."]
    if totals["cost_unaccounted"]:
        lines.append(f"{money(totals['cost_unaccounted'])} more is counted for calls whose price "
                     "was never told.")  # fmt: skip
    lines += ["", *right] if right else []
    return lines + (["", "Abstained and failed, by reason:", "", *reasons] if reasons else [])


def _controls(facts: Facts) -> list[str]:
    if not facts.controls:
        return []
    lines = ["", "## Controls", ""]
    for entry in facts.controls:
        for name, said in CONTROL_WORDS.items():
            if name in entry:
                lines.append(f"- round {entry['round']}: {said}: {measured(entry[name])} of "
                             f"{entry[name]['of']:,}")  # fmt: skip
    return lines


def _confusable(facts: Facts) -> list[str]:
    if not facts.confusable:
        return []
    lines = ["", "## The most confusable definitions", ""]
    lines += [f"{_plain(facts.no_definitions)}", ""] if facts.no_definitions else []
    for pair in facts.confusable:
        a, b = pair["labels"]
        lines.append(f"- {_code(a)} and {_code(b)}: {pair['changed']:,} changed between them, "
                     f"{pair['confused']:,} confused by the small model")  # fmt: skip
        for name, definition in zip(pair["labels"], pair["definitions"], strict=True):
            lines += [f"  - {_code(name)}: {_plain(definition)}"] if definition else []
    return lines


def _confusions(facts: Facts) -> list[str]:
    lines: list[str] = []
    for matrix in facts.confusions:
        if len(matrix["labels"]) < 2:
            continue
        lines += ["", f"## The small model by {matrix['against']}", ""]
        lines.append(f"Rows: {matrix['against']}; columns: predicted." + (
            f" {matrix['left_out']:,} classes that are confused less are left out."
            if matrix["left_out"] else ""))  # fmt: skip
        names = [_code(label) for label in matrix["labels"]]
        rows = [(name, *counts) for name, counts in zip(names, matrix["counts"], strict=True)]
        lines += ["", *_table(("", *names), rows, "l" + "r" * len(names))]
    return lines


def _provenance(facts: Facts) -> list[str]:
    lines = ["", "## Provenance", ""]
    for kind, entries in facts.provenance.items():
        lines += [f"- {kind}"]
        lines += [f"  - {_plain(name)}: {_code(str(value))}" for name, value in entries.items()]
    return lines


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]], align: str) -> list[str]:
    rules = {"l": "---", "r": "---:"}
    return [_row(header), _row([rules[a] for a in align]), *(_row(row) for row in rows)]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in cells) + " |"


def _code(text: str) -> str:
    """Untrusted text in a code span that it cannot close."""
    flat = " ".join(visible_name(text).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    return f"{ticks} {flat} {ticks}" if "`" in flat else f"`{flat}`"


def _plain(text: str) -> str:
    """Untrusted text with Markdown and HTML made harmless."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in flat)
