"""`status` and `report`: where a run stands, as a record and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_relabel.report import markdown_report, told_summary, write_report
from llm_relabel.run_folder.folder import RunFolder


@dataclass(frozen=True)
class Summary:
    """`summary.json` of the run in `path`; `facts` are its keys."""

    path: Path
    facts: Mapping[str, Any]

    @property
    def status(self) -> str:
        """running, done, paused, interrupted or failed."""
        return str(self.facts["status"])

    @property
    def reason(self) -> str:
        """Why it has this status."""
        return str(self.facts["reason"])

    def told(self) -> str:
        """What a command says at its end."""
        return told_summary(self.facts, self.path)

    def as_json(self) -> dict[str, Any]:
        """As `summary.json` has it."""
        return dict(self.facts)


def status_of(path: Path) -> Summary:
    """Where a run stands. Raises RunError when `path` is no run folder."""
    return Summary(path, RunFolder(path).summary())


def report_of(path: Path) -> str:
    """Write a run's report anew; gives it as Markdown. Raises RunError."""
    folder = RunFolder(path)
    summary = folder.summary()
    write_report(folder, summary)
    return markdown_report(folder, summary)
