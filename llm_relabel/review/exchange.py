"""`review export` and `review import`: items out to other tools, answers back, all or none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.errors import DataError
from llm_relabel.files.journal import write_lines, write_whole
from llm_relabel.files.sheets import read_sheet, write_sheet
from llm_relabel.people.answers import folder_agreement
from llm_relabel.people.folder import reviewer_name, standing
from llm_relabel.review import argilla, doccano, label_studio
from llm_relabel.review.incoming import (
    CANDIDATES,
    NO_LABEL,
    UNSURE,
    Filled,
    answer_words,
    checked,
    from_cell,
    json_rows,
)
from llm_relabel.review.opening import Review, Shown, item_of
from llm_relabel.tasks import is_one_choice

ID, ANSWER, NOTE = "id", "answer", "note"
LONGEST_CELL = 30_000  # a spreadsheet's cell ends at 32,767 characters, and the rest breaks its row


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: answers that are new or changed, that were there, that are missing."""

    new: int
    same: int
    empty: int
    reviewers: tuple[str, ...]
    agreement: Mapping[str, Any]

    def told(self) -> str:
        """The import in words, and how the reviewers so far agree."""
        by = f" of {', '.join(self.reviewers)}" if self.reviewers else ""
        text = f"{self.new:,} answers{by} taken over; {self.same:,} were there already; "
        text += f"{self.empty:,} items are not answered"
        if self.agreement["items"]:
            text += (
                f"\n{self.agreement['raters']} reviewers on {self.agreement['items']:,} items with "
                "two answers or more"
            )
            if self.agreement["pairwise"] is not None:
                text += f": {self.agreement['pairwise']:.1%} of the pairs are equal"
            if (alpha := self.agreement["alpha"]["value"]) is not None:
                text += f", Krippendorff's alpha {alpha:.2f}"
        return text


