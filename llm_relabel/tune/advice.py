"""What people should look at: labels that could be one, and gold that may be wrong.

Nothing of it decides: the label set is the data's, and gold is people's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.evaluation.gold_set import GoldSet
from llm_relabel.tasks import Task
from llm_relabel.tune.pairs import NOTHING, confusions, misses
from llm_relabel.tune.search import Answered
from llm_relabel.units import Labels, counts_by_name, differs, has_label, label_json

# Of the items of two labels, the share that is taken for the other one, from which on they may be
# one label; and so often in each direction.
MERGE, BOTH_WAYS = 0.25, 2
MOST_SUSPECTS = 20
MISSING = 10

Known = Callable[[LabelDefinitions, str], Answered | None]


def advise(
    ask: Known, gold: GoldSet, places: Mapping[str, NDArray[np.int64]], ids: Sequence[str],
    predicted: Labels, start: LabelDefinitions, best: LabelDefinitions,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Labels to merge, and suspects in gold, of these parts of gold as far as they were asked.

    `ids` and `predicted` (gold items,) are of all of gold.
    """
    found = [
        (mine, before, ask(best, part) or before) for part, mine in places.items()
        if (before := ask(start, part)) is not None
    ]  # fmt: skip
    if not found:
        return [], []
    at = np.concatenate([mine for mine, _, _ in found])
    first = np.concatenate([before.labels for _, before, _ in found])
    last = np.concatenate([after.labels for _, _, after in found])
    truth = gold.truth[at]
    named = [ids[place] for place in at.tolist()]
    return (
        merge_advice(gold.task, truth, first),
        gold_suspects(gold.task, named, truth, predicted[at], [first, last]),
    )


def missing_advice(ids: Sequence[str], texts: Sequence[str]) -> list[dict[str, Any]]:
    """A label that may be missing: items, with their texts, for which the judge found none."""
    if len(ids) < MISSING:
        return []
    first = zip(ids[:5], texts, strict=False)
    shown = "; ".join(f"{item_id}: {text[:60]!r}" for item_id, text in first)
    return [{
        "kind": "missing", "labels": [], "items": len(ids),
        "told": f"for {len(ids)} items the judge found no label that fits ({shown}); one may be "
        "missing, or a definition too narrow",
    }]  # fmt: skip


def merge_advice(task: Task, truth: Labels, answers: Labels) -> list[dict[str, Any]]:
    """Pairs of labels that a judge takes for each other, both ways."""
    pairs = confusions(misses(task, truth, answers))
    units = task.units({"gold": truth})
    sums = counts_by_name(units, task.codes(units, truth)).sum(axis=0).tolist()
    counts = dict(zip(task.names, sums, strict=True))
    found = []
    for (gold, said), mine in pairs.items():
        back = pairs.get((said, gold), ())
        if NOTHING in (gold, said) or gold > said or min(len(mine), len(back)) < BOTH_WAYS:
            continue
        of = counts[gold] + counts[said]
        if (len(mine) + len(back)) / of >= MERGE:
            found.append({
                "kind": "merge", "labels": [gold, said], "items": of,
                "taken": [len(mine), len(back)],
                "told": f"{gold} and {said}: {len(mine)} and {len(back)} of their {of} items are "
                "taken for the other one; they may be one label, or want a rule that tells them "
                "apart",
            })  # fmt: skip
    return found


def gold_suspects(
    task: Task, ids: Sequence[str], truth: Labels, predicted: Labels, answers: Sequence[Labels]
) -> list[dict[str, Any]]:
    """Items on which the small model and the judge, under every guideline, agree on another label
    than gold; at most MOST_SUSPECTS. Most of them are hard items with right gold."""
    found = []
    same = has_label(predicted) & differs(predicted, truth)
    for each in answers:
        same &= ~differs(each, predicted)
    for place in same.nonzero()[0].tolist()[:MOST_SUSPECTS]:
        found.append({
            "id": ids[place], "gold": label_json(truth[place]),
            "judge_and_model": label_json(predicted[place]),
            "told": f"gold: {task.show(truth[place])}; judge and small model: "
            f"{task.show(predicted[place])}",
        })  # fmt: skip
    return found
