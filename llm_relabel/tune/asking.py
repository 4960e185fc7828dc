"""The judge under one guideline after the other, within one cap on calls and money."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.errors import Paused
from llm_relabel.evaluation.asking import VERDICTS, Variant, VariantAsker
from llm_relabel.evaluation.figures import answers_of
from llm_relabel.evaluation.gold_set import GoldSet
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files.journal import read_lines
from llm_relabel.judge.llm import LLMJudge
from llm_relabel.judge.opening import open_judges
from llm_relabel.judge.seam import Judge, Judges
from llm_relabel.prepared import Prepared
from llm_relabel.progress import Progress, unheard
from llm_relabel.prompts.builder import prompt_builder
from llm_relabel.records import Verdict
from llm_relabel.tasks import open_task
from llm_relabel.tune.search import Answered, Ask, OutOfCalls
from llm_relabel.units import Labels, has_label

WRITER = "writer.jsonl"
Result = TypeVar("Result")


class Desk:
    """Asks one judge about parts of gold; what is known is never asked again.

    The cap on `questions` is reckoned before a part is asked, so that a search goes the same way
    whatever a provider's day is like; attempts are capped beneath it, re-asks and retries too.
    """

    def __init__(
        self, prepared: Prepared, predicted: Predicted, gold: GoldSet,
        parts: Mapping[str, NDArray[np.int64]], folder: Path, progress: Progress,
    ) -> None:  # fmt: skip
        """`parts` are places in gold by the part's name. Raises JobError."""
        self._prepared, self._predicted, self._gold = prepared, predicted, gold
        self.parts, self._folder, self._progress = parts, folder, progress
        self._loop = asyncio.Runner()
        self._known: dict[tuple[str, str, str | None], Answered] = {}
        self._asked: set[tuple[str, str | None, int]] = set()
        self.form: str | None = None
        """The bundled form of the prompt that is asked in, None: the job's own template."""
        paid = [*read_lines(folder / VERDICTS), *read_lines(folder / WRITER)]
        self.judges = open_judges(
            prepared.job, prepared.task, prepared.definitions, cache=prepared.cache,
            model=prepared.small_model(unheard), folder=folder,
            spent=sum(line.get("cost") or 0.0 for line in paid),
        )  # fmt: skip
        self.budget = self.judges.budget
        if self.judges.first.is_llm:
            self.budget.calls = sum(line.get("calls") or 0 for line in paid)
        self.most_questions = 0
        self.fits_none: set[str] = set()
        """Items for which the judge, under the first guideline, found no label."""

    @property
    def questions(self) -> int:
        """How many questions were planned so far."""
        return len(self._asked)

    def allow(self, calls: int) -> None:
        """From now on so many calls in all."""
        self.most_questions = calls
        self.budget.most_calls, self.budget.calls_refused = calls, False

    def __call__(self, guide: LabelDefinitions, part: str) -> Answered:
        key = (guide.sha256(), part, self.form)
        if key not in self._known:
            self._known[key] = self._ask(guide, part)
        return self._known[key]

    def in_form(self, form: str | None) -> Ask:
        """The same desk, asking in this form of the prompt."""

        def ask(guide: LabelDefinitions, part: str) -> Answered:
            before, self.form = self.form, form
            try:
                return self(guide, part)
            finally:
                self.form = before

        return ask

    def known(self, guide: LabelDefinitions, part: str) -> Answered | None:
        """What was answered before, if this was asked."""
        return self._known.get((guide.sha256(), part, self.form))

    def _ask(self, guide: LabelDefinitions, part: str) -> Answered:
        places, sha = self.parts[part], guide.sha256()
        new = {(sha, self.form, place) for place in places.tolist()} - self._asked
        if self.questions + len(new) > self.most_questions:
            raise OutOfCalls(
                f"{len(new):,} more questions would go over the {self.most_questions:,} calls that "
                "are allowed"
            )
        self._asked |= new
        prepared = under(self._prepared, guide, self.form)
        rows = self._gold.rows[places]
        judges = self._judges_under(prepared)
        asker = VariantAsker(
            Variant(sha[:12], prepared, replace(self._predicted, task=prepared.task)), judges,
            self._folder, self._loop, self._progress,
        )  # fmt: skip
        asks = asker.label_asks(rows)
        try:
            verdicts = asker.put(asks, f"{len(rows):,} items of {part}")
        except Paused:
            if not self.budget.calls_refused:
                raise
            raise OutOfCalls(
                f"the {self.budget.most_calls:,} calls that are allowed were made"
            ) from None
        by_id = {ask.id: verdicts[ask.ask_id] for ask in asks}
        if sha == self._prepared.definitions.sha256() and self.form is None:
            self.fits_none |= {i for i, each in by_id.items() if each.reason == "none_fits"}
        ids = [prepared.dataset.ids[row].as_py() for row in rows.tolist()]
        answers, _ = answers_of(self._gold.task, ids, by_id)
        return answered(self._gold, places, answers.labels, unreached(ids, by_id))

    def _judges_under(self, prepared: Prepared) -> Judges:
        first: Judge = self.judges.first
        if isinstance(first, LLMJudge):
            judge: Judge = first.under(prepared.task, prepared.prompts)
        else:
            judge = open_judges(
                prepared.job, prepared.task, prepared.definitions, cache=prepared.cache,
                model=prepared.small_model(unheard), folder=self._folder,
            ).first  # fmt: skip
        return Judges({judge.name: judge}, self.budget, None)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the desk's event loop."""
        return self._loop.run(work)

    def close(self) -> None:
        """Close the judge and the loop."""
        self._loop.run(self.judges.aclose())
        self._loop.close()


def answered(
    gold: GoldSet, places: NDArray[np.int64], labels: Labels, lost: NDArray[np.bool_]
) -> Answered:
    """Answers and how far they are from gold; `lost` (items,) never reached the judge."""
    truth = gold.truth[places]
    measure = gold.task.measure
    errors = measure.errors(measure.counts(labels, truth)) + ~has_label(labels)
    return Answered(labels, np.asarray(errors, dtype=np.float64), lost)


def unreached(ids: Sequence[str], verdicts: Mapping[str, Verdict]) -> NDArray[np.bool_]:
    """(items,) whether no answer could come: a fault of the way, not of judge or guideline."""
    return np.array([verdicts[each].reason == "transport" for each in ids], dtype=np.bool_)


def under(prepared: Prepared, guide: LabelDefinitions, form: str | None = None) -> Prepared:
    """The job as it is under another guideline of the same labels, and in another prompt form."""
    job = prepared.job
    if form is not None:
        judge = job.judge.model_copy(update={"template": form})
        job = job.model_copy(update={"judge": judge})
    task = open_task(job.task, guide, prepared.dataset.labels.type)
    prompts = prompt_builder(job, task, job.judge)
    return replace(prepared, job=job, definitions=guide, task=task, prompts=prompts)
