"""The Python API: the same jobs as the command line, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel import engine
from llm_relabel.config.job import Job
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.errors import RunError
from llm_relabel.prepared import prepare
from llm_relabel.progress import Progress
from llm_relabel.records import LabelIssue
from llm_relabel.run_folder import changes
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks import task_type


class Run:
    """A run on disk: what it did, the corrected data, every change and its undoing."""

    def __init__(self, path: str | Path) -> None:
        """Raises RunError when `path` is no run folder."""
        self.path = Path(path)
        self._folder = RunFolder(self.path)
        self._folder.job()

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json` as it is now."""
        return self._folder.summary()

    def dataset_path(self) -> Path:
        """The newest dataset, in the input's own format. Raises RunError when there is none."""
        found = sorted(self.path.glob("dataset*"))
        if not found:
            raise RunError(f"the run {str(self.path)!r} has written no dataset yet")
        return found[0]

    def dataset(self) -> Dataset:
        """The newest dataset: same rows, order and columns as came in, labels corrected."""
        job = self.job()
        section = job.data.model_copy(update={"path": str(self.dataset_path())})
        cells_of = task_type(job.task).cells
        return read_dataset(section, lambda path: Path(path).resolve(), cells_of=cells_of)

    def changes(self, *, in_force: bool = True) -> list[dict[str, Any]]:
        """Every change that holds, oldest first; `in_force=False` gives the whole log.

        Each is a line of `changes.jsonl`: id, unit, round, old, new, source, why and provenance.
        """
        log = self._folder.changes()
        return [dict(line) for line in (changes.in_force(log) if in_force else log)]

    def rollback(
        self,
        *,
        ids: Sequence[str] = (),
        labels: Sequence[str] = (),
        rounds: Sequence[int] = (),
        sources: Sequence[str] = (),
        sheet: str | Path | None = None,
        everything: bool = False,
    ) -> int:
        """Undo the changes in force that match every given kind of choice; how many were undone.

        `labels` matches the old or the new label; `sheet` is a copy of `changes.csv` in which
        a person marked rows. What a person undoes stays undone when the run goes on. Raises
        RunError when nothing is chosen or nothing matches, DataError for a damaged sheet.
        """
        return engine.roll_back(
            self._folder, ids=ids, labels=labels, rounds=rounds, sources=sources, sheet=sheet,
            everything=everything,
        )  # fmt: skip

    def job(self) -> Job:
        """The job as it was run, defaults filled in."""
        return self._folder.as_job()


def relabel(
    job: Job | str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Run a job, or go on with it, to its end.

    `job` is a Job, the path of a job file, or a mapping with the job file's keys (relative
    paths then start at the working folder); `overrides` are `dotted.key=value`. Raises a
    RelabelError: Paused where it stopped on purpose and can go on, any other before money
    is spent.
    """
    opened = engine.open_job(job, overrides)
    engine.run_job(opened, progress=progress)
    return Run(opened.output_path)


def find_label_issues(
    job: Job | str | Path | Mapping[str, Any], *, progress: Progress | None = None
) -> list[LabelIssue]:
    """The label issues of a dataset, the worst first, without any judge.

    The small model predicts every row out of fold; nothing is written but the caches. Raises
    a RelabelError when job, data or definitions are wrong.
    """
    prepared = prepare(engine.open_job(job))
    return engine.first_issues(prepared, progress=progress)[0]
