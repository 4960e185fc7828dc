"""The change log: replayed over the given labels it gives the corrected dataset.

`changes.jsonl` is append-only. A line says what one unit became and why; undoing one is
another line. The labels are always the given ones plus the replay, so the log can be
trusted: nothing else changes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from llm_relabel.records import Change
from llm_relabel.tasks import Task, assembled
from llm_relabel.units import ITEM, Labels, LabelValue

# The run itself takes its own lines back when a round is decided again (another policy, a
# failed verdict that came through); a person's rollback stays in force.
REDECIDED = "redecided"
# A round that data.dev or the spot-checks vetoed: taken back by the run, and staying so.
DEV, SPOT_CHECKS = "dev", "spot-checks"
VETOES = frozenset({DEV, SPOT_CHECKS})

# The changes of one unit, each built on the one before, with their places in the log.
Chain = list[tuple[int, Mapping[str, Any]]]


def change_line(change: Change, at: str) -> dict[str, Any]:
    """A change as its line in the log; `at` is an ISO 8601 time."""
    line = {field.name: getattr(change, field.name) for field in fields(change)}
    return {**line, "ask_ids": list(change.ask_ids), "at": at}


def undo_line(line: Mapping[str, Any], *, source: str, why: str, at: str) -> dict[str, Any]:
    """The line that takes `line` back."""
    return {
        **line,
        "old": line["new"],
        "new": line["old"],
        "source": source,
        "why": why,
        "kind": "rollback",
        "at": at,
    }


def replay(
    lines: Iterable[Mapping[str, Any]], task: Task, given_of: Callable[[str], LabelValue]
) -> dict[str, LabelValue]:
    """The labels that differ from the given ones after all lines, by id."""
    labels: dict[str, LabelValue] = {}
    for line in lines:
        item_id = line["id"]
        old = labels[item_id] if item_id in labels else given_of(item_id)
        labels[item_id] = assembled(task, old, {line["unit"]: line["new"]})
    return {item_id: label for item_id, label in labels.items() if label != given_of(item_id)}


def in_force(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The changes that still hold, in order: none that was rolled back, or that the run itself
    withdrew later on by giving the unit its first label again."""
    return _in_order(map(_since_first_label, _chains(lines)))


def _since_first_label(chain: Chain) -> Chain:
    """The links after the last one that brought the unit back to the label it began with."""
    back = [n for n, (_, line) in enumerate(chain, 1) if line["new"] == chain[0][1]["old"]]
    return chain[back[-1] :] if back else chain


def _in_order(chains: Iterable[Chain]) -> list[Mapping[str, Any]]:
    links = [link for chain in chains for link in chain]
    return [line for _, line in sorted(links, key=lambda link: link[0])]


def _chains(lines: Iterable[Mapping[str, Any]]) -> list[Chain]:
    """Each unit's changes: a rollback takes back the latest."""
    standing: dict[tuple[str, str], Chain] = {}
    for position, line in enumerate(lines):
        stack = standing.setdefault((line["id"], line["unit"]), [])
        if line["kind"] == "change":
            stack.append((position, line))
        elif stack:
            stack.pop()
    return list(standing.values())


