"""A folder in which people are asked: what was asked, and what they answered.

Two append-only journals, of which the latest line counts: of an item in what was asked, of an item
and a reviewer in `answers.jsonl`. Spot-checks have such a folder, and the judge `people` another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from filelock import FileLock, Timeout

from llm_relabel.errors import JobError, RunError, RunLocked
from llm_relabel.files.journal import Journal, read_lines
from llm_relabel.provenance import now
from llm_relabel.tasks import InvalidAnswer, Task
from llm_relabel.units import LabelValue

LOCK_SECONDS = 30.0  # a writer holds the lock for milliseconds; longer means that it hangs


class AskedItem(Protocol):
    """One item that people are asked about."""

    @property
    def id(self) -> str:
        """The item's id."""
        ...

    @property
    def unit(self) -> str:
        """The unit that is asked about."""
        ...

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """What a journal line says."""
        ...

    def line(self) -> dict[str, Any]:
        """The journal line, without its time."""
        ...

    def how(self) -> dict[str, Any]:
        """What the line of an answer says of how it was asked for."""
        ...


AskedT = TypeVar("AskedT", bound=AskedItem)


@dataclass(frozen=True, slots=True)
class PersonsAnswer:
    """What one reviewer says of one item: a label value as JSON, or that it cannot be told."""

    id: str
    reviewer: str
    answer: Any = None
    unsure: bool = False
    note: str = ""


class PeopleFolder(Generic[AskedT]):
    """One such folder of a run. Reading needs no lock; appending happens in `held()`.

    Its lock is not the run's: people answer for hours, and the run may go on meanwhile.
    """

    def __init__(self, path: Path, asked: str, kind: type[AskedT]) -> None:
        """`asked` is the file of what is asked, `kind` what a line of it is."""
        self.path = path
        self.asked_path = path / asked
        self.answers_path = path / "answers.jsonl"
        self._kind = kind
        self._lock = FileLock(path / ".lock", timeout=LOCK_SECONDS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process. Raises RunLocked when another one does for long."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunLocked(
                f"another process has been writing to {str(self.path)!r} for {LOCK_SECONDS:.0f} "
                "seconds; wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def asked(self) -> dict[str, AskedT]:
        """Every item asked about, by id, in the order in which they were first asked."""
        return {line["id"]: self._kind.of(line) for line in read_lines(self.asked_path)}

    def lines(self) -> list[dict[str, Any]]:
        """All lines of `answers.jsonl`, in order."""
        return list(read_lines(self.answers_path))

    def append_asked(self, items: Iterable[AskedT]) -> None:
        """Ask about more items, on the disk when this returns."""
        at = now()
        with Journal(self.asked_path) as log:
            log.extend([{**item.line(), "at": at} for item in items])

    def append_answers(self, answers: Sequence[PersonsAnswer], asked: Mapping[str, AskedT]) -> None:
        """Add answers to items of `asked`, all or none, on the disk when this returns."""
        at = now()
        with Journal(self.answers_path) as log:
            log.extend([_answer_line(given, asked[given.id], at) for given in answers])

    def append_undo(self, item: AskedT, reviewer: str) -> None:
        """Take a reviewer's answer to an item back, on the disk when this returns."""
        line = {"id": item.id, "unit": item.unit, "reviewer": reviewer, "undo": True, "at": now()}
        with Journal(self.answers_path) as log:
            log.append(line)

    def label(self, line: Mapping[str, Any], task: Task) -> LabelValue:
        """The label of an answer line, None where the reviewer was unsure. Raises RunError."""
        if line.get("unsure"):
            return None
        try:
            return task.check(line["answer"])
        except (InvalidAnswer, KeyError) as error:
            raise RunError(
                f"{str(self.answers_path)!r}: the answer of {line['reviewer']!r} to "
                f"{line['id']!r} cannot be used: {error}; correct the line or take it out"
            ) from error


def standing(lines: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(id, reviewer) -> the line that counts, in the order of answering; undone ones are gone."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for line in lines:
        place = line["id"], line["reviewer"]
        found.pop(place, None)
        if not line.get("undo"):
            found[place] = line
    return found


def majority(answers: Sequence[LabelValue]) -> LabelValue:
    """What most reviewers of an item say, None ("unsure") being one answer; a tie is None."""
    ranked = Counter(answers).most_common(2)
    tied = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    return None if tied else ranked[0][0]


def _answer_line(given: PersonsAnswer, asked: AskedItem, at: str) -> dict[str, Any]:
    line: dict[str, Any] = {"id": given.id, "unit": asked.unit, "reviewer": given.reviewer}
    line |= {"unsure": True} if given.unsure else {"answer": given.answer}
    line |= {**asked.how(), "at": at}
    return line | ({"note": given.note} if given.note else {})


LONGEST_NAME = 100


def reviewer_name(name: str) -> str:
    """`name` as journals keep it. Raises JobError where it is empty, too long or unprintable."""
    clean = name.strip()
    if not clean or len(clean) > LONGEST_NAME or not clean.isprintable():
        raise JobError(
            f"a reviewer is called {name!r:.150}; a name has 1 to {LONGEST_NAME} printable "
            "characters"
        )
    return clean
