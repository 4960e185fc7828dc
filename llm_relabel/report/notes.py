"""What a reader must know to read the figures of a report, in whole sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_relabel.config.judges import PEOPLE
from llm_relabel.report import classes, words
from llm_relabel.report.reading import RunRead
from llm_relabel.units import has_label

# Items without a fitting label from which on a label may be missing.
MISSING = 10


def notes_of(read: RunRead | None, summary: Mapping[str, Any]) -> list[str]:
    """No gold, paused, nothing changed, not checked by people, and the like."""
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
            "Every label was changed. That is rarely right: look at the definitions and the "
            "examples below before the result is used."
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
    found += _taxonomy(read)
    if read.task.unit_note is not None:
        found.append(read.task.unit_note)
    if read.gold is None or not has_label(read.gold).any():
        found.append(
            "No trusted labels were given, so nothing here says whether a change is right: read "
            "examples, or name a column of trusted labels as `data.gold`."
        )
    return found


def _taxonomy(read: RunRead) -> list[str]:
    """What the labels themselves may lack, for people to decide: one that is missing."""
    found = []
    fits_none = [
        verdict.id for each in read.rounds for verdict in each.verdicts.values()
        if verdict.reason == "none_fits"
    ]  # fmt: skip
    ids = list(dict.fromkeys(fits_none))
    if len(ids) >= MISSING:
        found.append(
            f"A label may be missing: the judge found none that fits {len(ids):,} items, such as "
            f"{', '.join(ids[:5])}. Look at them; a definition may also be too narrow."
        )
    return found


def _trust(summary: Mapping[str, Any]) -> list[str]:
    """What spot-checks say of the labels, or that there were none, and what makes them doubtful."""
    checked = summary.get("spot_checks")
    found = [f"Doubtful: {doubt}." for doubt in summary.get("doubts", [])]
    if not checked and summary["judge"]["model"] == PEOPLE:
        found.append(
            "People judged with the candidates in sight, so their answers decide, and nothing "
            "measures how many labels are right; a blind look at a sample would: "
            "`llm-relabel review sample RUN`, then "
            "`review serve RUN --spot-checks`, then the same `run` again."
        )
    elif not checked:
        found.append(
            "Nobody has looked at a sample of these labels, so nothing measures how many are "
            f"right, and nothing holds back changes that do harm. {_settling(summary)}: "
            "`llm-relabel review sample RUN`, then `review serve RUN`, then the same `run` again."
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
    estimates = ", ".join(
        f"{words.WAYS.get(name, name)} {share:.1%}" for name, share in checked["estimates"].items()
    )
    held = "no change had to be held back"
    if checked["held_back"]:
        held = (
            f"{checked['held_back']:,} changes were held back because the spot-checks do not prove "
            f"{proof}"
        )
    found = [
        f"{checked['drawn_at_random']} spot-checks chose how labels are decided: "
        f"{words.WAYS.get(checked['policy'], checked['policy'])} (labels right, estimated: "
        f"{estimates}; that it is no better than keeping all labels: p = "
        f"{checked['p_against_keeping']:.2g}); {held}."
    ]
    certificate = checked["certificate"]
    if "label_accuracy" in certificate:
        noise = certificate["residual_noise"]
        found.append(
            f"Labels still wrong, as the spot-checks certify: {noise['value']:.1%} "
            f"({noise['low'] * 100:.1f} to {noise['high']:.1%}). Method: {certificate['method']}."
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
            "if they are half as good as they look"
        )
    if not summary["changed"]:
        return f"{min(100, summary['rows'])} spot-checks would tell about how good the labels are"
    return (
        "The evidence for these changes is so thin that even a look at every row is not likely to "
        f"prove all of them; {min(100, summary['rows'])} spot-checks tell whether to keep, follow "
        "or weigh, and about how good the labels are"
    )


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
    return f"after the judge's answers all of the {asked:,} labels it was asked about were kept"
