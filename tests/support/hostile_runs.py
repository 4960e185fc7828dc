"""Puts the hostile corpus through whole runs of the program, and looks at all that comes out.

`check_run` makes a job whose rows, ids, labels and definitions attack, runs every command that
shows data, and counts what got out: a file or element of the canary, a control character on a
terminal, a formula in a sheet, a changed byte in the dataset, a traceback.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from hostile import CANARY, ELEMENT, HOSTILE_DEFINITIONS, HostileItem
from hostile_checks import Found
from markdown_it import MarkdownIt

from llm_relabel import Run
from llm_relabel.files.sheets import read_sheet

NAMES = tuple(HOSTILE_DEFINITIONS)
# fmt: off
ELEMENTS = frozenset((
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2",
    "h3", "h4", "p", "ul", "ol", "li", "table", "caption", "colgroup", "col", "thead", "tbody",
    "tfoot", "tr", "th", "td", "details", "summary", "div", "span", "strong", "em", "b", "i",
    "code", "blockquote", "pre", "small", "br", "hr", "wbr", "use", "clippath", "a", "nav",
    "footer", "figure", "figcaption", "svg", "g", "path", "line", "polyline", "polygon", "rect",
    "circle", "text", "dl", "dt", "dd", "mark", "sup", "sub", "article", "time", "label",
    "input", "button", "script", "template", "s", "del", "ins", "defs", "tspan",
))
# fmt: on
SURROGATE = re.compile("[\ud800-\udfff]")
# What a terminal obeys, or what turns the line around.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def hostile_rows(items: Sequence[HostileItem], form: str) -> list[dict[str, str]]:
    """The items as rows of a dataset, labels in turn; what `form` cannot hold is left out."""
    rows = []
    for item in items:
        if not SURROGATE.sub("\ufffd", item.text).strip():
            continue  # a row without text is refused, and says so
        if form == "csv" and (SURROGATE.search(item.text) or "\x00" in item.text + item.id):
            continue
        rows.append({"id": item.id, "text": item.text, "label": NAMES[len(rows) % len(NAMES)]})
    return rows


def write_job(folder: Path, rows: Sequence[dict[str, str]], form: str, judge: Any) -> Path:
    """The dataset, predictions that flag every row, and a job file."""
    data = folder / f"data.{form}"
    if form == "csv":
        with data.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text", "label"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    else:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            wrong = (NAMES.index(row["label"]) + 1) % len(NAMES)
            probs = [0.7 if n == wrong else 0.3 / (len(NAMES) - 1) for n in range(len(NAMES))]
            file.write(json.dumps({"id": row["id"], "pred_probs": probs}) + "\n")
    raw = {
        "task": "classification",
        "data": {"path": data.name, "text": "text", "label": "label", "id": "id"},
        "labels": HOSTILE_DEFINITIONS,
        "model": {"predictions": "predictions.jsonl"},
        "judge": judge,
        "decide": {"policy": "replace"},
        "rounds": 2,
        "output": "run",
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return folder / "job.yaml"


def check_run(
    folder: Path, items: Sequence[HostileItem], judge: Any, *, form: str = "jsonl"
) -> Found:
    """One whole run over the items with this `judge` section, and all commands that show it."""
    found = Found(f"run, {form}, {judge['model']}")
    rows = hostile_rows(items, form)
    found.items.update(item.family for item in items if item.id in {row["id"] for row in rows})
    write_job(folder, rows, form, judge)
    for words in (("plan", "job.yaml", "--prompts", str(len(rows))), ("run", "job.yaml"),
                  ("report", "run")):  # fmt: skip
        done = call(folder, *words)
        if done.returncode:
            found.crashes.append(f"{words[0]} exits {done.returncode}: {done.stderr[-500:]}")
        for stream, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            if seen := UNSEEN.search(text):
                around = text[max(0, seen.start() - 60) : seen.end() + 20]
                found.escapes.append(f"{words[0]}, {stream}: a control character in {around!r}")
            if "Traceback" in text:
                found.crashes.append(f"{words[0]}: {text[-500:]}")
        if words[0] == "report":
            _check_markup(
                found, "report as Markdown", MarkdownIt().enable("table").render(done.stdout)
            )
    if found.crashes:
        return found
    _check_markup(found, "report.html", (folder / "run/report.html").read_text(encoding="utf-8"))
    _check_sheet(found, folder / "run/changes.csv")
    found.outcomes["changed"] = _check_dataset(found, folder, form)
    for path in (*folder.rglob(f"*{CANARY}*"), *Path.cwd().glob(f"*{CANARY}*")):
        found.escapes.append(f"{path.name} was made")
    return found


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program, in `folder`; newlines of its output are left as they are."""
    done = subprocess.run(
        [sys.executable, "-m", "llm_relabel", *words], cwd=folder, env=dict(os.environ),
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    told = [stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(done.args, done.returncode, *told)


class _Page(HTMLParser):
    """What a browser would make of a page: its elements, what they run and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ELEMENTS or tag == ELEMENT:
            self.wrong.append(f"an element <{tag[:60]}>")
        self._script = tag == "script"
        for name, value in attrs:
            if name.startswith("on"):
                self.wrong.append(f"an attribute {name}={value!r:.60}")
            if name in ("href", "src") and not (value or "").startswith(("#", "data:image/svg")):
                self.wrong.append(f"a way out: {name}={value!r:.60}")

    def handle_data(self, data: str) -> None:
        if self._script and CANARY in data:
            self.wrong.append(f"text of an item inside of a script: {data!r:.200}")
        self._script = False


def _check_markup(found: Found, name: str, page: str) -> None:
    parser = _Page()
    parser.feed(page)
    parser.close()
    found.escapes += [f"{name}: {wrong}" for wrong in parser.wrong]


def _check_sheet(found: Found, path: Path) -> None:
    """No cell is a formula, with whichever separator a spreadsheet reads; and it can be read."""
    text = path.read_bytes().decode("utf-8-sig")
    csv.field_size_limit(1 << 24)
    for delimiter in ",;\t":
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            for cell in line:
                if re.match(r"[\s\"\u200b-\u200f\ufeff]*[=+\-@＝＋－＠]", cell):
                    found.escapes.append(f"changes.csv: the cell {cell!r:.100}")
    for change, row in zip(Run(path.parent).changes(), read_sheet(path), strict=True):
        if (change["id"], change["unit"]) != (row["id"], row["unit"]):
            found.escapes.append(
                f"changes.csv: {change['id']!r:.80} came back as {row['id']!r:.80}"
            )


def _check_dataset(found: Found, folder: Path, form: str) -> int:
    """Nothing but label cells differs, and those hold defined labels; how many differ."""
    before = _records(folder / f"data.{form}", form)
    after = _records(folder / f"run/dataset.{form}", form)
    changed = 0
    if len(before) != len(after):
        found.escapes.append(f"{len(before)} rows became {len(after)}")
    for old, new in zip(before, after, strict=False):
        if old == new:
            continue
        changed += 1
        one, other = _cells(old, form), _cells(new, form)
        if one[:2] != other[:2] or other[2] not in NAMES:
            found.escapes.append(f"a row became {new!r:.200}")
    return changed


def _records(path: Path, form: str) -> list[bytes]:
    """The rows as bytes; in a CSV file a newline inside of quotes ends no row."""
    data = path.read_bytes()
    if form == "jsonl":
        return data.split(b"\n")
    return re.findall(rb'(?:"[^"]*"|[^"\n])+\n?', data)


def _cells(record: bytes, form: str) -> list[str]:
    text = record.decode("utf-8")
    if form == "jsonl":
        return list(json.loads(text).values())
    return next(csv.reader(io.StringIO(text, newline="")))
