"""Better label definitions: drafted, searched on a part of gold, proved once on the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_relabel.config.definitions import load_definitions
from llm_relabel.config.job import Job, open_job
from llm_relabel.errors import DataError, DefinitionsError
from llm_relabel.evaluation.asking import job_to_evaluate
from llm_relabel.files.journal import read_lines, write_whole
from llm_relabel.judge.asking import outside_event_loops
from llm_relabel.progress import Progress, Silent
from llm_relabel.tune import accept as accepting
from llm_relabel.tune import plan as planning
from llm_relabel.tune import writing
from llm_relabel.tune.elsewhere import repeated
from llm_relabel.tune.outcome import Settings
from llm_relabel.tune.results import TUNED, write_results
from llm_relabel.tune.tuning import Tuning

SUFFIX = "-tune"


@dataclass(frozen=True)
class Tuned:
    """What a tuning found. `result` is `tune.json`, `path` the folder with all files."""

    path: Path
    result: Mapping[str, Any]

    @property
    def status(self) -> str:
        """proved, not proved, nothing found, proposals only, or stopped early."""
        return str(self.result["status"])

    @property
    def markdown(self) -> str:
        """The same as `tune.md` has it."""
        return (self.path / writing.MARKDOWN).read_text(encoding="utf-8")

    @property
    def proposals(self) -> list[dict[str, Any]]:
        """Every changed field of every label: old, new, why, and what it did."""
        return list(read_lines(self.path / accepting.PROPOSALS))


def tune(
    job: Job | str | Path | Mapping[str, Any],
    gold: str | Path | None = None,
    *,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Search for better label definitions and prove them on gold that the search did not see.

    `gold` is a file joined by id (None: the job's `data.gold` column). The job's first judge is
    asked, blind. `output` defaults to the job's output with `-tune` behind it; the same call goes
    on with what is there. Nothing of the job changes before `accept`.

    Raises Paused where it stopped on purpose and can go on, any other RelabelError before money is
    spent.
    """
    tuning = _opened(job, gold, settings, overrides, output, progress)

    def work() -> Tuned:
        outcome = tuning.go()
        result = write_results(tuning, outcome, tuning.took)
        lines = list(read_lines(tuning.folder / accepting.PROPOSALS))
        name = str(tuning.job.file or "JOB")
        write_whole(tuning.folder / writing.MARKDOWN, writing.as_markdown(result, lines).encode())
        page = writing.as_page(result, lines, name)
        write_whole(tuning.folder / writing.PAGE, page.encode())
        return Tuned(tuning.folder, result)

    return outside_event_loops(work)


def plan_tuning(
    job: Job | str | Path | Mapping[str, Any],
    gold: str | Path | None = None,
    *,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
) -> str:
    """The split, the smallest provable gain, calls and dollars, in words; nothing is asked."""
    return planning.plan(_opened(job, gold, settings, overrides, output, None))


def probe(
    job: Job | str | Path | Mapping[str, Any],
    gold: str | Path | None = None,
    *,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> planning.Probed:
    """Whether the judge reads definitions at all: its answers under rotated ones. Raises Paused."""
    tuning = _opened(job, gold, settings, overrides, output, progress)
    found = outside_event_loops(lambda: planning.probe(tuning))
    write_whole(tuning.folder / "probe.json", (json.dumps(found.as_json()) + "\n").encode())
    return found


def holds_elsewhere(
    job: Job | str | Path | Mapping[str, Any],
    judge: str,
    gold: str | Path | None = None,
    *,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask another judge about the test items under the old and the tuned definitions.

    Gives items, fixed, broken, p and `told`. Raises DataError where no tuning with a test is there.
    """
    opened = open_job(job, overrides)
    folder = _folder(opened, output)
    found = _result(folder)
    if found["test"] is None:
        raise DataError(f"the tuning in {str(folder)!r} had no test, so there is nothing to repeat")
    tuning = _tuning(
        job_to_evaluate(opened, [judge], []), gold, settings, folder / "elsewhere", progress
    )
    if found["definitions_sha256"] != tuning.start.sha256():
        raise DefinitionsError(
            "the definitions are no longer those that the tuning began with; give them with "
            "--set labels=labels.yaml.before"
        )
    guide = load_definitions(folder / TUNED)
    elsewhere_found = outside_event_loops(lambda: repeated(tuning, judge, guide, found["form"]))
    name = f"elsewhere-{len(list(folder.glob('elsewhere-*.json'))) + 1}.json"
    write_whole(folder / name, (json.dumps(elsewhere_found, indent=1) + "\n").encode())
    return elsewhere_found


def accept(
    job: Job | str | Path | Mapping[str, Any],
    accept: Sequence[str] = (),
    reject: Sequence[str] = (),
    *,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
) -> str:
    """Write accepted labels' new words into the definitions file; `all` is every label.

    Raises a RelabelError, and then changes nothing.
    """
    opened = open_job(job, overrides)
    return accepting.decide(opened, _folder(opened, output), accept, reject)


def _opened(
    job: Job | str | Path | Mapping[str, Any], gold: str | Path | None, settings: Settings,
    overrides: Sequence[str], output: str | Path | None, progress: Progress | None,
) -> Tuning:  # fmt: skip
    opened = open_job(job, overrides)
    return _tuning(opened, gold, settings, _folder(opened, output), progress)


def _tuning(
    job: Job, gold: str | Path | None, settings: Settings, folder: Path, progress: Progress | None
) -> Tuning:
    return Tuning(
        job, None if gold is None else Path(gold), settings, folder,
        progress if progress is not None else Silent(),
    )  # fmt: skip


def _folder(job: Job, output: str | Path | None) -> Path:
    return Path(output) if output is not None else Path(f"{job.output_path}{SUFFIX}")


def _result(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / accepting.RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(folder)!r} holds no tuning; `llm-relabel tune JOB --gold FILE` makes one"
        ) from error
    return found


__all__ = ["Settings", "Tuned", "accept", "holds_elsewhere", "plan_tuning", "probe",
           "tune"]  # fmt: skip
