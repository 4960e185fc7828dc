"""The search: all labels change at once, what does not help is halved, one guideline is left.

Any change of the guideline re-asks every item, for the prompt's stable part holds all of it. So a
proposal changes all labels that errors speak of, and its halves are tried only where it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.tasks import Task
from llm_relabel.tune.guideline import Proposal, changed, entry_of, size
from llm_relabel.tune.pairs import Miss, misses
from llm_relabel.units import Labels

LEVELS = 3  # how often a proposal that fails is halved
MOST_ROUNDS = 8


@dataclass(frozen=True)
class Answered:
    """A judge's answers under one guideline: `labels` (items,), and `errors` (items,), how far each
    is from gold (0: right). `lost` (items,) never reached the judge, and count for nothing."""

    labels: Labels
    errors: NDArray[np.float64]
    lost: NDArray[np.bool_]

    @property
    def right(self) -> int:
        """How many are right."""
        return int((self.errors == 0).sum())


class OutOfCalls(Exception):
    """Raised by an `Ask` that would go over what may be asked."""


class Ask(Protocol):
    """Puts items of one part of gold to the judge under a guideline. Raises OutOfCalls, Paused."""

    def __call__(self, guide: LabelDefinitions, part: str) -> Answered:
        """The answers in the part's order; nothing is asked twice."""
        ...


Proposer = Callable[[LabelDefinitions, Sequence[Miss]], Sequence[Proposal]]


@dataclass
class Candidate:
    """One guideline that was tried, and what came of it on `select`."""

    number: int
    parent: int | None
    guide: LabelDefinitions
    proposals: tuple[Proposal, ...]
    by: str
    fixed: int = 0
    broken: int = 0
    right: int = 0
    kept: bool = False


@dataclass
class Found:
    """The best guideline, all that were tried, and why the search ended."""

    best: Candidate
    tried: list[Candidate] = field(default_factory=list)
    ended: str = ""

    @property
    def proposals(self) -> dict[str, Proposal]:
        """What made the best one, by label: the last word on each."""
        chain: list[Candidate] = []
        at: int | None = self.best.number
        while at is not None:
            chain.append(self.tried[at])
            at = self.tried[at].parent
        return {each.label: each for one in reversed(chain) for each in one.proposals}


class Search:
    """One search on two parts of gold: errors on `propose` teach, `select` chooses."""

    def __init__(
        self, task: Task, truth: Labels, ask: Ask, propose: str, select: str,
        note: Callable[[Candidate], None],
    ) -> None:  # fmt: skip
        """`truth` is gold of the `propose` part; `note` hears of each candidate, decided."""
        self._task, self._truth, self._ask = task, truth, ask
        self._propose, self._select, self._note = propose, select, note
        self._tried: list[Candidate] = []

    def run(
        self, start: LabelDefinitions, drafts: Sequence[Sequence[Proposal]],
        proposers: Sequence[Proposer],
    ) -> Found:  # fmt: skip
        """Try the drafts, then rounds of the proposers, until nothing gains or calls run out."""
        best = self._add(start, None, (), "start")
        try:
            self._score(best)
            best.kept = True
            for draft in drafts:
                best = self._better(best, draft, halved=False)
            for _ in range(MOST_ROUNDS):
                before = best
                for propose in proposers:
                    missed = misses(
                        self._task, self._truth, self._ask(best.guide, self._propose).labels
                    )
                    if missed and (new := list(propose(best.guide, missed))):
                        best = self._better(best, new)
                if best is before:
                    return Found(best, self._tried, "no proposal gained any more")
            return Found(best, self._tried, f"{MOST_ROUNDS} rounds are over")
        except OutOfCalls as error:
            return Found(best_of(self._tried), self._tried, str(error))

    def _better(
        self, best: Candidate, proposals: Sequence[Proposal], level: int = 0, *, halved: bool = True
    ) -> Candidate:
        """The best of `best` and these proposals, whole or in halves."""
        labels = {each.label: each.definition for each in proposals}
        real = {n: d for n, d in labels.items() if entry_of(best.guide, n) not in (None, d)}
        if not real:
            return best
        mine = tuple(each for each in proposals if each.label in real)
        by = mine[0].by if level == 0 else f"{mine[0].by}, a part of it"
        tried = self._add(changed(best.guide, real), best.number, mine, by)
        self._score(tried, best)
        if self._gains(tried, best):
            tried.kept = True
            self._note(tried)
            return tried
        self._note(tried)
        if not halved or level >= LEVELS or len(mine) < 2:
            return best
        half = len(mine) // 2
        for part in (mine[:half], mine[half:]):
            best = self._better(best, part, level + 1)
        return best

    def _gains(self, tried: Candidate, best: Candidate) -> bool:
        net = tried.fixed - tried.broken
        return net > 0 or (net == 0 and size(tried.guide) < size(best.guide))

    def _score(self, tried: Candidate, best: Candidate | None = None) -> None:
        mine = self._ask(tried.guide, self._select)
        tried.right = mine.right
        if best is not None:
            theirs = self._ask(best.guide, self._select)
            tried.fixed, tried.broken = moved(theirs, mine)

    def _add(
        self, guide: LabelDefinitions, parent: int | None, proposals: tuple[Proposal, ...], by: str
    ) -> Candidate:
        candidate = Candidate(len(self._tried), parent, guide, proposals, by)
        self._tried.append(candidate)
        return candidate


def best_of(tried: Sequence[Candidate]) -> Candidate:
    """The last one that was kept: each was kept because it beat the one before."""
    return next(each for each in reversed(tried) if each.kept or each.parent is None)


def moved(before: Answered, after: Answered) -> tuple[int, int]:
    """How many items came nearer to gold, and how many went away from it."""
    both = ~(before.lost | after.lost)
    nearer, farther = after.errors < before.errors, after.errors > before.errors
    return int((nearer & both).sum()), int((farther & both).sum())
