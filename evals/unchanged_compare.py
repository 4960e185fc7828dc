"""What `unchanged.py` compares: two folders line by line, and what is meant to differ in them."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

# The unit's name on the `before` side -> its name now. A class of multi-label data was called by
# its bare name; names that are not here stay. A side that has the new form already is left as is.
UNITS = {
    "label": "label",
    "card": "class:card", "cash": "class:cash", "transfer": "class:transfer",
    "top_up": "class:top_up", "fee": "class:fee",
}  # fmt: skip

# What is meant to differ: the file; the part of a line that may; and why. Beside these, old sheets
# of changes are read with the words of today, see `_cell`.
STATED = [
    (re.compile(file), re.compile(part), why)
    for file, part, why in (
        (
            r"^multi_spot_checks/",
            r'"agree": [\d.]+|agree [\d.]+%',
            "the audited candidate `agree` follows the small model unit by unit in multi-label "
            "data, as decisions do, no longer only where all of an item agrees",
        ),
        (
            r"^rollback/multi_label[/_]",  # one run folder: what is left in it is another set
            r"(?s).+",
            "`rollback --label card` also undoes first labels of items that are sets with that "
            "class, which no name matched before",
        ),
        (
            r"^rollback/multi_undone\.json$",
            r'"label": \d+',
            "the number of those changes",
        ),
        (
            r" \(taken over\)/(summary|report)\.json$",
            r'"cost_unaccounted": 0(\.0)?',
            "a run that goes on writes `0.0` where one that ended at once wrote `0`, with either "
            "checkout",
        ),
    )
]
WORDS = (
    "In `changes.csv` of `before`, `with` and `without` are read as `with NAME` and `without "
    "NAME`, as reports always wrote it, and the empty cell of a whole item without any class as "
    "`(none applies)`. Reports of `before` are read with `Right labels` for `Labels right`, and "
    "today's members `measure` of summaries and evaluations are passed over."
)

# Words that reports had on the `before` side, and have now.
REWORDED = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\bLabels right\b", "Right labels"),
        (r"\bThe share of right labels after\b", "Right labels after"),
        (r"\bAbove: the share of right labels\b", "Above: right labels"),
        (r">labels right<", ">right labels<"),
    )
]
# The member of summaries and evaluations that names a task's measure, and had no place before.
ADDED = "measure"

# Put aside on both sides: times, versions, and where the run lay.
MASKS = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r'"at": ?"[^"]*"', '"at":"-"'),
        (r'"seconds": ?(?:null|[\d.e+-]+)', '"seconds":0'),
        (r'"seconds": ?\{[^{}]*\}', '"seconds":{}'),
        (r'"versions": ?\{[^{}]*\}', '"versions":{}'),
        (r"\b[\d.,]+ (?:s|ms|minutes|items a second)\b", "(time)"),
        (r"\bmade \d{4}-\d\d-\d\dT[\d:+]+", "made -"),
    )
]
# Where a kill came is nobody's choice: how often was asked, and what the cache then had, vary.
UNSTEADY = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r'"(cached|calls|cost)": ?(?:true|false|null|[\d.e+-]+)', r'"\1":0'),
        (r'"tokens": ?\{[^{}]*\}', '"tokens":{}'),
    )
]
UNSTEADY_RUN = "killed/killed/"
# Not compared: what says only when and how fast; the state at the moment of the kill; the words of
# the unsteady run.
LEFT_OUT = re.compile(
    r"(^|/)\.|\.log$|^killed/half/|^killed/killed/report\.(md|html)$|^take_over/(?!checks\.json)"
)
MULTI_LABEL = re.compile(r"\bmulti")


@dataclass(frozen=True)
class Difference:
    """`line` is a line's number, or empty; `before` and `after` what differs there."""

    file: str
    line: int | str
    before: str
    after: str
    whole_item: bool = False
    stated: str = ""  # why it is meant to differ


