"""The run folder: who holds it, what it was started with, its journals and its summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from llm_relabel.config.definitions import LabelDefinitions, as_yaml, load_definitions
from llm_relabel.config.job import Job, make_job
from llm_relabel.errors import DefinitionsError, RunChanged, RunError, RunLocked
from llm_relabel.files.journal import KeptJournal, write_whole
from llm_relabel.records import Ask, Verdict
from llm_relabel.run_folder.beginning import how_to_go_on, what_changed
from llm_relabel.run_folder.lines import (
    ask_line,
    kept_ask,
    replaced,
    shared,
    verdict_line,
    verdict_of,
    with_todays_unit,
)


class RunFolder:
    """One run on disk. Reading needs no lock; writing happens inside `held()`.

    Each of its journals is parsed once: what a reader gets is the memory of this object, which
    all appending keeps up to date, and nobody may change it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes_path = path / "changes.jsonl"
        self.summary_path = path / "summary.json"
        self._lock = FileLock(path / ".lock", timeout=0)
        self._changes: KeptJournal[Mapping[str, Any]] = KeptJournal(
            self.changes_path, with_todays_unit, _itself
        )
        self._rounds: dict[int, _RoundJournals] = {}
        self._texts: dict[str, str] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process. Raises RunLocked when another one does.

        The lock is the operating system's own, so it ends with its process however that ends.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunLocked(
                f"another process is working in the run folder {str(self.path)!r}; wait for it, "
                "or give this run another `output`"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def is_held(self) -> bool:
        """Whether a live process works in the folder now."""
        if not self.path.is_dir():
            return False
        probe = FileLock(self.path / ".lock", timeout=0)
        try:
            probe.acquire()
        except Timeout:
            return True
        probe.release()
        return False

    def round(self, number: int) -> Path:
        """The folder of one round, 1-based."""
        return self.path / f"round-{number}"

    # What the run was started with

    def start(self, job: Job, identity: Mapping[str, Any], definitions: LabelDefinitions) -> None:
        """Write `job.yaml` and `labels.yaml`, or check that the run goes on as it began.

        `identity` maps a name to a hash or setting that must stay. Raises RunChanged with
        every difference.
        """
        path = self.path / "job.yaml"
        if path.exists():
            self.check(job, identity, definitions)
        elif strangers := [p.name for p in self.path.iterdir() if not p.name.startswith(".")]:
            raise RunError(
                f"the folder {str(self.path)!r} holds other files ({strangers[0]!r}) and no run; "
                "name an empty or new folder as `output`"
            )
        header = "# The job as resolved. `folder` is where its relative paths start; `hashes`\n"
        header += "# says what the run was started with.\n"
        facts = {"folder": str(job.folder.resolve()), "hashes": dict(identity)}
        tail = as_yaml(facts, width=80)
        write_whole(self._definitions_path, definitions.to_yaml().encode())
        write_whole(path, (header + job.to_yaml() + tail).encode())

    def check(self, job: Job, identity: Mapping[str, Any], definitions: LabelDefinitions) -> None:
        """Raise RunChanged, with every difference, unless the run began with this."""
        before = self.job()["hashes"]
        kept = self._kept_definitions()
        if not (differences := what_changed(before, identity, (kept, definitions))):
            return
        # Sets of definitions are held against each other where they define the same labels.
        comparable = kept is not None and set(kept.labels) == set(definitions.labels)
        redefined = comparable and before.get("definitions") != identity["definitions"]
        raise RunChanged(
            f"the run in {str(self.path)!r} was started with something else: "
            + "; ".join(differences)
            + ". "
            + how_to_go_on(job, self.path, self._definitions_path if redefined else None)
        )

    @property
    def _definitions_path(self) -> Path:
        """The label definitions as they were when the run began."""
        return self.path / "labels.yaml"

    def _kept_definitions(self) -> LabelDefinitions | None:
        """None where the run is older than keeping them, or somebody changed the file."""
        try:
            return load_definitions(self._definitions_path)
        except DefinitionsError:
            return None

    def job(self) -> dict[str, Any]:
        """The job as resolved, with `hashes`. Raises RunError when this is no run folder."""
        path = self.path / "job.yaml"
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
            return {**raw, "hashes": dict(raw["hashes"])}
        except FileNotFoundError:
            raise RunError(
                f"{str(self.path)!r} is no run folder: it has no job.yaml; name the `output` of "
                "a job that was run"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            raise RunError(f"{str(path)!r} is damaged: {error}") from error

    def as_job(self) -> Job:
        """The job as it was run, defaults filled in, with the definitions of its beginning.

        Raises RunError where this is no run.
        """
        raw = self.job()
        if self._kept_definitions() is not None:
            raw["labels"] = str(self._definitions_path.resolve())
        raw.pop("hashes")
        folder = Path(raw.pop("folder"))
        return make_job(raw, folder=folder, where=str(self.path / "job.yaml"))

    # Journals

    def changes(self) -> Sequence[Mapping[str, Any]]:
        """All lines of `changes.jsonl`, in order."""
        return self._changes.read()

    def append_changes(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to `changes.jsonl`, synced to the disk."""
        with self._changes.appending() as log:
            # As they read from the file: lines are compared with those of earlier processes.
            log.extend([json.loads(json.dumps(line)) for line in lines])

    def asks(self, number: int) -> Sequence[Mapping[str, Any]]:
        """All lines of a round's `asks.jsonl`, in order."""
        return self._of(number).asks.read()

    def append_asks(self, number: int, asks: Iterable[Ask]) -> None:
        """Add asks to a round's `asks.jsonl`, which is made in any case, synced to the disk."""
        with self._of(number).asks.appending() as log:
            log.extend([ask_line(ask) for ask in asks])

    def verdicts(self, number: int) -> Sequence[Verdict]:
        """All verdicts of a round, in the order they arrived."""
        return self._of(number).verdicts.read()

    def hearing(self, number: int) -> AbstractContextManager[KeptJournal[Verdict]]:
        """A round's `verdicts.jsonl`, made in any case, open to `append` verdicts to."""
        return self._of(number).verdicts.appending()

    def flagged(self, number: int) -> Sequence[str]:
        """The ids of a round's label issues, in the order of `issues.jsonl`."""
        return self._of(number).issues.read()

    def replaced(self, number: int) -> list[tuple[str, str, Any]]:
        """(id, unit, new JSON value) of each unit that a round's `decisions.jsonl` replaced."""
        return [made for made in self._of(number).decisions.read() if made is not None]

    def excerpts(self, ids: Collection[str]) -> dict[str, str]:
        """The start of the text of these items, from what all rounds asked about, by id."""
        for path in self.path.glob("round-*/issues.jsonl"):
            number = path.parent.name.removeprefix("round-")
            if number.isdecimal():  # no folder that a person put there
                self.flagged(int(number))
                self._of(int(number)).beyond.read()
        return {item_id: self._texts[item_id] for item_id in ids if item_id in self._texts}

    def _flagged(self, line: Mapping[str, Any]) -> str:
        """The id in a line of `issues.jsonl`; of an item in several rounds, one text is kept."""
        item_id: str = shared(line["id"])
        self._texts.setdefault(item_id, line.get("text", ""))
        return item_id

    def _of(self, number: int) -> _RoundJournals:
        if number not in self._rounds:
            self._rounds[number] = _RoundJournals(self.round(number), self._flagged)
        return self._rounds[number]

    # Summary

    def summary(self) -> dict[str, Any]:
        """`summary.json`; a run that was killed while running reads as interrupted."""
        self.job()
        try:
            found: dict[str, Any] = json.loads(self.summary_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = {"status": "interrupted", "reason": "stopped before the first round"}
        except ValueError as error:
            raise RunError(f"{str(self.summary_path)!r} is damaged: {error}") from error
        if found["status"] == "running" and not self.is_held():
            found["status"] = "interrupted"
            found["reason"] = "the process ended without a word; the same command goes on"
        return found

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace `summary.json` at once."""
        write_whole(
            self.summary_path,
            (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode(),
        )


class _RoundJournals:
    """The journals of one round; of those that are never appended to, what reports need."""

    def __init__(self, folder: Path, flagged: Callable[[Mapping[str, Any]], str]) -> None:
        self.asks: KeptJournal[Mapping[str, Any]] = KeptJournal(
            folder / "asks.jsonl", kept_ask, _itself
        )
        self.verdicts = KeptJournal(folder / "verdicts.jsonl", verdict_of, verdict_line)
        self.issues = KeptJournal(folder / "issues.jsonl", flagged)
        self.beyond = KeptJournal(folder / "beyond.jsonl", flagged)
        self.decisions = KeptJournal(folder / "decisions.jsonl", replaced)


def _itself(line: Mapping[str, Any]) -> Mapping[str, Any]:
    return line
