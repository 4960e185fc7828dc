"""The judge plane: asks in, verdicts out.

`Judge` is the one seam that the rounds know. Behind it: `llm.py` asks a chat provider
(one file per provider), `recorded.py` reads answers collected elsewhere, `embedded.py`
needs no LLM at all. `asking.py` puts many asks to one judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llm_relabel.errors import JobError
from llm_relabel.records import Ask, Item, Targets, Verdict

if TYPE_CHECKING:
    from llm_relabel.definitions import LabelDefinitions
    from llm_relabel.job import Job
    from llm_relabel.prompts import PromptBuilder
    from llm_relabel.tasks import Task

EmbedTexts = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class RoundEvidence:
    """What one round offers a judge that decides from the data itself.

    `embeddings` gives (rows, d) unit vectors when called; `targets` are the current labels;
    `trusted` is (rows,) bool, rows that were not flagged; rows that share a number in
    `groups` must not vouch for each other.
    """

    embeddings: Callable[[], NDArray[np.float32]]
    targets: Targets
    trusted: NDArray[np.bool_]
    groups: NDArray[np.int64]


class Judge(Protocol):
    """Answers asks. `is_llm` is False where no language model is involved, None if unknown."""

    @property
    def name(self) -> str:
        """The job's spelling of the judge."""
        ...

    @property
    def is_llm(self) -> bool | None:
        """Whether a language model answers; None if unknown."""
        ...

    @property
    def settled(self) -> bool:
        """True where the same question always has the same verdict, whatever the round's labels."""
        ...

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Called once before a round's asks."""
        ...

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """One verdict. A failure is a verdict too; only Paused is raised."""
        ...

    async def aclose(self) -> None:
        """Close connections and files."""
        ...


def open_judge(
    job: Job,
    task: Task,
    definitions: LabelDefinitions,
    prompts: PromptBuilder,
    *,
    cache: Path,
    embed: EmbedTexts,
    spent: float = 0.0,
) -> Judge:
    """The judge that the job names, checked as far as it can be before money is spent.

    `spent` is what earlier processes of this run paid, in US dollars. Raises JobError.
    """
    section = job.judge
    if section.provider == "embedded":
        from llm_relabel.judge.embedded import EmbeddedJudge

        return EmbeddedJudge(definitions, exclusive=_exclusive(task), embed=embed)
    if section.provider == "recorded":
        from llm_relabel.judge.recorded import RecordedJudge

        return RecordedJudge(section.model, job.resolve(section.name), task)
    from llm_relabel.judge.cache import VerdictCache
    from llm_relabel.judge.llm import LLMJudge
    from llm_relabel.judge.prices import is_paid, price_of
    from llm_relabel.judge.providers import open_provider

    prices = price_of(section)
    if section.max_cost is None and is_paid(prices):
        raise JobError(
            f"judge.model {section.model!r} is paid and judge.max_cost is not set; give a cap in "
            "US dollars such as `max_cost: 5.00`, or `max_cost: none` for no cap"
        )
    return LLMJudge(
        open_provider(section, job.folder),
        section,
        task,
        prompts,
        prices=prices,
        cache=VerdictCache(cache) if section.cache else None,
        spent=spent,
    )


def _exclusive(task: Task) -> bool:
    return not task.prompt_constants()["multi_label"]