class Comparison:
    """What two folders hold, file by file."""

    def __init__(self, before: Path, after: Path) -> None:
        self._homes = {before: "HOME", after: "HOME"}
        self.files: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.differences: list[Difference] = []

    def hide(self, folder: Path) -> None:
        """A checkout's own path is no difference."""
        self._homes[folder] = "CHECKOUT"

    def compare(self, before: Path, after: Path, *, name: str, taken_over: bool = False) -> None:
        """All files of two folders. `taken_over`: `after` holds what `before` wrote, old names
        of units too."""
        there = {
            f"{name}/{path.relative_to(folder)}"
            for folder in (before, after)
            for path in folder.rglob("*")
            if path.is_file()
        }
        for file in sorted(there):
            rest = file.removeprefix(f"{name}/")
            if not LEFT_OUT.search(file) and not (taken_over and rest == "job.yaml"):
                shown = f"{name} (taken over)/{rest}" if taken_over else file
                self._file(shown, before / rest, after / rest, both=taken_over)

    def _file(self, file: str, before: Path, after: Path, *, both: bool) -> None:
        job = file.partition("/")[0] if "taken over" not in file else "take_over"
        self.files[job] += 1
        missing = [side.exists() for side in (before, after)]
        if not all(missing):
            here, gone = ("there", "missing") if missing[0] else ("missing", "there")
            self.differences.append(Difference(file, "", here, gone))
            return
        one = self._lines(file, before, old=True)
        other = self._lines(file, after, old=both)
        self.lines[job] += len(one)
        if one != other:
            for line, was, now in _pairs(one, other):
                found = _difference(file, line, was, now)
                self.differences.append(replace(found, stated=_stated(file, was, now)))

    def _lines(self, file: str, path: Path, *, old: bool) -> list[str]:
        """The lines to compare. `old`: units may have the names that they had."""
        if path.suffix == ".parquet":
            return _parquet_lines(path)
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if path.suffix == ".json" and f'"{ADDED}"' in text:
            text = _without(ADDED, text)
        for folder, name in self._homes.items():
            text = text.replace(str(folder), name)
        for mask, put in [*MASKS, *(UNSTEADY if UNSTEADY_RUN in file else [])]:
            text = mask.sub(put, text)
        if path.name == "changes.csv" or path.name.endswith("_marked.csv"):
            return _sheet_lines(text, _units_of(file) if old else None)
        if old:
            for words, put in REWORDED:
                text = words.sub(put, text)
            units = _units_of(file)
            text = re.sub(
                r'("unit": ?)"([^"\\]*)"',
                lambda found: f'{found[1]}"{units.get(found[2], found[2])}"',
                text,
            )
        # Split at newlines alone: texts hold other characters that end a line elsewhere.
        lines = text.split("\n")
        return sorted(lines) if path.name == "verdicts.jsonl" else lines


def _units_of(file: str) -> Mapping[str, str]:
    """The map of units for one file: what is decided of a whole multi-label item has its own."""
    return {**UNITS, "label": "item"} if MULTI_LABEL.search(file) else UNITS


def _without(name: str, text: str) -> str:
    """A JSON file's text, in its own indentation, without the members called `name`."""

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key != name}
        return [strip(each) for each in value] if isinstance(value, list) else value

    indent = len(text.partition("\n")[2]) - len(text.partition("\n")[2].lstrip(" "))
    end = "\n" if text.endswith("\n") else ""
    return json.dumps(strip(json.loads(text)), ensure_ascii=False, indent=indent) + end


def _parquet_lines(path: Path) -> list[str]:
    """Names and types of the columns, then a line a row; the metadata is not looked at."""
    found = pq.read_table(path)
    columns = [f"{field.name}: {field.type}" for field in found.schema]
    return [", ".join(columns), *(json.dumps(row) for row in found.to_pylist())]


def _sheet_lines(text: str, units: Mapping[str, str] | None) -> list[str]:
    """The rows of `changes.csv`; with `units`, which are their new names, in today's words."""
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    place, values = header.index("unit"), [header.index(name) for name in ("old", "new")]
    for row in rows if units is not None else []:
        row[place] = units.get(row[place], row[place])
        for column in values:
            row[column] = _cell(row[place], row[column])
    return [json.dumps(row) for row in [header, *rows]]


def _cell(unit: str, shown: str) -> str:
    """A value of a unit as `changes.csv` writes it now; it wrote no name and no empty set."""
    if shown in ("with", "without") and unit.startswith("class:"):
        return f"{shown} {unit.removeprefix('class:')}"
    return "(none applies)" if unit == "item" and not shown else shown


def _stated(file: str, was: str, now: str) -> str:
    """Why two lines are meant to differ, where the parts that may are all that does."""
    for files, part, why in STATED:
        if files.search(file) and part.sub("", was) == part.sub("", now):
            return why
    return ""


def _pairs(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Lines that differ, aligned where lines came or went."""
    if len(one) == len(other):
        for number, (was, now) in enumerate(zip(one, other, strict=True), 1):
            if was != now:
                yield number, was, now
        return
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        for step in range(max(end - start, other_end - other_start)):
            was = one[start + step] if start + step < end else ""
            now = other[other_start + step] if other_start + step < other_end else ""
            yield start + step + 1, was, now


def _difference(file: str, line: int, was: str, now: str) -> Difference:
    """Two lines; of two JSON objects only the members that differ, under the id."""
    whole = bool(MULTI_LABEL.search(file)) and '"unit":"label"' in was + now
    try:
        one, other = json.loads(was), json.loads(now)
        assert isinstance(one, dict)
        assert isinstance(other, dict)
    except (ValueError, AssertionError):
        return Difference(file, line, was, now, whole)
    names = [name for name in [*one, *other] if one.get(name, "-") != other.get(name, "-")]
    if one.get("id") != other.get("id") or not names:
        return Difference(file, line, was, now, whole)  # another item, or the order of the members
    shown = [
        json.dumps({**({"id": each["id"]} if "id" in each else {}),
                    **{name: each[name] for name in names if name in each}})
        for each in (one, other)
    ]  # fmt: skip
    return Difference(file, line, shown[0], shown[1], whole)
