"""The figures of a report, gathered once from the run folder for every form it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llm_relabel.changes import in_force
from llm_relabel.runs import RunFolder

LARGEST = 20
EXAMPLES = 3
CHANGES_SHOWN = 200
LONGEST_TEXT = 300


@dataclass(frozen=True)
class Move:
    """All changes from one label to another: `examples` are a few of them."""

    old: str
    new: str
    count: int
    examples: list[dict[str, str]]


@dataclass(frozen=True)
class Facts:
    """What every form of the report shows."""

    summary: Mapping[str, Any]
    job: Mapping[str, Any]
    sentence: str
    moves: list[Move]
    changes: list[dict[str, str]]
    changes_left_out: int
    by_class: list[tuple[str, int, int]]
    """Class, rows with it before, rows with it now."""


def gather(run: RunFolder, summary: Mapping[str, Any]) -> Facts:
    """Read what the report shows. `summary` is `summary.json`."""
    standing = in_force(run.changes())
    by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in standing:
        by_pair.setdefault((_show(line["old"], line), _show(line["new"], line)), []).append(line)
    largest = sorted(by_pair.items(), key=lambda pair: -len(pair[1]))[:LARGEST]
    shown = standing[:CHANGES_SHOWN]
    examples = [line for _, lines in largest for line in lines[:EXAMPLES]]
    texts = run.excerpts({line["id"] for line in [*shown, *examples]})
    moves = [
        Move(old, new, len(lines), [_change(line, texts) for line in lines[:EXAMPLES]])
        for (old, new), lines in largest
    ]
    return Facts(
        summary=summary,
        job=run.job(),
        sentence=sentence(summary),
        moves=moves,
        changes=[_change(line, texts) for line in shown],
        changes_left_out=max(0, len(standing) - CHANGES_SHOWN),
        by_class=_by_class(run, standing),
    )


def sentence(summary: Mapping[str, Any]) -> str:
    """What was done, in one sentence."""
    if "rows" not in summary:
        return f"The run is {summary['status']}: {summary['reason']}."
    rows, changed = summary["rows"], summary["changed"]
    rounds = len(summary["rounds"])
    return (
        f"{changed:,} of {rows:,} labels were changed ({changed / rows:.1%}) in {rounds} "
        f"round{'' if rounds == 1 else 's'}; {summary['judge']['note']}."
    )


def _by_class(run: RunFolder, standing: list[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    path = run.round(1) / "predictions.parquet"
    if not path.exists():
        return []
    column = pq.read_table(path, columns=["given_label"])["given_label"]
    before: Counter[str] = Counter()
    if pa.types.is_list(column.type):
        before["(no label)"] += column.null_count
        column = pc.list_flatten(column)
    for pair in column.value_counts().to_pylist():
        name = pair["values"]
        before[name if name is not None else "(no label)"] += pair["counts"]
    before = +before
    after = Counter(before)
    for line in standing:
        if isinstance(line["new"], bool):  # one class of a multi-label item
            after[line["unit"]] += 1 if line["new"] else -1
            continue
        for value, step in ((line["old"], -1), (line["new"], 1)):
            for name in value if isinstance(value, list) else [value]:
                after[name if name is not None else "(no label)"] += step
    return [(name, before[name], after[name]) for name in sorted({*before, *after})]


def _change(line: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    return {
        "id": str(line["id"]),
        "round": str(line["round"]),
        "old": _show(line["old"], line),
        "new": _show(line["new"], line),
        "why": _cut(str(line["why"])),
        "text": texts.get(line["id"], ""),
    }


def _show(value: Any, line: Mapping[str, Any]) -> str:
    if isinstance(value, bool):
        return f"{'with' if value else 'without'} {line['unit']}"
    if value is None:
        return "(no label)"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " ..."
