"""`tune --plan` and `tune --probe`: what a tuning could prove and cost; whether it makes sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_relabel.config.judges import WITHOUT_LLM
from llm_relabel.judge.opening import priced
from llm_relabel.judge.prices import cost_of
from llm_relabel.judge.providers.image_tokens import message_tokens
from llm_relabel.records import Tokens
from llm_relabel.tune import proof
from llm_relabel.tune.asking import Desk
from llm_relabel.tune.guideline import changed
from llm_relabel.tune.search import moved
from llm_relabel.tune.split import FEW, FIRST, MANY, SECOND
from llm_relabel.tune.tuning import Tuning

PROBED = 40  # items, asked twice
# What a judge must lose at least when every definition is the next label's.
NOTICED = 0.05


def plan(tuning: Tuning) -> str:
    """The split, the smallest provable gain, calls and dollars, in words. Nothing is asked."""
    items, most = len(tuning.gold.rows), tuning.settings.max_calls
    counted = {n: len(p) for n, p in tuning.parts.items()
               if tuning.mode != "cross-fit" or n in (FIRST, SECOND)}  # fmt: skip
    parts = ", ".join(f"{count} {name}" for name, count in counted.items())
    lines = [f"{items:,} items with gold: {parts}."]
    look = tuning.looks.number(tuning.test_ids(), "any") if tuning.mode != "proposals" else 1
    alpha = tuning.alpha(look)
    if tuning.mode == "proposals":
        lines.append(
            f"That proves nothing: proposals will be shown unproved. From {FEW} items on halves "
            f"test each other, from {MANY} on a part is locked away for the test."
        )
    else:
        gain = proof.smallest_gain(tuning.test_items, alpha=alpha)
        least = "no gain" if gain is None else f"a gain of {gain:.1%} or more"
        lines.append(
            f"Look {look} at this gold: it may use {alpha:.2g} of the {tuning.settings.alpha:.0%}. "
            f"The {tuning.test_items} test items prove {least} in four of five cases, where "
            f"{proof.BREAKS:.0%} of what is right breaks."
        )
    lines.append(f"At most {most:,} calls, {2 * tuning.test_items:,} of them for the test"
                 f"{_dollars(tuning, most)}.")  # fmt: skip
    writer = tuning.settings.writer
    lines.append(
        "No writer: examples and telling words come from trusted rows of the data (--writer MODEL "
        "lets an LLM write definitions)." if writer is None
        else f"{writer} writes; its calls are among these and its cost under the same cap."
    )  # fmt: skip
    return "\n".join(lines)


def _dollars(tuning: Tuning, calls: int) -> str:
    section, prepared = tuning.job.judge, tuning.prepared
    member = section.members[0]
    if member.provider in WITHOUT_LLM:
        return "; they cost nothing, no LLM is asked"
    if (prices := priced(member, section)) is None:
        return ", price unknown"
    rows = tuning.gold.rows[:50].tolist()
    sizes = [message_tokens(prepared.prompts.build(prepared.dataset.item(row), ()), member)
             for row in rows]  # fmt: skip
    mean = sum(sizes) / len(sizes)
    tokens = Tokens(int(mean * calls), prepared.task.answer_tokens * calls)
    return f": about ${cost_of(tokens, prices):.2f} with the definitions as they are"


@dataclass(frozen=True)
class Probed:
    """Whether a judge reads definitions: answers under the true and under rotated ones."""

    items: int
    changed: int
    right: int
    right_rotated: int
    p: float

    @property
    def told(self) -> str:
        """In words, with what follows."""
        text = (
            f"With every label given the next one's definition, {self.changed} of {self.items} "
            f"answers changed and {self.right_rotated} were right instead of {self.right} "
            f"(p = {self.p:.2g})"
        )
        lost = (self.right - self.right_rotated) / self.items
        if self.p > 0.05 or lost < NOTICED:
            return (
                f"{text}: this judge hardly reads your definitions. Better words will not help "
                "it; try a shorter prompt (`llm-relabel eval JOB --prompt short`), examples "
                "(--change examples), or another judge"
            )
        return f"{text}: this judge reads your definitions"

    def as_json(self) -> dict[str, Any]:
        """As `probe.json` holds it."""
        return {
            "items": self.items, "changed": self.changed, "right": self.right,
            "right_rotated": self.right_rotated, "p": self.p, "told": self.told,
        }  # fmt: skip


def probe(tuning: Tuning) -> Probed:
    """Ask some items under the definitions and under rotated ones. Raises Paused."""
    tuning.folder.mkdir(parents=True, exist_ok=True)
    pool = np.concatenate([
        places for name, places in tuning.parts.items() if name.endswith(("propose", "select"))
    ])  # fmt: skip
    places = np.unique(pool)
    rng = np.random.default_rng(tuning.settings.seed)
    chosen = np.sort(rng.permutation(places)[:PROBED])
    names = list(tuning.start.names)
    entries = {
        name: tuning.start.labels[other].model_copy(
            update={"parent": tuning.start.labels[name].parent,
                    "aliases": tuning.start.labels[name].aliases}
        )
        for name, other in zip(names, [*names[1:], names[0]], strict=True)
    }  # fmt: skip
    desk = Desk(
        tuning.prepared, tuning.predicted, tuning.gold, {"probe": chosen}, tuning.folder,
        tuning.progress,
    )  # fmt: skip
    try:
        desk.allow(desk.budget.calls + 4 * len(chosen))
        true = desk(tuning.start, "probe")
        rotated = desk(changed(tuning.start, entries), "probe")
    finally:
        desk.close()
    worse, better = moved(rotated, true)
    differing = int((true.labels != rotated.labels).sum())
    return Probed(len(chosen), differing, true.right, rotated.right, proof.p_value(worse, better))
