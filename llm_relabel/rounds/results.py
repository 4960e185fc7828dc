"""What a run has come to, written into its folder: dataset, summary, sheet of changes, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_relabel.audit import Audited, as_written
from llm_relabel.judge.seam import Judges
from llm_relabel.prepared import Prepared
from llm_relabel.provenance import versions
from llm_relabel.report import write_report
from llm_relabel.rounds.summary import make_summary
from llm_relabel.rounds.tally import RoundTally
from llm_relabel.run_folder import changes
from llm_relabel.run_folder.changes_sheet import changes_sheet
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.units import Labels, differs


class Results:
    """The results of one process's work on a run; its seconds add to those of earlier ones."""

    def __init__(self, prepared: Prepared, run: RunFolder, judges: Judges) -> None:
        self._prepared = prepared
        self._run = run
        self._judges = judges
        self._began = time.monotonic()
        self._before: dict[str, Any] = run.summary() if run.summary_path.exists() else {}
        self._seconds_before = float(self._before.get("seconds", 0.0))

    def write(
        self, tallies: Sequence[RoundTally], audited: Sequence[Audited | None], *, status: str,
        reason: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Write everything as it stands now, while the run goes on the summary only; gives that.

        `audited` is what spot-checks made of each round, so that what they certify is what is
        written.
        """
        prepared, run = self._prepared, self._run
        log = run.changes()
        final = changes.corrected_labels(
            log, prepared.task, prepared.given, prepared.dataset.ids.to_pylist()
        )
        if status != "running":
            self.write_dataset(run.path, final)
        numbers = range(1, len(tallies) + 1)
        made = make_summary(
            prepared,
            self._judges,
            tallies,
            [line for number in numbers for line in run.asks(number)],
            [verdict for number in numbers for verdict in run.verdicts(number)],
            final,
            status=status,
            reason=reason,
            seconds=self._seconds_before + time.monotonic() - self._began,
            rolled_back=changes.undone_by_people(log),
            versions=versions(),
        )
        checked, certified = made["spot_checks"], self._certified(tallies, audited)
        if certified is not None and checked is not None:
            other = differs(certified, final) & ~prepared.dataset.locked
            certificate = as_written(checked["certificate"], int(other.sum()))
            made["spot_checks"] = {**checked, "certificate": certificate}
        run.write_summary(made)
        if status != "running":
            changes_sheet(run, prepared.task, prepared.dataset.sheet_delimiter)
            write_report(run, made)
        return made

    def last_round(self, rounds: int, *, spot_checked: bool) -> int:
        """How many of the job's `rounds` may come. A run that had ended before all of them, and
        that people have spot-checked, has those that it had: deciding again asks nothing."""
        ended = self._before.get("status") == "done"
        if ended and spot_checked and self._before.get("rounds_allowed") == rounds:
            return min(rounds, max(1, len(self._before["rounds"])))
        return rounds

    def _certified(
        self, tallies: Sequence[RoundTally], audited: Sequence[Audited | None]
    ) -> Labels | None:
        """The labels that the newest round that stands had certified."""
        standing = [
            each for each, tally in zip(audited, tallies, strict=False) if tally.rolled_back is None
        ]
        if not standing or standing[-1] is None:
            return None
        return standing[-1].certified()

    def write_dataset(self, folder: Path, labels: Labels) -> None:
        """Write `dataset.*` into `folder`: the data as it came, with these labels."""
        self._prepared.write_dataset(folder, labels)
