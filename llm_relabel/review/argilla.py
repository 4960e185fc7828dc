"""Argilla 2: records to log into a dataset, its settings, and exported records read back.

The form is that of `Dataset.records.to_json` and `Settings.to_json` of the argilla package.
https://docs.argilla.io/latest/how_to_guides/import_export/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_relabel.review.incoming import CANDIDATES, NO_LABEL, UNSURE, Filled
from llm_relabel.review.opening import Shown
from llm_relabel.tasks import Task, is_one_choice

ANSWER, OTHERWISE, NOTE = "answer", "otherwise", "note"
LATER = "later"  # a question needs two options; this one is no answer


def records(items: Sequence[Shown], candidates: Mapping[str, str]) -> list[dict[str, Any]]:
    """One record an item, with its `candidates` in words if it has any.

    There is no suggestion: it would not be blind, and would name one candidate before others.
    """
    return [
        {
            "id": item.id,
            "fields": {f"field_{n}": text for n, text in enumerate(item.fields.values(), start=1)}
            | ({CANDIDATES: candidates[item.id]} if item.id in candidates else {}),
            "metadata": {},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for item in items
    ]


def settings(
    task: Task, fields: Sequence[str], definitions: Sequence[Mapping[str, Any]], instruction: str,
    *, candidates: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The settings of a dataset for these records, which may have `candidates`."""
    guidelines = [
        instruction,
        *(f"**{each['name']}**: {each['definition']}" for each in definitions),
    ]
    words = (UNSURE, LATER) if is_one_choice(task) else (UNSURE, NO_LABEL, LATER)
    kind = "label_selection" if is_one_choice(task) else "multi_label_selection"
    return {
        "guidelines": "\n\n".join(guidelines),
        "fields": [
            _field(f"field_{number}", name, required=number == 1)
            for number, name in enumerate(fields, start=1)
        ]
        + ([_field(CANDIDATES, CANDIDATES, required=False)] if candidates else []),
        "questions": [
            _question(ANSWER, kind, task.names),
            _question(OTHERWISE, "label_selection", words),
            {
                "name": NOTE,
                "title": NOTE,
                "required": False,
                "settings": {"type": "text", "use_markdown": False},
            },
        ],
        "metadata": [],
        "vectors": [],
        "allow_extra_metadata": False,
    }


def from_records(rows: Sequence[Mapping[str, Any]]) -> Iterator[Filled]:
    """The answers of exported records: one for each record and user."""
    for number, row in enumerate(rows, start=1):
        by_user: dict[str, dict[str, Any]] = {}
        for question, responses in (row.get("responses") or {}).items():
            for each in responses:
                by_user.setdefault(str(each.get("user_id")), {})[question] = each.get("value")
        where = f"record {number}"
        as_judge = CANDIDATES in (row.get("fields") or {})
        if not by_user:
            yield Filled(where, row.get("id"), None, as_judge=as_judge)
        for user, said in by_user.items():
            otherwise = said.get(OTHERWISE) or ""
            yield Filled(
                where,
                row.get("id"),
                said.get(ANSWER) or None,
                "" if otherwise == LATER else otherwise,
                str(said.get(NOTE) or ""),
                user,
                as_judge=as_judge,
            )


def _field(name: str, title: str, *, required: bool) -> dict[str, Any]:
    text = {"type": "text", "use_markdown": False}
    return {"name": name, "title": title, "required": required, "settings": text}


def _question(name: str, kind: str, options: Sequence[str]) -> dict[str, Any]:
    shown = {"options": [{"value": each, "text": each} for each in options]}
    return {
        "name": name,
        "title": name,
        "required": False,
        "settings": {"type": kind, **shown, "visible_options": max(3, len(options))},
    }
