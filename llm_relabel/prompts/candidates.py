"""Which labels a prompt shows as candidates, and in what order."""

from __future__ import annotations

import random

from llm_relabel.records import LabelIssue
from llm_relabel.units import LabelValue


def choose_candidates(
    issue: LabelIssue, *, runner_up: LabelValue, seed: int, shuffle: int = 0
) -> tuple[LabelValue, ...]:
    """The given, current and predicted label of an issue, each once, in a seeded order.

    A single candidate would be a hint, so the model's `runner_up` joins one that stands alone.
    The order depends on the item, the seed and the number of the `shuffle` only: the same
    question in a later round is the same prompt, and its verdict is reused.
    """
    wanted: list[LabelValue] = []
    for label in (issue.given_label, issue.current_label, issue.predicted_label):
        if label is not None and label not in wanted:
            wanted.append(label)
    if len(wanted) < 2 and runner_up is not None and runner_up not in wanted:
        wanted.append(runner_up)
    wanted.sort(key=repr)
    again = f":{shuffle}" if shuffle else ""
    random.Random(f"{seed}:{issue.id}{again}").shuffle(wanted)
    return tuple(wanted)
