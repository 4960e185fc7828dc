"""Figures in words: percentages with their intervals, money, and the headline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_relabel.agreement import proportion
from llm_relabel.config.judges import PEOPLE
from llm_relabel.measure import title, told

# What the table of kinds of errors says.
KINDS = (
    "Doubted: what would be wrong with the flagged labels if the small model were right. Changed: "
    "what was mended. A label can be missing, spurious, of another type or class, have other "
    "borders, or lie beside its object."
)
# How labels are decided, in words that need no manual.
WAYS = {
    "keep": "keeping every label",
    "replace": "following the judge",
    "replace doubted": "following the judge on doubtful rows",
    "agree": "following the judge where the small model agrees",
    "fuse": "weighing all evidence",
    "fuse boldly": "weighing all evidence, given labels like any other",
    "fuse doubted": "weighing all evidence on doubtful rows",
    "pool": "weights fitted to the spot-checks",
}


def percent(value: float | None) -> str:
    """A share of 0..1 as people write it."""
    return "n/a" if value is None else f"{value:.1%}"


def interval(figure: Mapping[str, Any] | None) -> str:
    """The 95% interval of a share, in words where there is none or too few cases."""
    if figure is None or figure.get("low") is None or figure.get("high") is None:
        return ""
    text = f"{figure['low'] * 100:.1f} to {figure['high'] * 100:.1f}%"
    if not figure.get("percent", True):
        text = f"{told(figure['low'], figure)} to {told(figure['high'], figure)}"
    return f"{text}, too few cases" if figure["of"] < 20 else text


def measured(figure: Mapping[str, Any] | None) -> str:
    """A share with its interval, on one line."""
    if figure is None:
        return "n/a"
    value = figure["value"] if "value" in figure else figure["rate"]
    around = interval(figure)
    shown = "n/a" if value is None else told(value, figure)
    return shown + (f" ({around})" if around else "")


def money(cost: float | None) -> str:
    """Dollars; a price that nobody knows is said to be unknown."""
    if cost is None:
        return "unknown"
    if cost == 0:
        return "$0"
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def latency(seconds: float) -> str:
    """The time of one answer."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def counted(totals: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was counted and so has no interval: value, and what it is."""
    if not totals:
        return []
    called = "judge calls" if totals["judge"]["is_llm"] else "questions to the judge, no LLM"
    if totals["judge"]["model"] == PEOPLE:
        called = "answers of the judges, people first"
    found = [
        (f"{totals['rows']:,}", "rows"),
        (f"{totals['changed']:,}", f"labels changed ({totals['changed'] / totals['rows']:.1%})"),
        (f"{totals['calls']:,}", called),
        (f"{totals['cached']:,}", "answers from the cache"),
        (money(totals["cost"]), "cost"),
        (duration(totals["seconds"]), "time"),
    ]
    if totals["rolled_back"]:
        found.append((f"{totals['rolled_back']:,}", "rolled back by people"))
    return found


def _silent(judge: Mapping[str, Any]) -> str:
    if judge["answered"] == judge["questions"]:
        return f"by {judge['model']}"
    return f"by {judge['model']}; {judge['abstained']:,} abstained, {judge['failed']:,} failed"


def _certified_rows(certificate: Mapping[str, Any], rows: int) -> str:
    of = certificate["rows"]
    told = "all rows" if of == rows else f"the {of:,} rows that are not locked"
    others = certificate.get("other_labels")
    return told + (f" ({others:,} have another label than was certified: both ends allow for it)"
                   if others else "")  # fmt: skip


