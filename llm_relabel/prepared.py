"""Everything that is read and checked before anything is trained, asked or spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel.config.definitions import LabelDefinitions, load_definitions
from llm_relabel.config.job import Job
from llm_relabel.config.judges import WITHOUT_LLM
from llm_relabel.data import Dataset, read_dataset, read_labeled
from llm_relabel.data.label_shapes import list_hint, missing_hint
from llm_relabel.data.languages import english_hint
from llm_relabel.errors import DataError, DefinitionsError, JobError
from llm_relabel.files.cache_store import cache_folder
from llm_relabel.models import Predictions, SmallModel
from llm_relabel.progress import Step
from llm_relabel.prompts.builder import PromptBuilder, prompt_builder
from llm_relabel.prompts.passages import passages
from llm_relabel.spellings import look_alikes, told_look_alikes
from llm_relabel.tasks import Task, open_task, task_type
from llm_relabel.units import Labels, differs, labels_sha256


@dataclass(frozen=True)
class Prepared:
    """A job whose data, definitions and settings were found good.

    `given` are the original labels and `gold` the trusted ones, if any; `own_predictions` is
    what the user brought, or None.
    """

    job: Job
    dataset: Dataset
    definitions: LabelDefinitions
    task: Task
    given: Labels
    gold: Labels | None
    dev: tuple[list[str], Labels] | None
    own_predictions: Predictions | None
    prompts: PromptBuilder
    warnings: tuple[str, ...]
    cache: Path
    untrainable: str | None
    """Why no small model can be trained on the given labels, if so."""

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each id."""
        return {item_id: row for row, item_id in enumerate(self.dataset.ids.to_pylist())}

    def identity(self) -> dict[str, Any]:
        """What must stay the same for a run to go on; see `RunFolder.start`."""
        data, model = self.job.data, self.job.model
        columns = {
            name: value
            for name, value in data.model_dump(mode="json").items()
            if name not in ("path", "dev") and value not in (None, [])
        }
        return {
            "task": self.job.task,
            "data": self.dataset.sha256,
            "columns": ", ".join(f"{name}={value}" for name, value in columns.items()),
            "definitions": self.definitions.sha256(),
            "prompt": self.prompts.sha256,
            "model": ", ".join(f"{k}={v}" for k, v in model.model_dump(mode="json").items()),
            "judge": ", ".join(self.job.judge.member_names),
            "seed": self.job.seed,
        }

    def small_model(self, step: Step) -> SmallModel:
        """The small model of this job; nothing of it is opened before it is needed."""
        return self.task.model(
            self.job.model,
            self.dataset,
            seed=self.job.seed,
            cache=self.cache,
            folder=self.job.folder,
            progress=step,
        )

    def write_dataset(self, folder: Path, labels: Labels) -> int:
        """Write `dataset.*` into `folder`: the data as it came, with these labels (rows,).

        Gives how many differ from the given ones. Raises DataError.
        """
        rows = np.flatnonzero(differs(self.given, labels))
        cells = self.task.to_arrow(labels[rows]).to_pylist()
        self.dataset.write(folder, "dataset", dict(zip(rows.tolist(), cells, strict=True)))
        return len(rows)

    def labels_sha256(self, labels: Labels) -> str:
        """A hash of one column of labels, to tell whether predictions belong to it."""
        units = self.task.units({"labels": labels})
        return labels_sha256(units, self.task.codes(units, labels))


