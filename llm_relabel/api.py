"""The Python API: the same jobs as the command line, as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel import changes
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.errors import RunError
from llm_relabel.job import Job, load_job, make_job
from llm_relabel.planning import flag
from llm_relabel.predictions import Predicted, train
from llm_relabel.preparation import Prepared, prepare
from llm_relabel.progress import Progress, Silent
from llm_relabel.provenance import now
from llm_relabel.records import LabelIssue
from llm_relabel.report import write_report
from llm_relabel.rounds import JobRunner
from llm_relabel.runs import RunFolder
from llm_relabel.sheets import changes_sheet, choices_to_undo
from llm_relabel.units import differs, has_label


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
        section = self.job().data.model_copy(update={"path": str(self.dataset_path())})
        return read_dataset(section, lambda path: Path(path).resolve())

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
        if not (ids or labels or rounds or sources or sheet or everything):
            raise RunError(
                "nothing chosen to undo: name ids, labels, rounds, sources or a sheet, or all"
            )
        with self._folder.held():
            marked = None if sheet is None else self._marked(Path(sheet))
            choice = _choice(ids, labels, rounds, sources, marked)
            job = self.job()
            prepared = prepare(job)
            self._folder.check(prepared.identity())
            undo = changes.roll_back(
                self._folder.changes(), choice, why="rolled back by a person", at=now()
            )
            if not undo:
                raise RunError("no change in force matches; `llm-relabel report` lists them")
            self._folder.append_changes(undo)
            self._rewrite(prepared)
        return len(undo)

    def job(self) -> Job:
        """The job as it was run, defaults filled in."""
        raw = self._folder.job()
        raw.pop("hashes")
        folder = Path(raw.pop("folder"))
        return make_job(raw, folder=folder, where=str(self.path / "job.yaml"))

    def _marked(self, sheet: Path) -> set[tuple[str, str, int]]:
        """(id, unit, round) of the sheet's marked rows. Raises RunError for one of another run."""
        marked = choices_to_undo(sheet)
        if not marked:
            raise RunError(
                f"no row is marked in {str(sheet)!r}; write x into the `undo` cell of each change "
                "to take back, and save the sheet"
            )
        made = {_place(line) for line in self._folder.changes()}
        if strangers := [place for place in marked if place not in made]:
            item_id, unit, number = strangers[0]
            raise RunError(
                f"{len(strangers):,} of the {len(marked):,} marked rows of {str(sheet)!r} are no "
                f"changes of the run {str(self.path)!r}; the first has id {item_id!r}, unit "
                f"{unit!r}, round {number}; nothing was undone. Mark rows in the changes.csv of "
                "this run, and leave its other columns as they are"
            )
        return set(marked)

    def _rewrite(self, prepared: Prepared) -> None:
        """Dataset, summary, sheet and report after a rollback."""
        from llm_relabel.agreement import changes_against_gold

        task, given = prepared.task, prepared.given
        log = self._folder.changes()
        final = changes.corrected_labels(log, task, given, prepared.dataset.ids.to_pylist())
        rows = np.flatnonzero(differs(given, final)).tolist()
        prepared.dataset.write(self.path, "dataset", {row: final[row] for row in rows})
        summary = self._folder.summary()
        summary["changed"] = len(rows)
        summary["missing_labels"] = int((~has_label(final)).sum())
        summary["rolled_back"] = changes.undone_by_people(log)
        if prepared.gold is not None:
            measured = changes_against_gold(task, given, final, prepared.gold)
            summary["gold"] = {**summary.get("gold", {}), **measured}
        checked = summary.get("spot_checks") or {}
        if "label_accuracy" in checked.get("certificate", {}):
            note = "labels were rolled back since; the same `run` certifies what is there now"
            summary["spot_checks"] = {**checked, "certificate": {"note": note}}
        self._folder.write_summary(summary)
        changes_sheet(self._folder, task, prepared.dataset.sheet_delimiter)
        write_report(self._folder, summary)


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
    opened = open_job(job, overrides)
    JobRunner(opened, progress=progress).go()
    return Run(opened.output_path)


def find_label_issues(
    job: Job | str | Path | Mapping[str, Any], *, progress: Progress | None = None
) -> list[LabelIssue]:
    """The label issues of a dataset, the worst first, without any judge.

    The small model predicts every row out of fold; nothing is written but the caches. Raises
    a RelabelError when job, data or definitions are wrong.
    """
    prepared = prepare(open_job(job))
    return first_issues(prepared, progress=progress)[0]


def first_issues(
    prepared: Prepared, *, progress: Progress | None = None
) -> tuple[list[LabelIssue], Predicted]:
    """Round 1's label issues and the predictions they come from, with no run folder."""
    with (progress if progress is not None else Silent()).step("Small model, out of fold") as step:
        model = prepared.small_model(step)
        predicted = train(prepared, model, prepared.given)
    return flag(prepared, predicted, ~prepared.dataset.locked), predicted


def open_job(job: Job | str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Job:
    """A Job from any of the forms that the API takes. Raises JobError."""
    if isinstance(job, Job):
        return job
    if isinstance(job, str | Path):
        return load_job(job, overrides)
    return make_job(job, folder=Path.cwd())


def _choice(
    ids: Sequence[str],
    labels: Sequence[str],
    rounds: Sequence[int],
    sources: Sequence[str],
    marked: set[tuple[str, str, int]] | None,
) -> Callable[[Mapping[str, Any]], bool]:
    def chosen(line: Mapping[str, Any]) -> bool:
        touched = {line["unit"], line["unit"].partition(":")[2]}
        for value in (line["old"], line["new"]):
            touched |= set(map(str, value if isinstance(value, list) else [value]))
        return (
            (not ids or line["id"] in ids)
            and (not labels or bool(touched & set(labels)))
            and (not rounds or line["round"] in rounds)
            and (not sources or line["source"] in sources)
            and (marked is None or _place(line) in marked)
        )

    return chosen


def _place(line: Mapping[str, Any]) -> tuple[str, str, int]:
    return line["id"], line["unit"], line["round"]
