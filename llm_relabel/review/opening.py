"""A run opened for review: its data and definitions, and what of them a reviewer may see.

`Review` is of the spot-checks, which are blind; `Questions` of what the judge `people` is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.config.judges import PEOPLE
from llm_relabel.errors import JobError, RunError
from llm_relabel.people.folder import PeopleFolder, PersonsAnswer
from llm_relabel.people.questions import QuestionFolder
from llm_relabel.people.spot_checks import ReviewFolder
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.records import Item
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.spellings import item_keys, text_key
from llm_relabel.units import LabelValue, label_json


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reviewer sees of an item: `fields` maps column name to text.

    `candidates` are labels as JSON, in the order shown; None where the item is shown blind.
    """

    id: str
    fields: Mapping[str, str]
    candidates: tuple[Any, ...] | None = None


def item_of(prepared: Prepared, item_id: str) -> Item | None:
    """An item of the data by its id."""
    row = prepared.row_of.get(item_id)
    return None if row is None else prepared.dataset.item(row)


class Review:
    """The spot-checks of one run."""

    title = "Spot-checks"
    as_judge = False

    def __init__(self, path: Path) -> None:
        """Reads the run's data. Raises RunError when `path` is no run folder, RunChanged when
        data or definitions are not those that the run began with."""
        self.run = RunFolder(path)
        self.job = self.run.as_job()
        self.prepared = prepare(self.job)
        self.run.check(self.job, self.prepared.identity(), self.prepared.definitions)
        self.task = self.prepared.task
        self.folder = self._folder()

    def _folder(self) -> PeopleFolder[Any]:
        return ReviewFolder(self.run)

    def asked_ids(self) -> list[str]:
        """The ids of all items asked about, mixed: nothing in the order tells why one is in."""
        found = self.folder.asked()
        if not found:
            raise RunError(
                f"no item of {str(self.run.path)!r} is to be reviewed yet; draw some with "
                f"`llm-relabel review sample {self.run.path}`"
            )
        return sorted(found, key=self._mixed)

    def shown(self, ids: Iterable[str]) -> list[Shown]:
        """These items as a reviewer sees them, in the order of `ids`."""
        wanted = list(ids)
        dataset = self.prepared.dataset
        rows = pc.index_in(pa.array(wanted, pa.string()), value_set=dataset.ids).to_pylist()
        if None in rows:
            raise RunError(
                f"{str(self.folder.asked_path)!r} names {wanted[rows.index(None)]!r}, which is "
                "not in the data"
            )
        return [Shown(i, dataset.item(row).fields) for i, row in zip(wanted, rows, strict=True)]

    def definitions(self, items: Iterable[Shown]) -> list[dict[str, Any]]:
        """The label definitions for people, in class order.

        An example that is the text of one of `items` is left out: it would give the label away.
        """
        texts = set().union(*(item_keys(item.fields.values()) for item in items))

        def others(examples: Iterable[str]) -> list[str]:
            return [text for text in examples if text_key(text) not in texts]

        known = self.prepared.definitions.labels
        # A task may have choices that nobody defines, such as the points inside a scale.
        return [
            {"name": name, "definition": "", "examples": [], "not": [], "parent": None}
            if (each := known.get(name)) is None
            else {
                "name": name,
                "definition": each.definition,
                "examples": others(each.examples),
                "not": others(each.counterexamples),
                "parent": each.parent,
            }
            for name in dict.fromkeys([*self.task.names, *known])
        ]

    def anchored(self, said: PersonsAnswer) -> PersonsAnswer:
        """An answer in the places of the labels that its item has, where it means the same."""
        if said.answer is None or self.task.widget != "boxes":
            return said
        label = self.task.anchored(self.task.check(said.answer), self._known(said.id))
        return replace(said, answer=label_json(label))

    def _known(self, item_id: str) -> list[LabelValue]:
        """The labels that an item has been given, as far as an answer may be one of them."""
        return [self.prepared.given[self.prepared.row_of[item_id]]]

    def instruction(self) -> str:
        """What a reviewer is asked to do, in a sentence."""
        words: str = self.task.question()["instruction"]
        return words

    def _mixed(self, item_id: str) -> bytes:
        return hashlib.sha256(f"{self.job.seed}/{item_id}".encode(errors="replace")).digest()


class Questions(Review):
    """The questions of a run's judge `people`."""

    title = "Questions"
    as_judge = True

    def _folder(self) -> PeopleFolder[Any]:
        return QuestionFolder(self.run.path)

    def asked_ids(self) -> list[str]:
        """The ids of all items asked about, as they were queued: the most doubtful first."""
        found = self.folder.asked()
        if not found:
            raise RunError(
                f"no question of {str(self.run.path)!r} waits for people; a run whose judge is "
                "`people` puts them"
            )
        return list(found)

    def _known(self, item_id: str) -> list[LabelValue]:
        asked = self.folder.asked()[item_id].candidates or ()
        return [None if each is None else self.task.check(each) for each in asked]

    def shown(self, ids: Iterable[str]) -> list[Shown]:
        """These items with their candidates, in the order of `ids`."""
        asked = self.folder.asked()
        return [replace(item, candidates=asked[item.id].candidates) for item in super().shown(ids)]


@dataclass(frozen=True, slots=True)
class Kinds:
    """What of a run people can be asked: which of the two there is, and which one is meant."""

    questions: bool
    spot_checks: bool
    judge_is_people: bool

    @property
    def as_judge(self) -> bool:
        """Whether the judge's questions are meant where nothing is chosen."""
        return self.judge_is_people and (self.questions or not self.spot_checks)


def kinds_of(path: Path) -> Kinds:
    """What people can be asked of a run. Raises RunError where `path` is no run folder."""
    run = RunFolder(path)
    return Kinds(
        questions=bool(QuestionFolder(path).asked()),
        spot_checks=bool(ReviewFolder(run).asked()),
        judge_is_people=PEOPLE in run.as_job().judge.member_names,
    )


def open_review(path: Path, as_judge: bool | None = None, *, must_say: bool = False) -> Review:
    """The questions of the run's judge (`as_judge`) or its spot-checks.

    None: the questions where the run's judge is or includes `people`, unless there are none and
    there are spot-checks; with `must_say` a JobError where there are both. Raises RunError,
    RunChanged.
    """
    if as_judge is None:
        kinds = kinds_of(path)
        if must_say and kinds.questions and kinds.spot_checks:
            raise JobError(
                f"the run {str(path)!r} has questions of its judge and spot-checks; say with "
                "--judge or --spot-checks which of them the file answers"
            )
        as_judge = kinds.as_judge
    return Questions(path) if as_judge else Review(path)
