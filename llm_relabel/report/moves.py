"""The changes: the largest sets of them, and examples of each set for people to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from llm_relabel.errors import RelabelError
from llm_relabel.report.reading import RunRead
from llm_relabel.tasks import whole_item
from llm_relabel.units import LabelValue, column, label_json

SETS = 20
CHANGES_SHOWN = 400
LONGEST_TEXT = 300

GOLD_WORDS = ("fixed", "broken", "wrong to wrong")

Line = Mapping[str, Any]
Pair = tuple[str, str]


def sets_of_changes(read: RunRead) -> tuple[list[dict[str, Any]], int]:
    """The largest sets of changes from one label to another, and how many sets there are.

    With gold, `against_gold` says how many changes of a set fixed a label, broke one, or put a
    wrong one in the place of another.
    """
    by_pair = _by_pair(read)
    found = []
    for (old, new), lines in list(by_pair.items())[:SETS]:
        entry: dict[str, Any] = {"old": old, "new": new, "count": len(lines)}
        if read.gold is not None:
            known = Counter(_against_gold(read, line) for line in lines)
            entry["against_gold"] = {word: known[word] for word in GOLD_WORDS if known[word]}
        found.append(entry)
    return found, len(by_pair)


def flows(
    by_class: list[dict[str, Any]], sets: list[dict[str, Any]], sets_in_all: int, changes: int
) -> list[dict[str, Any]]:
    """The labels that most rows left or came to, where the largest sets are a small part of all
    changes and say little; else none."""
    if sets_in_all <= SETS or 2 * sum(entry["count"] for entry in sets) >= changes:
        return []
    moved = [entry for entry in by_class if entry["left"] or entry["came"]]
    return sorted(moved, key=lambda entry: -(entry["left"] + entry["came"]))[:SETS]


def changes_shown(read: RunRead) -> list[dict[str, Any]]:
    """Up to `CHANGES_SHOWN` changes: of every set some, in turn, the largest sets first."""
    waiting = [iter(lines) for lines in _by_pair(read).values()]
    chosen: list[list[Line]] = [[] for _ in waiting]
    left, open_sets = CHANGES_SHOWN, list(range(len(waiting)))
    while left and open_sets:
        for place in list(open_sets):
            line = next(waiting[place], None)
            if line is None:
                open_sets.remove(place)
                continue
            chosen[place].append(line)
            left -= 1
            if not left:
                break
    return [_change(read, line) for lines in chosen for line in lines]


def _by_pair(read: RunRead) -> dict[Pair, list[Line]]:
    """All changes in force by what they changed, the largest sets first."""
    found: dict[Pair, list[Line]] = {}
    for line in read.changes:
        found.setdefault(_pair(read, line), []).append(line)
    return dict(sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0])))


def _pair(read: RunRead, line: Line) -> Pair:
    old, new = (read.task.show_unit(line["unit"], line[name]) for name in ("old", "new"))
    return old, new


def _change(read: RunRead, line: Line) -> dict[str, Any]:
    old, new = _pair(read, line)
    shown = {
        "id": str(line["id"]),
        "round": line["round"],
        "old": old,
        "new": new,
        "text": read.texts.get(line["id"], ""),
        "why": _cut(str(line["why"])),
    }
    if read.task.widget == "spans":
        words = str(line["unit"]).partition(" ")[2]
        before, found, after = shown["text"].partition(words) if words else ("", "", "")
        if found:
            # Of equal words the first may be meant or another: the text may be cut before it.
            gone = "gone" if line["new"] is None else "came"
            shown["marked"] = {"before": before, "words": words, "after": after, "as": gone}
    if read.task.widget == "boxes":
        shown["picture"] = _picture(read, line)
    if read.gold is not None:
        shown["against_gold"] = _against_gold(read, line)
    return shown


def _picture(read: RunRead, line: Line) -> str:
    """The place of a changed box, as a data URL; empty where its picture is not there."""
    from llm_relabel.tasks.box_drawing import changed_place

    name = read.texts.get(line["id"], "")
    if read.pictures is None or not str(line["unit"]).startswith("box "):
        return ""
    final = read.final[read.row_of[line["id"]]] or ()
    try:
        image = changed_place(read.pictures.upright(name), line["unit"], line["old"], line["new"],
                              final)  # fmt: skip
    except RelabelError:
        return ""
    return f"data:{image.media_type};base64,{image.base64}"


def _against_gold(read: RunRead, line: Line) -> str:
    """What one change did by the trusted label: fixed, broken or wrong to wrong; else empty."""
    row = read.row_of[line["id"]]
    if read.gold is None or read.gold[row] is None:
        return ""
    key, gold = line["unit"], read.gold[row]
    if read.task.widget == "boxes":
        return _box_against_gold(read, line, gold)
    values = {whole_item(read.task): label_json(gold)} | read.task.values(gold, read.given[row])
    was, now = line["old"] == values.get(key), line["new"] == values.get(key)
    return "broken" if was else "fixed" if now else "wrong to wrong"


def _box_against_gold(read: RunRead, line: Line, gold: LabelValue) -> str:
    """The same of a box, which gold's own box overlaps and is not."""
    task, key = read.task, line["unit"]
    named = line["old"] if line["new"] is None else line["new"]
    there = column([task.assemble((), {key: named})])
    units = task.units({"label": there, "gold": column([gold])})
    code = task.codes(units, column([gold]))[units.key.tolist().index(key)]
    true = units.kinds[-1].values[code]
    return ("broken" if line["old"] == true else "fixed" if line["new"] == true
            else "wrong to wrong")  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " ..."
