"""Label Studio: tasks and a labeling config to import there, and its exports read back.

Its JSON, JSON-MIN, CSV and TSV exports are read. The config's names are part of the format: they
come back as columns. https://labelstud.io/guide/export
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from llm_relabel.data.offsets import Offsets
from llm_relabel.errors import DataError
from llm_relabel.review.incoming import CANDIDATES, NO_LABEL, UNSURE, Filled
from llm_relabel.review.opening import Shown
from llm_relabel.tasks import Task, is_one_choice

ITEM, ANSWER, OTHERWISE, NOTE = "item_id", "answer", "otherwise", "note"
COLUMNS = frozenset((ITEM, "annotator", "annotation_id", "lead_time"))  # of its flat exports


def tasks(items: Sequence[Shown], candidates: Mapping[str, str]) -> list[dict[str, Any]]:
    """One task an item, with its `candidates` in words if it has any.

    A task's own `id` is Label Studio's, so ours has another name.
    """
    return [
        {
            "data": {ITEM: item.id}
            | {f"field_{n}": text for n, text in enumerate(item.fields.values(), start=1)}
            | ({CANDIDATES: candidates[item.id]} if item.id in candidates else {})
        }
        for item in items
    ]


def labeling_config(
    task: Task, fields: Sequence[str], definitions: Sequence[Mapping[str, Any]], instruction: str,
    *, candidates: bool = False,
) -> str:  # fmt: skip
    """The labeling config (XML) for a project with these tasks, which may have `candidates`."""
    lines = ["<View>", f'  <Header value={_attribute(instruction)} size="4"/>']
    for number, name in enumerate(fields, start=1):
        lines.append(f'  <Header value={_attribute(name)} size="6"/>')
        lines.append(
            f'  <Text name="field_{number}" value="$field_{number}" valueType="text" '
            'granularity="word"/>'
        )
    if candidates:
        lines.append(f'  <Header value={_attribute(CANDIDATES)} size="6"/>')
        lines.append(f'  <Text name="{CANDIDATES}" value="${CANDIDATES}"/>')
    choice = "single" if is_one_choice(task) else "multiple"
    outer, inner, more = "Choices", "Choice", f' choice="{choice}"'
    if task.widget == "spans":
        outer, inner, more = "Labels", "Label", ""
    lines.append(f'  <{outer} name="{ANSWER}" toName="field_1"{more}>')
    lines += [
        f"    <{inner} value={_attribute(each['name'])} hint={_attribute(each['definition'])}/>"
        for each in definitions
    ]
    lines.append(f"  </{outer}>")
    lines.append(f'  <Choices name="{OTHERWISE}" toName="field_1" choice="single">')
    words = (UNSURE,) if is_one_choice(task) else (UNSURE, NO_LABEL)
    lines += [f"    <Choice value={_attribute(word)}/>" for word in words]
    lines.append("  </Choices>")
    lines.append(
        f'  <TextArea name="{NOTE}" toName="field_1" placeholder="A note" maxSubmissions="1" '
        'editable="true"/>'
    )
    return "\n".join([*lines, "</View>", ""])


def from_tasks(rows: Sequence[Mapping[str, Any]], task: Task) -> Iterator[Filled]:
    """The answers of a JSON export: each annotation that was submitted and not skipped.

    Raises DataError for one that another labeling setup was answered in.
    """
    for number, row in enumerate(rows, start=1):
        data = row.get("data")
        item_id = data.get(ITEM) if isinstance(data, dict) else None
        where = f"task {row.get('id', number)}"
        as_judge = isinstance(data, dict) and CANDIDATES in data
        annotations = row.get("annotations") or row.get("completions") or []
        if not annotations:
            yield Filled(where, item_id, None, as_judge=as_judge)
        for each in annotations:
            if each.get("was_cancelled") or each.get("skipped"):
                yield Filled(where, item_id, None, as_judge=as_judge)
                continue
            parts: dict[str, list[Any]] = {}
            for result in each.get("result") or []:
                value = result.get("value") or {}
                if isinstance(value, dict) and "labels" in value:
                    parts.setdefault(str(result.get("from_name")), []).append(value)
                    continue
                found = value.get("choices") or value.get("text") or []
                parts.setdefault(str(result.get("from_name")), []).extend(
                    [found] if isinstance(found, str) else found
                )
            if parts and not parts.keys() & {ANSWER, OTHERWISE, NOTE}:
                raise DataError(
                    f"{where} is answered in {', '.join(map(repr, sorted(parts)))}, none of "
                    f"the controls {ANSWER!r}, {OTHERWISE!r} and {NOTE!r}: it is of a project with "
                    "another labeling setup than `review export` wrote"
                )
            yield _filled(
                where, item_id, parts, task, _annotator(each.get("completed_by")),
                str(each.get("updated_at") or each.get("created_at") or ""), as_judge=as_judge,
                text=str(data.get("field_1", "")) if isinstance(data, dict) else "",
            )  # fmt: skip


def from_flat(rows: Sequence[Mapping[str, Any]], task: Task) -> Iterator[Filled]:
    """The answers of a JSON-MIN, CSV or TSV export: one row an annotation."""
    for number, row in enumerate(rows, start=1):
        parts = {name: _flat(row.get(name), task) for name in (ANSWER, OTHERWISE, NOTE)}
        at = str(row.get("updated_at") or row.get("created_at") or "")
        yield _filled(
            f"row {number}", row.get(ITEM), parts, task, _annotator(row.get("annotator")), at,
            as_judge=CANDIDATES in row, text=str(row.get("field_1", "")),
        )  # fmt: skip


def _filled(
    where: str, item_id: Any, parts: Mapping[str, list[Any]], task: Task, annotator: str | None,
    at: str, *, as_judge: bool, text: str,
) -> Filled:  # fmt: skip
    names = parts.get(ANSWER) or []
    answer: Any = list(names) or None
    if is_one_choice(task) and len(names) == 1:
        answer = names[0]
    if names and task.widget == "spans":
        answer = _spans(names, text)
    otherwise = (parts.get(OTHERWISE) or [""])[0]
    note = "\n".join(parts.get(NOTE) or [])
    return Filled(where, item_id, answer, otherwise, note, annotator, at, as_judge)


def _spans(marked: Sequence[Any], text: str) -> list[Any]:
    """Spans in characters of the text, where Label Studio counts UTF-16 units."""
    try:
        return [list(each) for each in Offsets(None).read(0, marked, text)]
    except ValueError:
        return list(marked)


def _flat(value: Any, task: Task) -> list[Any]:
    """What the converter made of a control's results: text, an object, a list of either, or the
    JSON text of these."""
    if value in (None, ""):
        return []
    if isinstance(value, str):
        if value in task.names or value[0] not in "[{":
            return [value]
        try:
            return _flat(json.loads(value), task)
        except ValueError:
            return [value]
    if isinstance(value, dict):
        if "labels" in value:
            return [value]
        return _flat(value.get("choices") or value.get("text"), task)
    return [
        text for part in value for text in ([part] if isinstance(part, str) else _flat(part, task))
    ]


def _annotator(found: Any) -> str | None:
    if isinstance(found, dict):
        found = found.get("email") or found.get("id")
    return None if found in (None, "", "None") else str(found)


def _attribute(text: str) -> str:
    # An attribute's line breaks would be read as blanks.
    return quoteattr(text, {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})
