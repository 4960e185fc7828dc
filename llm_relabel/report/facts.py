"""The figures of a report, gathered once from the run folder for every form it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from llm_relabel.agreement.run_measures import RoundLabels, run_measures, scored
from llm_relabel.report import classes, judged, lead, moves
from llm_relabel.report.notes import notes_of
from llm_relabel.report.reading import RoundRead, RunRead, read_run
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.units import has_label

BINS = 20
SETTINGS = (
    ("task",), ("data", "path"), ("model", "encoder"), ("model", "finetune"),
    ("model", "predictions"), ("detect", "budget"), ("detect", "quality"), ("judge", "model"),
    ("judge", "evidence"), ("judge", "samples"), ("judge", "controls"), ("judge", "max_cost"),
    ("decide", "policy"), ("rounds",), ("seed",),
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What every form of the report shows; plain data throughout, as `report.json` holds it."""

    name: str
    """The run folder's name."""
    sentence: str
    notes: list[str]
    """What a reader must know to read the figures: no gold, paused, nothing changed, ..."""
    status: str
    reason: str
    warnings: list[str]
    provenance: dict[str, Any]
    headline: list[dict[str, str]] = field(default_factory=list)
    """The figures to read first, in words; see `lead.cards`."""
    totals: dict[str, Any] = field(default_factory=dict)
    """Rows, changed, calls, cached, tokens, cost, seconds, rolled_back; empty before round 1."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    measures: dict[str, Any] | None = None
    """Against gold; see `agreement.run_measures`. None where there is none."""
    saved: dict[str, Any] | None = None
    by_class: list[dict[str, Any]] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    sets_in_all: int = 0
    flows: list[dict[str, Any]] = field(default_factory=list)
    """Where the changes make too many small sets: the labels that most rows left or came to."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    changes_in_all: int = 0
    quality: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[dict[str, Any]] = field(default_factory=list)
    judges: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    confusable: list[dict[str, Any]] = field(default_factory=list)
    no_definitions: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything, for `report.json`."""
        return asdict(self)


def gather(run: RunFolder, summary: Mapping[str, Any]) -> Facts:
    """Read what the report shows. `summary` is `summary.json`."""
    job = run.job()
    read = read_run(run, len(summary["rounds"])) if "rows" in summary else None
    about = {
        "name": run.path.name,
        "sentence": sentence(summary),
        "status": summary["status"],
        "reason": summary["reason"],
        "warnings": list(summary.get("warnings", [])),
        "provenance": _provenance(run, job, summary),
    }
    if read is None:
        return Facts(notes=notes_of(None, summary), **about)
    measures, saved = _measures(read), judged.saved(read)
    judges, controls = judged.judges(read, summary), judged.controls(summary)
    by_class = classes.by_class(read)
    sets, sets_in_all = moves.sets_of_changes(read)
    return Facts(
        **about,
        notes=notes_of(read, summary),
        headline=lead.cards(summary, measures, saved, judges, controls),
        totals=_totals(summary),
        rounds=[_round(entry) for entry in summary["rounds"]],
        measures=measures,
        saved=saved,
        by_class=by_class,
        flows=moves.flows(by_class, sets, sets_in_all, len(read.changes)),
        sets=sets,
        sets_in_all=sets_in_all,
        changes=moves.changes_shown(read),
        changes_in_all=len(read.changes),
        quality=[_quality(each) for each in read.rounds],
        confusions=classes.confusions(read),
        kinds=classes.kinds(read),
        judges=judges,
        controls=controls,
        confusable=classes.confusable(read),
        no_definitions=read.no_definitions,
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


def _totals(summary: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "rows", "changed", "missing_labels", "calls", "cached", "tokens", "cost",
        "cost_unaccounted", "seconds", "rolled_back", "judge", "policy", "evidence",
    )  # fmt: skip
    return {name: summary[name] for name in names}


def _round(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "round", "flagged", "judged", "replaced", "kept", "abstained", "failed", "deferred",
        "frozen",
    )  # fmt: skip
    return {
        **{name: entry[name] for name in names},
        "model": entry.get("model", ""),
        "dev": scored(entry.get("dev")),
    }


def _measures(read: RunRead) -> dict[str, Any] | None:
    if read.gold is None or not has_label(read.gold).any():
        return None
    rounds = [
        RoundLabels(
            current=each.current, predicted=each.predicted, after=each.after,
            flagged=each.flagged, quality=each.quality,
            asked=np.array([read.row_of[item] for item in each.calls], dtype=np.int64),
            calls=np.array(list(each.calls.values()), dtype=np.int64),
        )
        for each in read.rounds
    ]  # fmt: skip
    return run_measures(read.task, read.given, read.final, read.gold, rounds)


def _quality(each: RoundRead) -> dict[str, Any]:
    """Counts of label quality in equal bins; `cut` is the highest quality of a flagged row."""
    edges = np.linspace(0, 1, BINS + 1)
    flagged, kept = each.quality[each.flagged], each.quality[~each.flagged]
    return {
        "round": each.number,
        "edges": [round(float(edge), 4) for edge in edges],
        "flagged": np.histogram(flagged, edges)[0].tolist(),
        "unflagged": np.histogram(kept, edges)[0].tolist(),
        "cut": float(flagged.max()) if len(flagged) else None,
    }


def _provenance(
    run: RunFolder, job: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for path in SETTINGS:
        value: Any = job
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and value is not False:
            settings[".".join(path)] = value
    name = run.path.name
    return {
        "versions": dict(summary.get("versions", {})),
        "hashes": dict(job["hashes"]),
        "settings": settings,
        "commands": {
            "run, or go on": "llm-relabel run JOB",
            "this report anew": f"llm-relabel report {name}",
            "undo one change": f"llm-relabel rollback {name} --id ID",
            "undo a kind of change": f"llm-relabel rollback {name} --label LABEL",
        },
    }
