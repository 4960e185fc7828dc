"""The judge plane: asks in, verdicts out.

`Judge` is the one seam that the rounds know. Behind it: `llm.py` asks a chat provider
(one file per provider), `recorded.py` reads answers collected elsewhere, `embedded.py`
needs no LLM at all, `people.py` waits for people. `asking.py` puts many asks to one judge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.judges import PEOPLE, JudgeMember, JudgeSection, Prices
from llm_relabel.errors import JobError
from llm_relabel.models import SmallModel
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.registry import load
from llm_relabel.units import Labels

if TYPE_CHECKING:
    from llm_relabel.config.definitions import LabelDefinitions
    from llm_relabel.config.job import Job
    from llm_relabel.judge.budget import Budget
    from llm_relabel.judge.cache import VerdictCache
    from llm_relabel.tasks import Task

LEDGER = ".spending"


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
    def settled(self) -> bool:
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


def open_judges(
    job: Job,
    task: Task,
    definitions: LabelDefinitions,
    *,
    cache: Path,
    model: SmallModel,
    spent: float = 0.0,
    folder: Path | None = None,
) -> Judges:
    """The judges that the job names, checked as far as they can be before money is spent.

    `model` is the small one, which judges without an LLM use. `spent` is what earlier processes
    of this run paid, in US dollars; `folder` is the run's,
    where the ledger and the batches are kept (None: nothing will be asked). Raises JobError.
    """
    from llm_relabel.judge.budget import Budget, Ledger
    from llm_relabel.judge.cache import VerdictCache

    section = job.judge
    cap = section.max_cost if isinstance(section.max_cost, float) else None
    members = dict(zip(section.member_names, section.members, strict=True))
    prices = {name: _price(member, section) for name, member in members.items()}
    kept = folder is not None and any(price is not None for price in prices.values())
    ledger = Ledger(folder / LEDGER) if folder is not None and kept and cap is not None else None
    budget = Budget(cap, spent=spent, ledger=ledger)
    store: VerdictCache | None = None
    judges: dict[str, Judge] = {}
    for name, member in members.items():
        if member.provider == "embedded":
            if task.embedded_judge is None:
                raise JobError(
                    f"judge.model 'embedded': the task {task.name!r} has no judge without an LLM; "
                    "name a language model, `recorded/FILE` or `people`"
                )
            model.open()
            judges[name] = load(task.embedded_judge)(task, definitions, model.encode)
        elif member.provider == PEOPLE:
            from llm_relabel.judge.without_llm.people import PeopleJudge

            judges[name] = PeopleJudge(folder, task)
        elif member.provider == "recorded":
            from llm_relabel.judge.without_llm.recorded import RecordedJudge

            judges[name] = RecordedJudge(name, job.resolve(member.name), task)
        else:
            from llm_relabel.judge.llm import LLMJudge
            from llm_relabel.judge.providers.opening import open_batch_api, open_provider
            from llm_relabel.prepared import prompt_builder

            if section.cache and store is None:
                store = VerdictCache(cache)
            llm = LLMJudge(
                open_provider(member, job.folder),
                member,
                task,
                prompt_builder(job, task, member),
                name=name,
                prices=prices[name],
                cache=store,
                budget=budget,
                sampled=name == section.model and section.samples > 1,
            )
            if member.batch:
                from llm_relabel.judge.batch import BatchJudge

                api = open_batch_api(member, job.folder)
                judges[name] = BatchJudge(llm, api, folder)
            else:
                judges[name] = llm
    return Judges(judges, budget, store)


def _price(member: JudgeMember, section: JudgeSection) -> Prices | None:
    from llm_relabel.judge.prices import is_paid, price_of

    prices = price_of(member, uncapped=section.max_cost == "none")
    if section.max_cost is None and is_paid(prices):
        raise JobError(
            f"judge.model {member.model!r} is paid and judge.max_cost is not set; give a cap in "
            "US dollars such as `max_cost: 5.00`, or `max_cost: none` for no cap"
        )
    return prices
