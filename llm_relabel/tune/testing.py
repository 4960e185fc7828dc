"""The one test: the tuned guideline against the first one, on items that nobody had seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.evaluation.gold_set import GoldSet
from llm_relabel.tune import proof
from llm_relabel.tune.outcome import Tested
from llm_relabel.tune.search import Answered, Ask, moved

Pairs = Sequence[tuple[str, Answered, Answered]]


def tested(
    asks: tuple[Ask, Ask], gold: GoldSet, parts: Mapping[str, NDArray[np.int64]],
    start: LabelDefinitions, tests: Sequence[tuple[str, LabelDefinitions]], *, alpha: float,
    look: int,
) -> Tested:  # fmt: skip
    """Ask about each part under `start` and under its guideline, and count all of it together.

    `asks` put the question as it was and as it is now.

    Raises OutOfCalls or Paused; the same test can then be gone on with.
    """
    before_, after_ = asks
    pairs = [(part, before_(start, part), after_(guide, part)) for part, guide in tests]
    moves = [moved(before, after) for _, before, after in pairs]
    fixed, broken = (sum(each[at] for each in moves) for at in (0, 1))
    return Tested(
        items=sum(len(parts[part]) for part, _ in tests),
        fixed=fixed,
        broken=broken,
        right_before=sum(before.right for _, before, _ in pairs),
        right_after=sum(after.right for _, _, after in pairs),
        lost=sum(int((before.lost | after.lost).sum()) for _, before, after in pairs),
        p=proof.p_value(fixed, broken),
        alpha=alpha,
        look=look,
        fell=_fell(gold, parts, pairs),
    )


def in_words(found: Tested, *, halves: bool) -> str:
    """What the test says; `halves`: each half of gold tested what the other had proposed."""
    net = (found.fixed - found.broken) / found.items
    text = (
        f"on {found.items:,} items that nobody had seen the new guideline is right on "
        f"{found.right_after:,}, yours on {found.right_before:,}: {found.fixed} fixed, "
        f"{found.broken} broken, p = {found.p:.2g} (look {found.look} at this gold, which may use "
        f"{found.alpha:.2g})"
    )
    if found.lost:
        text += f"; {found.lost} could not be asked for want of a connection, and are left out"
    if halves:
        text += (
            "; each half tested what the other proposed, so this proves the way of tuning, and "
            "the guideline that is delivered came of it with all of gold"
        )
    if found.proved:
        return f"proved: {text}"
    needed = proof.items_for(net, found.broken / found.items, found.alpha)
    if needed is not None and needed > found.items:
        text += (
            f"; if the gain is what it looks like, {net:+.1%}, about {needed:,} test items would "
            f"prove it, {needed - found.items:,} more"
        )
    return f"not proved: {text}"


def _fell(
    gold: GoldSet, parts: Mapping[str, NDArray[np.int64]], pairs: Pairs
) -> list[dict[str, Any]]:
    """Labels that are found less often than before."""
    counts: dict[str, list[int]] = {}
    for part, before, after in pairs:
        truth = gold.truth[parts[part]]
        columns = {"gold": truth, "one": before.labels, "two": after.labels}
        units = gold.task.units(columns)
        codes = [gold.task.codes(units, each).tolist() for each in columns.values()]
        for at, (true, one, two) in enumerate(zip(*codes, strict=True)):
            name = units.kinds[units.kind[at]].names[true] if true >= 0 else ""
            if name:
                mine = counts.setdefault(name, [0, 0, 0])
                for place, more in enumerate((1, one == true, two == true)):
                    mine[place] += more
    return [
        {"label": name, "of": of, "before": before, "after": after}
        for name, (of, before, after) in counts.items()
        if after < before
    ]
