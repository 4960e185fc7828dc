"""Which labels a judge takes for which, unit by unit: type for type, and type for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llm_relabel.tasks import Task
from llm_relabel.units import SILENT, Labels

NOTHING = ""  # the name of "no label here", and of an item without an answer


@dataclass(frozen=True, slots=True)
class Miss:
    """One unit that was answered wrongly: of which item (its place among those asked), its key,
    and the names of what gold and the judge say (NOTHING: it is not there)."""

    place: int
    key: str
    gold: str
    said: str


def misses(task: Task, truth: Labels, answers: Labels) -> list[Miss]:
    """All units on which answers and gold differ, in order; an item without an answer is missed."""
    units = task.units({"gold": truth, "judge": answers})
    gold, said = task.codes(units, truth), task.codes(units, answers)
    found = []
    for at in np.flatnonzero((gold != said) & (gold != SILENT)).tolist():
        kind = units.kinds[units.kind[at]]
        names = [NOTHING if code == SILENT else kind.names[code] for code in (gold[at], said[at])]
        if names[0] != names[1]:
            found.append(Miss(int(units.row[at]), units.key[at], *names))
    return found


def confusions(missed: Sequence[Miss]) -> Mapping[tuple[str, str], list[Miss]]:
    """The misses by (gold, said), the most frequent pair first; then by name."""
    found: dict[tuple[str, str], list[Miss]] = {}
    for miss in missed:
        found.setdefault((miss.gold, miss.said), []).append(miss)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))