def prepare(job: Job, *, trained: bool = True) -> Prepared:
    """Read and check data, definitions and settings. Raises a RelabelError naming all it found.

    `trained` False: labels that no model could learn from are no problem, only `untrainable`.
    """
    if isinstance(job.labels, str):
        definitions = load_definitions(job.resolve(job.labels))
    else:
        definitions = load_definitions(job.labels)
    _check_inputs(job)
    dataset = read_dataset(job.data, job.resolve, definitions.aliases, task_type(job.task).cells)
    task = open_task(job.task, definitions, dataset.labels.type)
    found = task.findings(dataset)
    problems, warnings, untrainable = found.problems, found.warnings, found.untrainable
    problems += _too_long(job, task, dataset)
    (problems if problems else warnings).extend(_hints(job, definitions, dataset))
    if untrainable is not None and trained:
        problems.append(untrainable)
    if problems:
        raise DefinitionsError(f"data {job.data.path!r}: " + "; ".join(problems))
    if definitions.unwritten:
        told = (
            f"{len(definitions.unwritten)} definitions are still to be written "
            f"({', '.join(definitions.unwritten[:5])}); the judge reads nothing else of a label"
        )
        if any(member.provider not in WITHOUT_LLM for member in job.judge.members):
            raise DefinitionsError(f"labels {job.labels!r}: {told}")
        warnings.append(told)
    warnings += [f"data {job.data.path!r}: {note}" for note in dataset.notes]
    own = None
    if job.model.predictions is not None:
        if job.model.finetune is True:
            raise JobError(
                "model.predictions brings your own predictions, so model.finetune: true would do "
                "nothing; remove one of them"
            )
        own = task.own_predictions(job.resolve(job.model.predictions), dataset)
        if job.data.dev is not None:
            warnings.append("data.dev is not scored: model.predictions brings no model")
    return Prepared(
        job=job,
        dataset=dataset,
        definitions=definitions,
        task=task,
        given=task.read(dataset.labels),
        gold=task.read(dataset.gold) if dataset.gold is not None else None,
        dev=_dev(job, task, definitions.aliases) if own is None else None,
        own_predictions=own,
        prompts=prompt_builder(job, task, job.judge),
        warnings=tuple(warnings),
        cache=cache_folder(),
        untrainable=untrainable,
    )


def _check_inputs(job: Job) -> None:
    """What the task's items are read from. Raises JobError."""
    wanted = task_type(job.task).inputs
    if wanted == "image" and job.judge.evidence == "blind":
        raise JobError(
            "judge.evidence: blind shows a judge no candidates, and of boxes it is asked nothing "
            "else; set judge.evidence: referenced (which of them is the label, it is not told)"
        )
    if (job.data.image is not None) == (wanted == "image"):
        return
    raise JobError(
        f"task {job.task!r} reads data.{wanted}, and the job names data."
        f"{'text' if wanted == 'image' else 'image'}; name the column with each "
        f"{'picture' if wanted == 'image' else 'text'} in data.{wanted}"
    )


def _too_long(job: Job, task: Task, dataset: Dataset) -> list[str]:
    """What cannot be done with texts that a judge reads in passages."""
    limit = job.judge.max_item_tokens
    if task.label_parts is None or not any(member.batch for member in job.judge.members):
        return []
    long = []
    for row, text in enumerate(dataset.text.to_pylist()):
        if len(text) > limit and passages(task, item := dataset.item(row), (), limit):
            long.append(item.id)
    if not long:
        return []
    return [
        f"{len(long):,} texts are longer than judge.max_item_tokens ({limit:,}), such as "
        f"{', '.join(map(repr, long[:3]))}: a judge reads them in passages, which a batch does "
        "not; set judge.batch: false, or raise the key"
    ]


def _hints(job: Job, definitions: LabelDefinitions, dataset: Dataset) -> list[str]:
    """What label values may be that the job does not say."""
    used = dataset.label_counts()
    hints = [missing_hint(job.data, used, definitions.names)]
    if not dataset.multi_label:
        hints.append(list_hint(job.data, used))
    reads_words = job.data.image is None
    if reads_words and job.model.encoder == "embedded" and job.model.predictions is None:
        hints.append(english_hint(dataset.text))
    counts = dict.fromkeys(definitions.names, 0) | used
    return [*filter(None, hints), *_look_alikes(counts)]


def _look_alikes(counts: dict[str, int]) -> list[str]:
    groups = look_alikes(counts)
    if not groups:
        return []
    return [
        f"labels that look alike are different labels: {told_look_alikes(groups, counts)}; where "
        "they are one, `aliases: [...]` under it in the label definitions joins them"
    ]


def _dev(job: Job, task: Task, aliases: Mapping[str, str]) -> tuple[list[str], Labels] | None:
    if job.data.dev is None:
        return None
    if job.data.image is not None:
        raise JobError("data.dev is not offered for pictures; measure the labels with data.gold")
    dataset = read_labeled(job.data, job.data.dev, job.resolve, aliases, task_type(job.task).cells)
    problems = task.findings(dataset).problems
    if problems:
        raise DataError(f"data.dev {job.data.dev!r}: " + "; ".join(problems))
    return dataset.text.to_pylist(), task.read(dataset.labels)
