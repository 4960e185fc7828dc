"""doccano: items as JSONL for its sequence labeling or text classification, and its export read.

Items carry their id and other fields as columns of their own, which doccano keeps as metadata and
writes out again. It knows no "unsure" and does not tell an item without labels from one that nobody
looked at, so two label types more say so, on whatever place they are put.
https://doccano.github.io/doccano/faq/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_relabel.errors import DataError
from llm_relabel.review.incoming import CANDIDATES, NO_LABEL, UNSURE, Filled
from llm_relabel.review.opening import Shown
from llm_relabel.tasks import Task, is_one_choice

ITEM, TEXT, LABEL = "item_id", "text", "label"
# What its exports call the text, the labels and the notes, of several versions and projects.
TEXTS = (TEXT, "data")
LABELS = (LABEL, "labels", "entities", "annotations")
_META = ("meta", "metadata")
_NOTES = "Comments"


def lines(items: Sequence[Shown], candidates: Mapping[str, str]) -> list[dict[str, Any]]:
    """One object an item, without any label, with its `candidates` in words if it has any."""
    found = []
    for item in items:
        first, *others = item.fields.values()
        more = {f"field_{n}": text for n, text in enumerate(others, start=2)}
        if item.id in candidates:
            more[CANDIDATES] = candidates[item.id]
        found.append({TEXT: first, LABEL: [], ITEM: item.id, **more})
    return found


def label_types(task: Task) -> list[dict[str, Any]]:
    """The label types of a project for these items, as its labels page imports them."""
    keys = [*"123456789", *"abcdefghijklmnopqrstuvwxyz"]
    words = (UNSURE,) if is_one_choice(task) else (UNSURE, NO_LABEL)
    return [
        {"text": name, "suffix_key": keys[place] if place < len(keys) else None}
        for place, name in enumerate((*task.names, *words))
    ]


def is_export(columns: set[str]) -> bool:
    """Whether rows with these keys may be doccano's of such items."""
    named = columns & {ITEM, *_META}
    return bool(named and columns & set(TEXTS) and columns & set(LABELS))


def from_lines(rows: Sequence[Mapping[str, Any]], task: Task) -> Iterator[Filled]:
    """The answers of a JSONL export, of one annotator or of several in one file.

    Raises DataError where the items have lost their ids.
    """
    for number, row in enumerate(rows, start=1):
        meta: Any = next((row[name] for name in _META if row.get(name)), {})
        kept = {**(meta if isinstance(meta, dict) else {}), **row}
        if ITEM not in kept:
            raise DataError(
                f"line {number} of doccano's export has no {ITEM!r}, which `review export --format "
                "doccano` writes beside each text: import that file into the project, and leave "
                "its columns as they are"
            )
        found: Any = next((row[name] for name in LABELS if row.get(name)), [])
        marked = [found] if isinstance(found, str) else list(found)
        names = [_name(each) for each in marked]
        otherwise = next((word for word in (UNSURE, NO_LABEL) if word in names), "")
        answers = [m for m, name in zip(marked, names, strict=True) if name != otherwise]
        answer: Any = answers or None
        if task.widget == "spans" and answers:
            answer = [_span(each) for each in answers]
        elif is_one_choice(task) and len(answers) == 1:
            answer = answers[0]
        notes = row.get(_NOTES) or []
        yield Filled(
            f"line {number}", kept[ITEM], answer, otherwise,
            "\n".join(str(n.get("text", n) if isinstance(n, dict) else n) for n in notes),
            as_judge=CANDIDATES in kept,
        )  # fmt: skip


def _name(mark: Any) -> Any:
    """The label of a mark: a name, [start, end, name], or an entity."""
    if isinstance(mark, dict):
        return mark.get("label")
    return mark[-1] if isinstance(mark, list) and mark else mark


def _span(mark: Any) -> Any:
    if isinstance(mark, dict) and {"start_offset", "end_offset", "label"} <= mark.keys():
        return [mark["start_offset"], mark["end_offset"], mark["label"]]
    return mark
