"""One reviewer's way through the items: what comes next, what was said, what was taken back.

Nothing is kept here: every question reads the journals, so that pages, tabs, imports and a killed
server lose nothing, and several servers may run.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

from llm_relabel.data.words import words_of
from llm_relabel.errors import DataError
from llm_relabel.images import ImagePart
from llm_relabel.people.folder import PersonsAnswer, reviewer_name, standing
from llm_relabel.review.opening import Review, Shown, item_of
from llm_relabel.tasks import InvalidAnswer, by_name, from_name, is_one_choice
from llm_relabel.units import label_json

LONGEST_NOTE = 10_000


class AnsweredElsewhere(Exception):
    """Raised when an item was answered or undone after the page that answers it was shown."""


class Session:
    """The items under review, for one reviewer."""

    def __init__(self, review: Review, reviewer: str) -> None:
        """Raises RunError where nothing is to be reviewed, JobError for an unusable name."""
        self._review = review
        self.reviewer = reviewer_name(reviewer)
        self._items: dict[str, Shown] = {}
        self._order: list[str] = []
        self._read_items()

    def setup(self) -> dict[str, Any]:
        """What stays the same on every page: the task, its labels and what they mean."""
        return {
            "title": self._review.title,
            "reviewer": self.reviewer,
            "exclusive": is_one_choice(self._review.task),
            "widget": self._review.task.widget,
            "instruction": self._review.instruction(),
            "labels": self._review.definitions(self._items.values()),
        }

    def next(self, skipped: Collection[str] = (), keep: str | None = None) -> dict[str, Any]:
        """The item to show now, and how far the reviewer is.

        `item` is None when all are answered, `skipped` counts the open ones that are put off. An
        item of `skipped` comes only when nothing else is left; `keep` is shown if it is open.
        """
        self._read_items()
        lines = self._own_lines()
        done = {item_id for item_id, _ in standing(lines)}
        left = [item_id for item_id in self._order if item_id not in done]
        ready = [item_id for item_id in left if item_id not in skipped]
        chosen = keep if keep in left else next(iter(ready or left), None)
        return {
            "done": len(self._order) - len(left),
            "total": len(self._order),
            "skipped": len(left) - len(ready),
            "item": None if chosen is None else self._shown(chosen, lines),
        }

    def picture(self, item_id: str) -> ImagePart:
        """The picture of an item under review, upright. Raises DataError where there is none."""
        found = item_of(self._review.prepared, item_id) if item_id in self._items else None
        if found is None or found.picture is None:
            raise DataError(f"no picture of an item {item_id!r:.80} is under review")
        held = io.BytesIO()
        found.picture.upright().save(held, "PNG")
        return ImagePart(held.getvalue())

    def answer(self, said: Mapping[str, Any]) -> None:
        """Write down an answer: `id`, `seen`, `answer` or `unsure`, `note`.

        It is on the disk when this returns. Raises DataError where it cannot be used, and
        AnsweredElsewhere where `seen` is not the number of times this reviewer spoke of it.
        """
        note = said.get("note") or ""
        if not isinstance(note, str) or len(note) > LONGEST_NOTE:
            raise DataError(f"a note has up to {LONGEST_NOTE:,} characters")
        with self._review.folder.held():
            asked = self._review.folder.asked()
            item_id = said.get("id")
            if not isinstance(item_id, str) or item_id not in asked:
                raise DataError(f"no item {item_id!r:.80} is under review")
            if said.get("seen") != self._seen(item_id, self._own_lines()):
                raise AnsweredElsewhere
            answer = None
            unsure = said.get("unsure") is True
            if not unsure:
                try:
                    item = item_of(self._review.prepared, item_id)
                    answer = label_json(from_name(self._review.task, said.get("answer"), item))
                except InvalidAnswer as error:
                    raise DataError(str(error)) from error
            given = PersonsAnswer(item_id, self.reviewer, answer, unsure, note.strip())
            self._review.folder.append_answers([self._review.anchored(given)], asked)

    def undo(self) -> dict[str, Any] | None:
        """Take back the last answer that stands; gives its item as `next` does, with what `was`
        said of it. None where there is no answer."""
        with self._review.folder.held():
            asked = self._review.folder.asked()
            found = [line for line in standing(self._own_lines()).values() if line["id"] in asked]
            if not found:
                return None
            last = found[-1]
            self._review.folder.append_undo(asked[last["id"]], self.reviewer)
        page = self.next(keep=last["id"])
        was = {name: last.get(name) for name in ("answer", "unsure", "note")}
        if was["answer"] is not None:
            was["answer"] = self._named(was["answer"])
        return page | {"item": page["item"] | {"was": was}}

    def _shown(self, item_id: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        item = self._items[item_id]
        fields = [list(field) for field in item.fields.items()]
        shown = {"id": item_id, "seen": self._seen(item_id, lines), "fields": fields}
        if self._review.task.widget == "spans":
            found = item_of(self._review.prepared, item_id)
            assert found is not None
            shown["words"] = words_of(found)
        if self._review.task.widget == "boxes":
            found = item_of(self._review.prepared, item_id)
            assert found is not None
            shown["size"] = found.picture.size or (1, 1)
        if not item.candidates:
            return shown
        return shown | {"candidates": [self._named(label) for label in item.candidates]}

    def _named(self, label: Any) -> Any:
        """A label's JSON as the page's buttons are called."""
        return by_name(self._review.task, self._review.task.check(label))

    def _seen(self, item_id: str, lines: list[dict[str, Any]]) -> int:
        return sum(line["id"] == item_id for line in lines)

    def _own_lines(self) -> list[dict[str, Any]]:
        return [each for each in self._review.folder.lines() if each["reviewer"] == self.reviewer]

    def _read_items(self) -> None:
        """Take over what a later draw added."""
        self._order = self._review.asked_ids()
        new = [item_id for item_id in self._order if item_id not in self._items]
        self._items |= {item.id: item for item in self._review.shown(new)}
