"""The figures that a report leads with: how doubtful, how many changed, how right, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_relabel.agreement.intervals import share
from llm_relabel.config.judges import PEOPLE
from llm_relabel.report import words

Card = dict[str, str]

HUNDRED = 100
# How many points the belief in the labels was above the truth, in the middle and the worst tenth of
# the recorded judges of evals/relabeling.py; `tests/test_report_lead.py` holds them against its
# results.
TOO_HIGH = {"judges": 62, "middle": 37, "p90": 52}


def cards(
    summary: Mapping[str, Any],
    measures: Mapping[str, Any] | None,
    saved: Mapping[str, Any] | None,
    judges: list[dict[str, Any]],
    controls: list[dict[str, Any]],
) -> list[Card]:
    """The figures to read first: `title`, `value`, its 95% `interval`, and what is `said` of it.

    What was measured comes first, if anything was; then what was doubted and done.
    """
    certified = words.certified(summary.get("spot_checks"), summary["rows"])
    found = [*certified, *words.against_gold(measures), *_done(summary)]
    if not certified and measures is None and summary["judge"]["model"] != PEOPLE:
        found += _believed(summary)
    return found + words.judging(judges, controls) + words.calls_saved(saved, judges)


def _done(summary: Mapping[str, Any]) -> list[Card]:
    rows, changed, rounds = summary["rows"], summary["changed"], summary["rounds"]
    if not rounds:
        return []
    flagged = rounds[0]["flagged"]
    filled = _filled(summary)
    return [
        _card("Doubtful labels", flagged, rows,
              "the small model, which never saw a row's own label, predicts another; or there is "
              "none"),
        _card("Labels changed", changed, rows,
              f"{filled:,} of them had no label and were filled" if filled else
              "each with its reason and its way back"),
    ]  # fmt: skip


def _filled(summary: Mapping[str, Any]) -> int:
    now = int(summary["missing_labels"])  # runs of before 0.2 do not say how many there were
    return max(0, int(summary.get("missing_before", now)) - now)


def _card(title: str, count: int, of: int, said: str) -> Card:
    return {"title": title, "value": f"{count:,}", "interval": f"{count / of:.1%} of {of:,}",
            "said": said}  # fmt: skip


def _believed(summary: Mapping[str, Any]) -> list[Card]:
    """How right the labels are believed to be, how sure that is, and what a look would add."""
    believed = summary.get("believed")
    if not believed:
        return []
    rows, sample = summary["rows"], min(HUNDRED, summary["rows"])
    figure = share(round(believed["after"] * sample), sample)
    wide = 0.0 if figure.low is None or figure.high is None else (figure.high - figure.low) / 2
    needed = summary.get("spot_checks_to_settle")
    if sample == rows:
        measured = "every label looked at would be known to be right or wrong"
    else:
        measured = "would measure how many labels are right to within so much"
    if needed is not None:
        measured += f"; about {needed:,} would tell whether the changes do more good than harm"
    return [
        {
            "title": "Believed right now", "value": words.percent(believed["after"]),
            "interval": f"{words.percent(believed['before'])} before",
            "said": "what labels, small model and judge make each other believe, not a "
            f"measurement: with {TOO_HIGH['judges']} recorded judges on hard sets it was "
            f"{TOO_HIGH['middle']} points too high in the middle case, {TOO_HIGH['p90']} in the "
            "worst tenth",
        },
        {
            "title": f"{sample} spot-checks would add",
            "value": f"\u00b1{100 * wide:.0f} points", "interval": "",
            "said": measured,
        },
    ]  # fmt: skip