def export_items(
    review: Review, path: Path, kind: str | None = None, reviewer: str | None = None
) -> str:
    """Write the items under review for people to answer; says what was written, in words.

    `kind` is one of EXPORTS; None is JSONL where the file is named so, otherwise CSV. With
    `reviewer`, what this person answered already is left out. Raises DataError for a `.json`
    file without `kind`: two tools have one.
    """
    suffix = path.suffix.lower()
    if kind is None and suffix == ".json":
        raise DataError(
            f"{str(path)!r} may be for Label Studio or for Argilla: add --format label-studio or "
            "--format argilla"
        )
    kind = kind or ("jsonl" if suffix == ".jsonl" else "csv")
    if review.task.widget == "boxes" and kind != "jsonl":
        raise DataError(
            f"boxes of a picture are not answered in {kind}: draw them on the page (`review "
            "serve`), or export with --format jsonl"
        )
    if review.task.widget == "spans" and kind in ("csv", "argilla"):
        raise DataError(
            f"spans of a text are not answered in {kind}: mark them on the page (`review serve`), "
            "or export with --format label-studio, --format doccano or --format jsonl"
        )
    wanted = review.asked_ids()
    if reviewer is not None:
        done = {i for i, name in standing(review.folder.lines()) if name == reviewer_name(reviewer)}
        wanted = [item_id for item_id in wanted if item_id not in done]
    items = review.shown(wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"{len(items):,} items written to {path}{EXPORTS[kind](review, items, path)}"


def import_answers(review: Review, path: Path, reviewer: str | None = None) -> Imported:
    """Take over the answers of a file in any of the formats; of another reviewer, they add.

    `reviewer` is who gave them; labeling tools name the annotators themselves. An answer that
    stands already is not written again. Raises DataError with all problems, and then takes none.
    """
    name = None if reviewer is None else reviewer_name(reviewer)
    try:
        filled = list(_read(review, path))
    except (AttributeError, TypeError) as error:
        raise DataError(f"{str(path)!r} has not the form of its export: {error}") from error
    if not review.as_judge and any(each.as_judge for each in filled):
        raise DataError(
            f"{str(path)!r} shows candidates, so its answers are not blind and no spot-checks; "
            "import it with --judge"
        )
    with review.folder.held():
        asked = review.folder.asked()
        given, empty = checked(
            filled, review.task, asked.keys(), _in_data(review, filled), path=path, reviewer=name,
            item_of=partial(item_of, review.prepared),
        )  # fmt: skip
        before = standing(review.folder.lines())
        new = []
        for each in map(review.anchored, given):
            line = before.get((each.id, each.reviewer), {})
            said = line.get("answer"), bool(line.get("unsure")), line.get("note", "")
            if not line or said != (each.answer, each.unsure, each.note):
                new.append(each)
        review.folder.append_answers(new, asked)
    people = tuple(sorted({each.reviewer for each in given}))
    agreement = folder_agreement(review.folder, review.task)
    return Imported(len(new), len(given) - len(new), empty, people, agreement)


def _in_data(review: Review, filled: Sequence[Filled]) -> set[str]:
    """Those ids of a file that the data has."""
    texts = [str(each.id) for each in filled]
    # A lone surrogate is legal in JSON, and in no id of the data.
    ids = pa.array([i for i in texts if i.encode(errors="replace").decode() == i], pa.string())
    found = pc.is_in(ids, value_set=review.prepared.dataset.ids)
    return set(ids.filter(found).to_pylist())


def _read(review: Review, path: Path) -> Iterable[Filled]:
    """The answers of a file, whichever of the formats it is. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) and path.suffix.lower() in (".csv", ".tsv"):
            return _sheet(review, path)  # what a spreadsheet saves as Unicode text
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = _plain_rows(path, text)
        # Label Studio's own CSV has no apostrophes to take off.
        if rows and rows[0].keys() >= label_studio.COLUMNS:
            return label_studio.from_flat(rows, review.task)
        return _sheet(review, path)
    found = json_rows(path, text)
    columns = set().union(*(row.keys() for row in found))
    if columns & {"annotations", "completions"}:
        return label_studio.from_tasks(found, review.task)
    if columns >= label_studio.COLUMNS:
        return label_studio.from_flat(found, review.task)
    if {"fields", "responses"} <= columns:
        return argilla.from_records(found)
    if {ID, ANSWER} <= columns:
        return _lines(found)
    if doccano.is_export(columns):
        return doccano.from_lines(found, review.task)
    raise DataError(
        f"{str(path)!r} is none of the formats: neither {ID!r} and {ANSWER!r}, as `review export` "
        "writes them, nor an export of Label Studio (JSON, JSON-MIN, CSV, TSV), of doccano (JSONL, "
        "with its item_id) "
        f"or of Argilla (records.to_json); its keys are {', '.join(sorted(columns))[:200]}"
    )


def _plain_rows(path: Path, text: str) -> list[dict[str, Any]]:
    """The rows of a CSV or TSV that no spreadsheet has touched."""
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{str(path)!r} cannot be read as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _sheet(review: Review, path: Path) -> Iterable[Filled]:
    rows = read_sheet(path)
    if rows and (missing := {ID, ANSWER} - rows[0].keys()):
        raise DataError(f"the sheet {str(path)!r} has no column {', '.join(sorted(missing))}")
    for number, row in enumerate(rows, start=1):
        answer, otherwise = from_cell(row[ANSWER], review.task)
        yield Filled(
            f"row {number}", row[ID], answer, otherwise, row.get(NOTE, ""),
            as_judge=CANDIDATES in row,
        )  # fmt: skip


def _lines(rows: Sequence[Any]) -> Iterable[Filled]:
    for number, row in enumerate(rows, start=1):
        otherwise = UNSURE if row.get(UNSURE) else ""
        answer = row.get(ANSWER)
        if answer == []:
            answer, otherwise = None, otherwise or NO_LABEL
        note = row.get(NOTE) or ""
        yield Filled(
            f"line {number}", row.get(ID), answer, otherwise, str(note), as_judge=CANDIDATES in row
        )


def _as_sheet(review: Review, items: Sequence[Shown], path: Path) -> str:
    fields = [] if not items else list(items[0].fields)
    names: list[str] = []
    for field in fields:
        while field in (ID, CANDIDATES, ANSWER, NOTE, *names):
            field += "_"  # noqa: PLW2901 - longer until it differs from ours
        names.append(field)
    write_sheet(
        path,
        [ID, *names, *([CANDIDATES] if review.as_judge else []), ANSWER, NOTE],
        (
            [item.id, *map(_cut, item.fields.values()), *_candidates(review, item), "", ""]
            for item in items
        ),
        review.prepared.dataset.sheet_delimiter,
    )
    unsure, none = answer_words(review.task)
    how = f"; fill in `{ANSWER}` with a label, or {unsure} for unsure"
    if not is_one_choice(review.task):
        how += f" (several labels between semicolons, {none} where none applies)"
    return how


def _as_lines(review: Review, items: Sequence[Shown], path: Path) -> str:
    write_lines(
        path,
        (
            {
                ID: item.id,
                "fields": dict(item.fields),
                **({CANDIDATES: item.candidates} if review.as_judge else {}),
                ANSWER: None,
                UNSURE: False,
                NOTE: "",
            }
            for item in items
        ),
    )
    form = "a label" if is_one_choice(review.task) else "a list of labels"
    if review.task.widget == "spans":
        form = "a list of spans (start, end, type) in characters of the first field"
    if review.task.widget == "boxes":
        form = "a list of boxes (label, box: left, top, right, bottom in pixels)"
    return f"; fill in `{ANSWER}` with {form}, or set `{UNSURE}` to true"


def _as_label_studio(review: Review, items: Sequence[Shown], path: Path) -> str:
    config = path.with_suffix(".config.xml")
    _write_json(path, label_studio.tasks(items, _shown_candidates(review, items)))
    made = label_studio.labeling_config(
        review.task, *_beside(review, items), candidates=review.as_judge
    )
    write_whole(config, made.encode())
    return f"; the labeling config of the project is in {config}"


def _as_argilla(review: Review, items: Sequence[Shown], path: Path) -> str:
    settings = path.with_suffix(".settings.json")
    _write_json(path, argilla.records(items, _shown_candidates(review, items)))
    made = argilla.settings(review.task, *_beside(review, items), candidates=review.as_judge)
    _write_json(settings, made)
    return f"; the settings of the dataset are in {settings}"


def _as_doccano(review: Review, items: Sequence[Shown], path: Path) -> str:
    types = path.with_suffix(".labels.json")
    write_lines(path, doccano.lines(items, _shown_candidates(review, items)))
    _write_json(types, doccano.label_types(review.task))
    return f"; the label types of the project are in {types}"


def _candidates(review: Review, item: Shown) -> list[str]:
    """The candidates of a judge's question in one text; nothing of a spot-check."""
    if item.candidates is None:
        return []
    labels = [review.task.check(label) for label in item.candidates]
    return [" | ".join(map(review.task.show, labels))]


def _shown_candidates(review: Review, items: Sequence[Shown]) -> dict[str, str]:
    return {item.id: text for item in items for text in _candidates(review, item)}


def _beside(review: Review, items: Sequence[Shown]) -> tuple[list[str], list[dict[str, Any]], str]:
    fields = list(review.prepared.dataset.fields.column_names)
    return fields, review.definitions(items), review.instruction()


def _write_json(path: Path, value: Any) -> None:
    # ASCII: a lone surrogate of a dataset has no other form.
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + " ... (cut)"


EXPORTS: dict[str, Callable[[Review, Sequence[Shown], Path], str]] = {
    "csv": _as_sheet,
    "jsonl": _as_lines,
    "label-studio": _as_label_studio,
    "argilla": _as_argilla,
    "doccano": _as_doccano,
}