def reconcile(
    lines: Sequence[Mapping[str, Any]], round_number: int, wanted: Sequence[Change], at: str
) -> list[dict[str, Any]]:
    """The lines to append so that this round's changes are exactly `wanted`.

    Nothing where a resumed run decides what it had decided; otherwise the round's and all
    later rounds' changes are taken back first, newest first, and then made anew. A person's
    rollbacks are left out of the comparison and stay in force. So does a veto of the same changes,
    but against a person's answer; other changes are for the veto to look at again.
    """
    answered = {(change.id, change.unit) for change in wanted if change.source == "human"}
    binds = _veto_binds(lines, round_number, [c for c in wanted if c.source != "human"], answered)
    undone = {
        (line["id"], line["unit"])
        for line in lines
        if _stays_undone(line)
        and (
            line["source"] not in VETOES
            or (
                (binds or line["round"] != round_number)
                and (line["id"], line["unit"]) not in answered
            )
        )
    }

    def is_undone(item_id: str, unit: str) -> bool:
        # Who undid an item's first label undid what was made of its units after that.
        return (item_id, unit) in undone or (item_id, ITEM) in undone

    own = [line for line in lines if not is_undone(line["id"], line["unit"])]
    planned = [change_line(c, at) for c in wanted if not is_undone(c.id, c.unit)]
    standing = _in_order(_chains(own))
    here = {_essence(line) for line in standing if line["round"] == round_number}
    if here <= {_essence(line) for line in planned}:
        missing = [line for line in planned if _essence(line) not in here]
        # More of a round that was stopped half way only adds to it, but what later rounds
        # made of it before must be made anew.
        if not missing or not any(line["round"] > round_number for line in standing):
            return missing
    taken_back = [
        undo_line(line, source=REDECIDED, why=f"round {round_number} was decided again", at=at)
        for line in reversed(standing)
        if line["round"] >= round_number
    ]
    return taken_back + planned


def roll_back(
    lines: Sequence[Mapping[str, Any]],
    chosen: Callable[[Mapping[str, Any]], bool],
    *,
    why: str,
    at: str,
    source: str = "human",
) -> list[dict[str, Any]]:
    """The lines that undo the chosen changes in force, newest first.

    A later change of the same unit goes with the chosen one, and one of any unit with the item's
    first label: it was built on it. A veto takes back
    also what its round withdrew; people undo changes, and never make one anew.
    """
    undo: list[Mapping[str, Any]] = []
    hit: set[tuple[str, str]] = set()
    standing = _in_order(_chains(lines)) if source in VETOES else in_force(lines)
    for line in standing:
        unit, item = (line["id"], line["unit"]), (line["id"], ITEM)
        if unit in hit or item in hit or chosen(line):
            hit.add(unit)
            undo.append(line)
    return [undo_line(line, source=source, why=why, at=at) for line in reversed(undo)]


def undone_by_people(lines: Iterable[Mapping[str, Any]]) -> int:
    """How many changes people took back."""
    return sum(_stays_undone(line) and line["source"] not in VETOES for line in lines)


def _veto_binds(
    lines: Sequence[Mapping[str, Any]], round_number: int, wanted: Sequence[Change],
    answered: set[tuple[str, str]],
) -> bool:  # fmt: skip
    """Whether the newest veto of this round was of just the `wanted` changes.

    A veto is one block of lines: before another, the round's changes were made anew.
    """
    blocks = groupby(lines, lambda x: x["source"] in VETOES and x["round"] == round_number)
    *_, newest = [], *(list(block) for vetoed, block in blocks if vetoed)
    vetoed = {(x["id"], x["unit"], repr(x["new"]), repr(x["old"])) for x in newest}
    planned = {(c.id, c.unit, repr(c.old), repr(c.new)) for c in wanted}
    return {x for x in vetoed if x[:2] not in answered} == planned


def _stays_undone(line: Mapping[str, Any]) -> bool:
    return bool(line["kind"] == "rollback" and line["source"] != REDECIDED)


def _essence(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return (line["round"], line["id"], line["unit"], repr(line["old"]), repr(line["new"]))


def corrected_labels(
    lines: Sequence[Mapping[str, Any]], task: Task, given: Labels, ids: Iterable[str]
) -> Labels:
    """The given labels with the log replayed over them; `ids` in the order of the rows."""
    touched = {line["id"] for line in lines}
    final = given.copy()
    if not touched:
        return final
    row_of = {item_id: row for row, item_id in enumerate(ids) if item_id in touched}
    replayed = replay(lines, task, lambda item_id: given[row_of[item_id]])
    for item_id, label in replayed.items():
        final[row_of[item_id]] = label
    return final
