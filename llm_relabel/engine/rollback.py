"""`rollback`: changes are undone, and the dataset is what the log then says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.agreement import changes_against_gold
from llm_relabel.errors import RunError
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.provenance import now
from llm_relabel.report import write_report
from llm_relabel.run_folder import changes
from llm_relabel.run_folder.changes_sheet import changes_sheet, choices_to_undo
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks import Task
from llm_relabel.units import has_label, hashable


def roll_back(
    run: RunFolder,
    *,
    ids: Sequence[str] = (),
    labels: Sequence[str] = (),
    rounds: Sequence[int] = (),
    sources: Sequence[str] = (),
    sheet: str | Path | None = None,
    everything: bool = False,
) -> int:
    """Undo the changes in force that match every given kind of choice; how many were undone.

    `labels` matches the old or the new label; `sheet` is a copy of `changes.csv` in which a person
    marked rows. What a person undoes stays undone when the run goes on. Raises RunError when
    nothing is chosen or nothing matches, DataError for a damaged sheet.
    """
    if not (ids or labels or rounds or sources or sheet or everything):
        raise RunError(
            "nothing chosen to undo: name ids, labels, rounds, sources or a sheet, or all"
        )
    with run.held():
        marked = None if sheet is None else _marked(run, Path(sheet))
        prepared = prepare(run.as_job())
        choice = _choice(prepared.task, ids, labels, rounds, sources, marked)
        run.check(prepared.job, prepared.identity(), prepared.definitions)
        undo = changes.roll_back(run.changes(), choice, why="rolled back by a person", at=now())
        if not undo:
            raise RunError("no change in force matches; `llm-relabel report` lists them")
        run.append_changes(undo)
        _rewrite(run, prepared)
    return len(undo)


def _marked(run: RunFolder, sheet: Path) -> set[tuple[str, str, int]]:
    """(id, unit, round) of the sheet's marked rows. Raises RunError for one of another run."""
    marked = choices_to_undo(sheet)
    if not marked:
        raise RunError(
            f"no row is marked in {str(sheet)!r}; write x into the `undo` cell of each change "
            "to take back, and save the sheet"
        )
    made = {_place(line) for line in run.changes()}
    if strangers := [place for place in marked if place not in made]:
        item_id, unit, number = strangers[0]
        raise RunError(
            f"{len(strangers):,} of the {len(marked):,} marked rows of {str(sheet)!r} are no "
            f"changes of the run {str(run.path)!r}; the first has id {item_id!r}, unit "
            f"{unit!r}, round {number}; nothing was undone. Mark rows in the changes.csv of "
            "this run, and leave its other columns as they are"
        )
    return set(marked)


def _rewrite(run: RunFolder, prepared: Prepared) -> None:
    """Dataset, summary, sheet and report after a rollback."""
    task, given = prepared.task, prepared.given
    log = run.changes()
    final = changes.corrected_labels(log, task, given, prepared.dataset.ids.to_pylist())
    summary = run.summary()
    summary["changed"] = prepared.write_dataset(run.path, final)
    summary["missing_labels"] = int((~has_label(final)).sum())
    summary["rolled_back"] = changes.undone_by_people(log)
    if prepared.gold is not None:
        measured = changes_against_gold(task, given, final, prepared.gold)
        summary["gold"] = {**summary.get("gold", {}), **measured}
    checked = summary.get("spot_checks") or {}
    if "label_accuracy" in checked.get("certificate", {}):
        note = "labels were rolled back since; the same `run` certifies what is there now"
        summary["spot_checks"] = {**checked, "certificate": {"note": note}}
    run.write_summary(summary)
    changes_sheet(run, task, prepared.dataset.sheet_delimiter)
    write_report(run, summary)


def _choice(
    task: Task,
    ids: Sequence[str],
    labels: Sequence[str],
    rounds: Sequence[int],
    sources: Sequence[str],
    marked: set[tuple[str, str, int]] | None,
) -> Callable[[Mapping[str, Any]], bool]:
    kinds = {kind.name: dict(zip(kind.values, kind.names, strict=True)) for kind in task.kinds}

    def chosen(line: Mapping[str, Any]) -> bool:
        touched, names = {line["unit"]}, kinds.get(line["unit"], {})
        for value in (line["old"], line["new"]):
            parts = value if isinstance(value, list) else [value]
            touched |= {names.get(hashable(part)) or str(part) for part in parts}
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