def certified(checked: Mapping[str, Any] | None, rows: int) -> list[dict[str, str]]:
    """The certificate as the first figure, where spot-checks give one."""
    told = ((checked or {}).get("certificate") or {}).get("label_accuracy")
    if told is None or checked is None:
        return []
    n, unsure = checked["certificate"]["n"], checked["certificate"].get("unsure", 0)
    return [{
        "title": "Certified: labels right", "value": f"{told['value']:.1%}",
        "interval": f"{told['low'] * 100:.1f} to {told['high']:.1%}",
        "said": f"of {_certified_rows(checked['certificate'], rows)}, by {n} blind spot-checks" + (
            f"; {unsure} more were unsure: wrong at the low end, right at the high"
            if unsure else ""
        ) + (
            f"; provisional: {left} that were drawn have no answer, and hard ones among them may "
            "be right less often" if (left := checked.get("unanswered", 0)) else ""
        ),
    }]  # fmt: skip


def against_gold(measures: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """What trusted labels measure: `title`, `value`, its 95% `interval`, and what is `said`."""
    found: list[dict[str, str]] = []
    if measures is None:
        return found
    of = f"of {measures['rows']:,} rows with a trusted label"
    _add(found, f"{title(measures)} before", measures["labels_before"], of)
    _add(found, f"{title(measures)} after", measures["labels_after"], of)
    if (apart := measures["by_origin"]) is not None:
        _add(
            found,
            "Of these, repaired",
            apart["repaired"]["labels_after"],
            f"of {apart['repaired']['rows']:,} rows that had a label, "
            f"{told(apart['repaired']['labels_before']['value'], measures)} before",
        )
        _add(found, "Of these, filled", apart["filled"]["labels_after"],
             f"of {apart['filled']['rows']:,} rows that had none")  # fmt: skip
    change = measures["difference"]
    if change["value"] is not None:
        found.append({
            "title": "Difference",
            "value": told(change["value"], change, signed=True).replace("%", " points"),
            "interval": interval(change).replace("%", " points"),
            "said": f"{measures['fixed']:,} fixed, {measures['broken']:,} broken",
        })  # fmt: skip
    _add(found, "Changes that fixed", measures["fixed_of_changed"],
         "of those that fixed or broke a label")  # fmt: skip
    flagging = measures["flagging"]
    if flagging is not None:
        _add(
            found,
            "Doubts that were right",
            flagging["precision"],
            "of the labels doubted in round 1 so many were wrong",
        )
        _add(
            found,
            "Wrong labels doubted",
            flagging["recall"],
            "of the wrong labels so many were doubted in round 1",
        )
        _add(found, "Ranking of doubtful labels", flagging["average_precision"],
             "average precision: 100% puts every wrong label before every right one")  # fmt: skip
    return found


def judging(judges: list[dict[str, Any]], controls: list[dict[str, Any]]) -> list[dict[str, str]]:
    """How often judges answered, and what the controls say of them."""
    found: list[dict[str, str]] = []
    for judge in judges[:2]:
        if judge["questions"]:
            _add(found, "Questions answered", proportion(judge["answered"], judge["questions"]),
                 _silent(judge))  # fmt: skip
    if controls:
        newest = controls[-1]
        _add(found, "Same answer again", newest.get("repeat_consistency"), "of questions put twice")
        _add(found, "Planted wrong labels kept", newest.get("planted_kept"), "lower is better")
        _add(found, "Wrong on confirmed rows", newest.get("confirmed_wrong"), "lower is better")
    return found


def calls_saved(
    saved: Mapping[str, Any] | None, judges: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Calls against asking about every row."""
    if saved is None or not saved["saved"]:
        return []
    by_people = bool(judges) and judges[0]["model"] == PEOPLE
    return [{
        "title": "Questions saved" if by_people else "Calls saved",
        "value": percent(saved["saved"]), "interval": "",
        "said": f"{saved['calls']:,} instead of about {saved['everything']:,} for every row",
    }]  # fmt: skip


def _add(
    found: list[dict[str, str]], name: str, figure: Mapping[str, Any] | None, said: str
) -> None:
    if figure is not None and figure.get("value", figure.get("rate")) is not None:
        value = figure["value"] if "value" in figure else figure["rate"]
        found.append({"title": name, "value": told(value, figure), "interval": interval(figure),
                      "said": said})  # fmt: skip
