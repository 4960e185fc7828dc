"""What the rounds know of a judge, and what a round offers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llm_relabel.judge.budget import Budget
from llm_relabel.judge.cache import VerdictCache
from llm_relabel.models import SmallModel
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.units import Labels


@dataclass(frozen=True, slots=True)
class RoundEvidence:
    """What one round offers a judge that decides from the data itself.

    `model` is the job's small model; `labels` (rows,) are the current labels; `trusted`
    is (rows,) bool, rows that were not flagged; rows that share a number in
    `groups` must not vouch for each other; `number` is the round's, from 1.
    """

    model: SmallModel
    labels: Labels
    trusted: NDArray[np.bool_]
    groups: NDArray[np.int64]
    number: int = 1


class Judge(Protocol):
    """Answers asks. `is_llm` is False where no language model is involved, None if unknown."""

    @property
    def name(self) -> str:
        """The judge's name in the job: its model, numbered where that occurs again."""
        ...

    @property
    def is_llm(self) -> bool | None:
        """Whether a language model answers; None if unknown."""
        ...

    @property
    def repeatable(self) -> bool:
        """True where the same question always has the same verdict, whatever the round's labels."""
        ...

    @property
    def concurrency(self) -> int:
        """How many asks may be under way at once."""
        ...

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Called once before a round's asks."""
        ...

    def stop(self, reason: str) -> None:
        """Begin nothing more: what still waits for its turn ends with Paused(`reason`)."""
        ...

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """One verdict. A failure is a verdict too; only Paused is raised."""
        ...

    async def aclose(self) -> None:
        """Close connections and files."""
        ...


@runtime_checkable
class ManyAtOnce(Judge, Protocol):
    """A judge that takes all asks together, such as a provider's batch API."""

    def verdicts(
        self, asks: Iterable[Ask], item_of: Callable[[int], Item]
    ) -> AsyncIterator[Verdict]:
        """The verdicts as they arrive, in any order. Raises Paused after all that could come."""
        ...


@runtime_checkable
class ChangesItsMind(Judge, Protocol):
    """A judge whose answers may change, or be taken back, after they became verdicts."""

    def outdated(self, verdicts: Iterable[Verdict]) -> set[str]:
        """The asks of those verdicts that no longer hold."""
        ...


class Judges:
    """The judges of a job by name, the first one first, and the money they share."""

    def __init__(self, judges: Mapping[str, Judge], budget: Budget, cache: VerdictCache | None):
        self._judges = dict(judges)
        self.budget = budget
        self._cache = cache

    @property
    def first(self) -> Judge:
        """The judge that is asked about every issue."""
        return next(iter(self._judges.values()))

    def __getitem__(self, name: str) -> Judge:
        return self._judges[name]

    def __iter__(self) -> Iterator[Judge]:
        return iter(self._judges.values())

    async def aclose(self) -> None:
        """Close all of them."""
        for judge in self._judges.values():
            await judge.aclose()
        if self._cache is not None:
            self._cache.close()
        self.budget.close()
