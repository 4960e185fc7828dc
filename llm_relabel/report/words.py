"""Figures in words: percentages with their intervals, money, and the headline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_relabel.agreement import proportion
from llm_relabel.config.judges import PEOPLE
from llm_relabel.measure import title, told


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


def headline(
    measures: Mapping[str, Any] | None,
    saved: Mapping[str, Any] | None,
    judges: list[dict[str, Any]],
    controls: list[dict[str, Any]],
) -> list[dict[str, str]]:
    """The figures to read first: `title`, `value`, its 95% `interval`, and what is `said` of it."""
    found: list[dict[str, str]] = []

    def add(name: str, figure: Mapping[str, Any] | None, said: str) -> None:
        if figure is not None and figure.get("value", figure.get("rate")) is not None:
            value = figure["value"] if "value" in figure else figure["rate"]
            found.append({"title": name, "value": told(value, figure), "interval": interval(figure),
                          "said": said})  # fmt: skip

    if measures is not None:
        of = f"of {measures['rows']:,} rows with a trusted label"
        add(f"{title(measures)} before", measures["labels_before"], of)
        add(f"{title(measures)} after", measures["labels_after"], of)
        if (apart := measures["by_origin"]) is not None:
            add(
                "Of these, repaired",
                apart["repaired"]["labels_after"],
                f"of {apart['repaired']['rows']:,} rows that had a label, "
                f"{told(apart['repaired']['labels_before']['value'], measures)} before",
            )
            add("Of these, filled", apart["filled"]["labels_after"],
                f"of {apart['filled']['rows']:,} rows that had none")  # fmt: skip
        change = measures["difference"]
        if change["value"] is not None:
            found.append({
                "title": "Difference",
                "value": told(change["value"], change, signed=True).replace("%", " points"),
                "interval": interval(change).replace("%", " points"),
                "said": f"{measures['fixed']:,} fixed, {measures['broken']:,} broken",
            })  # fmt: skip
        add("Changes that fixed", measures["fixed_of_changed"],
            "of those that fixed or broke a label")  # fmt: skip
        flagging = measures["flagging"]
        if flagging is not None:
            add("Flags that were right", flagging["precision"], "precision of flagging, round 1")
            add("Wrong labels flagged", flagging["recall"], "recall of flagging, round 1")
            add("Ranking of doubtful labels", flagging["average_precision"],
                "average precision of flagging, round 1")  # fmt: skip
    for judge in judges[:2]:
        if judge["questions"]:
            add("Questions answered", proportion(judge["answered"], judge["questions"]),
                _silent(judge))  # fmt: skip
    if controls:
        newest = controls[-1]
        add("Same answer again", newest.get("repeat_consistency"), "of questions put twice")
        add("Planted wrong labels kept", newest.get("planted_kept"), "lower is better")
        add("Wrong on confirmed rows", newest.get("confirmed_wrong"), "lower is better")
    if saved is not None and saved["saved"] is not None:
        by_people = bool(judges) and judges[0]["model"] == PEOPLE
        found.append({
            "title": "Questions saved" if by_people else "Calls saved",
            "value": percent(saved["saved"]), "interval": "",
            "said": f"{saved['calls']:,} instead of about {saved['everything']:,} for every row",
        })  # fmt: skip
    return found
