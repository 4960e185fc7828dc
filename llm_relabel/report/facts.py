"""The figures of a report, gathered once from the run folder for every form it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from llm_relabel.agreement.run_measures import RoundLabels, run_measures, scored
from llm_relabel.config.judges import PEOPLE
from llm_relabel.report import classes, judged, moves, words
from llm_relabel.report.reading import RoundRead, RunRead, read_run
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks import is_one_choice
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
    """The figures to read first, in words; see `words.headline`."""
    totals: dict[str, Any] = field(default_factory=dict)
    """Rows, changed, calls, cached, tokens, cost, seconds, rolled_back; empty before round 1."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    measures: dict[str, Any] | None = None
    """Against gold; see `agreement.run_measures`. None where there is none."""
    saved: dict[str, Any] | None = None
    by_class: list[dict[str, Any]] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    sets_in_all: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)
    changes_in_all: int = 0
    quality: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)
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
        return Facts(notes=_notes(None, summary), **about)
    measures, saved = _measures(read), judged.saved(read)
    judges, controls = judged.judges(read, summary), judged.controls(summary)
    sets, sets_in_all = moves.sets_of_changes(read)
    return Facts(
        **about,
        notes=_notes(read, summary),
        headline=[
            *words.certified(summary.get("spot_checks"), summary["rows"]),
            *words.headline(measures, saved, judges, controls),
        ],
        totals=_totals(summary),
        rounds=[_round(entry) for entry in summary["rounds"]],
        measures=measures,
        saved=saved,
        by_class=classes.by_class(read),
        sets=sets,
        sets_in_all=sets_in_all,
        changes=moves.changes_shown(read),
        changes_in_all=len(read.changes),
        quality=[_quality(each) for each in read.rounds],
        confusions=classes.confusions(read),
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


def _trust(summary: Mapping[str, Any]) -> list[str]:
    """What spot-checks say of the labels, or that there were none, and what makes them doubtful."""
    checked = summary.get("spot_checks")
    found = [f"Doubtful: {doubt}." for doubt in summary.get("doubts", [])]
    if not checked and summary["judge"]["model"] == PEOPLE:
        found.append(
            "Uncertified: people judged with the candidates in sight, so their answers decide "
            "and certify nothing; blind spot-checks would: `llm-relabel review sample RUN`, then "
            "`review serve RUN --spot-checks`, then the same `run` again."
        )
    elif not checked:
        found.append(
            "Ungated: nobody spot-checked this run, so nothing checks what the policy "
            f"`{summary['policy']}` changes, and nothing certifies the labels. "
            f"{_settling(summary)}: `llm-relabel review sample RUN`, then `review serve RUN`, "
            "then the same `run` again."
        )
    elif "note" in checked:
        found.append(f"{checked['note'].capitalize()}.")
    else:
        found += _by_spot_checks(checked, summary.get("min_precision"))
    if summary.get("min_precision") and not summary.get("gated"):
        found.append(
            f"`decide.min_precision` {summary['min_precision']:.0%} was not applied: only "
            "spot-checks prove a precision, from 20 that were drawn at random."
        )
    return found


def _by_spot_checks(checked: Mapping[str, Any], min_precision: float | None) -> list[str]:
    """What the spot-checks chose and certify, and how."""
    proof = "that such changes do more good than harm"
    if min_precision:
        proof += f", or that {min_precision:.0%} of them are right"
    estimates = ", ".join(f"{name} {share:.1%}" for name, share in checked["estimates"].items())
    held = "no change had to be held back"
    if checked["held_back"]:
        held = (
            f"{checked['held_back']:,} changes were held back because the spot-checks do not prove "
            f"{proof}"
        )
    found = [
        f"By {checked['drawn_at_random']} spot-checks the policy `{checked['policy']}` was chosen "
        f"(labels right, estimated: {estimates}; against keeping all labels p = "
        f"{checked['p_against_keeping']:.2g}); {held}."
    ]
    certificate = checked["certificate"]
    if "label_accuracy" in certificate:
        noise = certificate["residual_noise"]
        found.append(
            f"Certified residual noise: {noise['value']:.1%} ({noise['low'] * 100:.1f} to "
            f"{noise['high']:.1%}). Method: {certificate['method']}."
        )
    elif "note" in certificate:
        found.append(f"Nothing is certified: {certificate['note']}.")
    return found


def _settling(summary: Mapping[str, Any]) -> str:
    """How many spot-checks would tell whether the changes do more good than harm."""
    count = summary.get("spot_checks_to_settle")
    if count is not None:
        return (
            f"About {count:,} spot-checks would settle whether the changes do more good than harm, "
            "if half of what the evidence believes of them is real"
        )
    if not summary["changed"]:
        return f"{min(100, summary['rows'])} spot-checks would tell about how good the labels are"
    return (
        "The evidence for these changes is so thin that even a look at every row is not likely to "
        f"prove all of them; {min(100, summary['rows'])} spot-checks tell which policy is better, "
        "and about how good the labels are"
    )


def _notes(read: RunRead | None, summary: Mapping[str, Any]) -> list[str]:
    found = []
    if summary["status"] in ("paused", "interrupted", "running"):
        found.append(
            f"The run is {summary['status']} and not at its end: the figures are of what was "
            "done so far, and the same command goes on."
        )
    if summary["status"] == "failed":
        found.append("The run failed: the figures are of what was done before.")
    if read is None:
        found.append("No round has come far enough to show anything of it.")
        return found
    found += _trust(summary)
    for each in summary["rounds"]:
        if "rolled_back" in each:
            found.append(f"{each['rolled_back'].capitalize()}.")
        if "stopped" in each:
            found.append(f"Round {each['round']} asked no further: {each['stopped']['why']}.")
    changed, rows = summary["changed"], summary["rows"]
    if changed == 0:
        found.append(f"Nothing was changed: {_why_nothing(summary)}. The dataset is as it came.")
    elif changed == rows:
        found.append(
            "Every label was changed. That is rarely right: look at the definitions, the policy "
            "and the examples below before the result is used."
        )
    used = [each["label"] for each in classes.by_class(read) if each["after"]]
    used = [name for name in used if name in read.names]
    if len(used) == 0:
        found.append("No class is left on any row.")
    elif len(used) == 1:
        found.append(
            f"Only one class is left, {used[0]!r}: a model that is trained on it can "
            "tell nothing apart."
        )
    if not is_one_choice(read.task):
        found.append(
            "A row may have several labels: a change adds one class to a row or takes one away, "
            "and a row is right only with exactly its set."
        )
    if read.gold is None or not has_label(read.gold).any():
        found.append(
            "No trusted labels were given, so nothing here says whether a change is right: read "
            "examples, or name a column of trusted labels as `data.gold`."
        )
    return found


def _why_nothing(summary: Mapping[str, Any]) -> str:
    rounds = summary["rounds"]
    flagged, asked = sum(r["flagged"] for r in rounds), sum(r["judged"] for r in rounds)
    if summary.get("rolled_back"):
        return "people took every change back"
    if gone := [str(each["round"]) for each in rounds if "rolled_back" in each]:
        return f"round {' and '.join(gone)} was rolled back"
    if not flagged:
        return "the small model doubts no label"
    if not asked:
        return f"{flagged:,} labels were flagged and none was judged"
    silent = sum(r["abstained"] + r["failed"] for r in rounds)
    if silent == asked:
        return f"the judge gave no answer on any of the {asked:,} rows that it was asked about"
    return f"the judge, under the policy, kept all of the {asked:,} labels it was asked about"


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
