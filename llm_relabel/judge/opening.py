"""From a job to its judges, checked as far as they can be before money is spent."""

from __future__ import annotations

from pathlib import Path

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import Job
from llm_relabel.config.judges import PEOPLE, JudgeMember, JudgeSection, Prices
from llm_relabel.errors import JobError
from llm_relabel.judge.budget import Budget, Ledger
from llm_relabel.judge.cache import VerdictCache
from llm_relabel.judge.prices import is_paid, price_of
from llm_relabel.judge.seam import Judge, Judges
from llm_relabel.judge.without_llm.people import PeopleJudge
from llm_relabel.judge.without_llm.recorded import RecordedJudge
from llm_relabel.models import SmallModel
from llm_relabel.prompts.builder import prompt_builder
from llm_relabel.registry import load
from llm_relabel.tasks import Task

LEDGER = ".spending"


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
    section = job.judge
    cap = section.max_cost if isinstance(section.max_cost, float) else None
    members = dict(zip(section.member_names, section.members, strict=True))
    prices = {name: priced(member, section) for name, member in members.items()}
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
            judges[name] = load(task.embedded_judge)(task, definitions)
        elif member.provider == PEOPLE:
            judges[name] = PeopleJudge(folder, task)
        elif member.provider == "recorded":
            judges[name] = RecordedJudge(name, job.resolve(member.name), task)
        else:
            from llm_relabel.judge.batch.opening import open_batch_api
            from llm_relabel.judge.llm import LLMJudge
            from llm_relabel.judge.providers.opening import open_provider

            if member.provider == "hf" and not _chooses(task):
                raise JobError(
                    f"judge.model {name!r}: a local model scores the labels of a list, and an "
                    f"answer of the task {task.name!r} is none of a list; serve the model (vLLM, "
                    "llama.cpp, Ollama) and name it openai/NAME with judge.base_url"
                )
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


def _chooses(task: Task) -> bool:
    """Whether an answer is a label, or several, of a list."""
    return bool({"label", "labels"} & task.answer_schema()["properties"].keys())


def priced(member: JudgeMember, section: JudgeSection) -> Prices | None:
    prices = price_of(member, uncapped=section.max_cost == "none")
    if section.max_cost is None and is_paid(prices):
        raise JobError(
            f"judge.model {member.model!r} is paid and judge.max_cost is not set; give a cap in "
            "US dollars such as `max_cost: 5.00`, or `max_cost: none` for no cap"
        )
    return prices
