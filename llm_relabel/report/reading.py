"""What a run folder holds, as arrays: labels of every round, gold, questions and verdicts.

Everything is read back from the folder, so that `llm-relabel report` needs neither the original
data nor the process that ran.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinition, LabelDefinitions, load_definitions
from llm_relabel.config.job import Job
from llm_relabel.config.judges import PEOPLE
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.data.pictures import Pictures
from llm_relabel.errors import RelabelError
from llm_relabel.records import Verdict
from llm_relabel.run_folder.changes import corrected_labels, in_force
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.run_folder.lines import latest
from llm_relabel.tasks import Task, assembled, open_task, task_type
from llm_relabel.units import Labels


@dataclass(frozen=True)
class RoundRead:
    """One round. `current` are the labels it began with, `after` those it ended with.

    `flagged` is (rows,) bool; `quality` (rows,), LOWER is worse; `probs` (rows, classes).
    `verdicts` holds the last verdict of each ask; `calls` every item's calls, answers from a
    cache counted as one, by id, in the order of asking, controls left out.
    """

    number: int
    current: Labels
    predicted: Labels
    quality: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    after: Labels
    asks: Sequence[Mapping[str, Any]]
    verdicts: Mapping[str, Verdict]
    calls: Mapping[str, int]


@dataclass(frozen=True)
class RunRead:
    """A run as it stands. `final` are the labels with everything in force, rollbacks too.

    `pictures` opens those that items are. `gold` is None where the job names none; `definitions`
    None where they cannot be had as they were in the run, and `no_definitions` then says why.
    `changes` are those in force.
    """

    task: Task
    row_of: Mapping[str, int]
    given: Labels
    final: Labels
    gold: Labels | None
    pictures: Pictures | None
    locked: NDArray[np.bool_]
    definitions: LabelDefinitions | None
    no_definitions: str
    rounds: list[RoundRead]
    changes: list[Mapping[str, Any]]
    texts: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, in the order of all matrices."""
        return self.task.names


def read_run(run: RunFolder, rounds: int) -> RunRead | None:
    """The run's first so many rounds, or None while none has got as far as its predictions."""
    first = run.round(1) / "predictions.parquet"
    if not first.exists():
        return None
    job, hashes = run.as_job(), run.job()["hashes"]
    table = pq.read_table(first, columns=["id", "given_label"])
    names = _class_names(first)
    definitions, missing = _definitions(job, hashes.get("definitions"))
    task = open_task(job.task, definitions or _bare(names), table["given_label"].type)
    ids = table["id"].to_pylist()
    row_of = {item_id: row for row, item_id in enumerate(ids)}
    given = task.read(table["given_label"])
    dataset = _dataset(run, job, definitions.aliases if definitions else {})
    # Another file in the place of the run's own would shift every pair: joined by id, or not.
    same = dataset is not None and dataset.ids.to_pylist() == ids
    gold = locked = None
    if dataset is not None and same:
        gold = task.read(dataset.gold) if dataset.gold is not None else None
        locked = dataset.locked
    folder = _picture_folder(job)
    log = run.changes()
    standing = in_force(log)
    return RunRead(
        task=task,
        row_of=row_of,
        given=given,
        final=corrected_labels(log, task, given, ids),
        gold=gold,
        pictures=None if folder is None else Pictures(Path(folder)),
        locked=locked if locked is not None else np.zeros(len(ids), dtype=np.bool_),
        definitions=definitions,
        no_definitions=missing,
        rounds=_rounds(run, task, row_of, rounds),
        changes=standing,
        texts=run.excerpts({line["id"] for line in standing}),
    )


def _rounds(run: RunFolder, task: Task, row_of: Mapping[str, int], rounds: int) -> list[RoundRead]:
    found: list[RoundRead] = []
    # Folders beyond the summary's rounds are of a run that was since decided otherwise.
    for number in range(1, rounds + 1):
        path = run.round(number) / "predictions.parquet"
        issues = run.round(number) / "issues.jsonl"
        if not (path.exists() and issues.exists()):  # stopped before anything was flagged
            break
        columns = ["current_label", "predicted_label", "label_quality"]
        table = pq.read_table(path, columns=columns)
        flagged = np.zeros(len(row_of), dtype=np.bool_)
        flagged[[row_of[item_id] for item_id in run.flagged(number)]] = True
        current = task.read(table["current_label"])
        asks, verdicts = run.asks(number), run.verdicts(number)
        found.append(
            RoundRead(
                number=number,
                current=current,
                predicted=task.read(table["predicted_label"]),
                quality=np.asarray(table["label_quality"], dtype=np.float32),
                flagged=flagged,
                after=_after(run, number, task, current, row_of),
                asks=asks,
                verdicts=latest(verdicts),
                calls=_calls(asks, verdicts),
            )
        )
    return found


def _after(
    run: RunFolder, number: int, task: Task, current: Labels, row_of: Mapping[str, int]
) -> Labels:
    units: dict[str, dict[str, Any]] = {}
    for item_id, unit, new in run.replaced(number):
        units.setdefault(item_id, {})[unit] = new
    after = current.copy()
    for item_id, changed in units.items():
        row = row_of[item_id]
        after[row] = assembled(task, current[row], changed)
    return after


def _calls(asks: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> dict[str, int]:
    deciding = {line["ask_id"] for line in asks if line["control"] is None}
    calls = {line["id"]: 0 for line in asks if line["control"] is None}
    # An answer from the cache was a call once; what people answered before is no second question.
    people = {line["ask_id"] for line in asks if line["judge"] == PEOPLE}
    for verdict in verdicts:
        if verdict.ask_id in deciding and (verdict.calls or verdict.ask_id not in people):
            calls[verdict.id] += max(verdict.calls, 1)
    return {item_id: count for item_id, count in calls.items() if count}


def _class_names(path: Path) -> tuple[str, ...]:
    metadata = pq.read_schema(path).metadata or {}
    return tuple(json.loads(metadata[b"llm_relabel"])["class_names"])


def _definitions(job: Job, sha256: Any) -> tuple[LabelDefinitions | None, str]:
    try:
        source = job.resolve(job.labels) if isinstance(job.labels, str) else job.labels
        found = load_definitions(source)
    except RelabelError as error:
        return None, f"the definitions cannot be read any more: {error}"
    if sha256 is not None and found.sha256() != sha256:
        return None, "the definitions were changed since the run, so they are not shown here"
    return found, ""


def _bare(names: tuple[str, ...]) -> LabelDefinitions:
    """Definitions that say nothing, for the arrays' sake."""
    return LabelDefinitions(labels={name: LabelDefinition(definition=name) for name in names})


def _picture_folder(job: Job) -> str | None:
    """Where the job's pictures are, which are not in the run folder; None: it has none."""
    if job.data.image is None:
        return None
    if job.data.image_folder is not None:
        return str(job.resolve(job.data.image_folder))
    path = job.resolve(job.data.path)
    return str(path if path.is_dir() else path.parent)


def _dataset(run: RunFolder, job: Job, aliases: Mapping[str, str]) -> Dataset | None:
    """The newest dataset that the run has written; None where it has written none."""
    found = sorted(run.path.glob("dataset*")) or sorted(run.path.glob("round-1/dataset*"))
    if not found or (job.data.gold is None and job.data.locked is None):
        return None
    section = job.data.model_copy(
        update={"path": str(found[0]), "image_folder": _picture_folder(job)}
    )
    try:
        cells_of = task_type(job.task).cells
        return read_dataset(section, lambda path: Path(path).resolve(), aliases, cells_of)
    except RelabelError:
        return None  # a damaged dataset is `run`'s to report; the report then knows no gold
