"""Does a refactoring leave what classification does as it was, byte for byte?

    LLM_RELABEL_DATA=... python evals/unchanged.py --before REV_OR_FOLDER [--after REV_OR_FOLDER]
        [--only JOB ...] [--into FOLDER]

Runs the jobs of `unchanged_jobs.py` with two checkouts, each in a process of its own with an empty
cache, and compares all that they leave: prompts as sent, asks, verdicts, issues, decisions,
changes, predictions, beliefs, datasets, summaries, reports, evaluations. Then `after` goes on with
run folders that `before` wrote, which must ask nothing anew, and undoes all of their changes.

`--after` is the working tree where it is not named; a revision is checked out beside it for the
time of the run. `--into` keeps what both sides wrote. With `--only`, results are not kept. The exit
status is 1 where anything differs that is not meant to. What is meant to differ, what is not
compared, and what is compared under another name, is said by the data that this script begins with.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import difflib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from machine import facts, keep, table

HERE = Path(__file__).parent
JOBS = HERE / "unchanged_jobs.py"

# The unit's name on the `before` side -> its name now. A class of multi-label data was called by
# its bare name; names that are not here stay. A side that has the new form already is left as is.
UNITS = {
    "label": "label",
    "card": "class:card", "cash": "class:cash", "transfer": "class:transfer",
    "top_up": "class:top_up", "fee": "class:fee",
}  # fmt: skip

# What is meant to differ: the file, the line on both sides, and why. Beside these, old sheets of
# changes are read with the words of today, see `_cell`.
STATED = [
    (re.compile(file), re.compile(line), why)
    for file, line, why in (
        (
            r"^(multi_spot_checks|take_over|rollback)/.*(summary|report)\.json$",
            r'^\s*"agree": [\d.]+,?$',
            "the audited candidate `agree` follows the small model unit by unit in multi-label "
            "data, as decisions do, no longer only where all of an item agrees",
        ),
    )
]
WORDS = (
    "In `changes.csv` of `before`, `with` and `without` are read as `with NAME` and `without "
    "NAME`, as reports always wrote it, and the empty cell of a whole item without any class as "
    "`(none applies)`."
)

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
SHOWN, LONGEST = 200, 300


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
        for folder, name in self._homes.items():
            text = text.replace(str(folder), name)
        for mask, put in [*MASKS, *(UNSTEADY if UNSTEADY_RUN in file else [])]:
            text = mask.sub(put, text)
        if path.name == "changes.csv":
            return _sheet_lines(text, _units_of(file) if old else None)
        if old:
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
    for files, line, why in STATED:
        if files.search(file) and line.search(was) and line.search(now):
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


@contextlib.contextmanager
def checkout(named: str) -> Iterator[tuple[Path, str]]:
    """The folder of a checkout, and what to call it; a revision's is there only meanwhile."""

    def git(*words: str, folder: Path = HERE) -> str:
        done = subprocess.run(["git", *words], cwd=folder, check=False, capture_output=True,
                              text=True)  # fmt: skip
        if done.returncode:
            sys.exit(f"git {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    folder = Path(named)
    if folder.is_dir():
        folder = folder.resolve()
        if not (folder / "llm_relabel").is_dir():
            sys.exit(f"{named!r} is no checkout: it has no folder llm_relabel")
        if not (folder / ".git").exists():
            yield folder, "a folder without git"
            return
        dirty = " with uncommitted changes" if git("status", "--porcelain", folder=folder) else ""
        yield folder, git("rev-parse", "--short=12", "HEAD", folder=folder) + dirty
        return
    commit = git("rev-parse", "--verify", "--short=12", f"{named}^{{commit}}")
    with tempfile.TemporaryDirectory() as home:
        made = Path(home).resolve() / "checkout"
        git("worktree", "add", "--detach", str(made), commit)
        try:
            yield made, commit
        finally:
            git("worktree", "remove", "--force", str(made))


def free_port() -> int:
    """A port of this machine that no client takes by itself, as those above 32767 are."""
    for port in range(20000 + os.getpid() % 10000, 32768):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port was found")


def start(folder: Path, home: Path, port: int, *words: str) -> subprocess.Popen[str]:
    """The jobs with one checkout; both sides are given the same environment."""
    home.mkdir(parents=True, exist_ok=True)
    keys = ("_API_KEY", "_BASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.endswith(keys)}
    env |= {
        "PYTHONPATH": str(folder), "LLM_RELABEL_CACHE": str(home / "cache"),
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1", "UNCHANGED_PORT": str(port),
        "UNCHANGED_LOCK": str(home.parent / "turn.lock"),
    }  # fmt: skip
    command = [sys.executable, str(JOBS), str(home), "--checkout", str(folder), *words]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)  # fmt: skip


def finish(side: str, process: subprocess.Popen[str]) -> str:
    """Wait for a side; what it ended with where it failed, else nothing."""
    said, _ = process.communicate()
    for line in said.splitlines():
        print(f"{side}: {line}", file=sys.stderr)
    return "" if process.returncode == 0 else "\n".join(said.splitlines()[-15:])


def compare_all(
    before: Path, after: Path, homes: Mapping[str, Path], names: Sequence[str]
) -> tuple[Comparison, list[str]]:
    """Run every job with both, and compare; also the checks that do not hold."""
    found, port = Comparison(homes["before"], homes["after"]), free_port()
    for folder in (before, after):
        found.hide(folder)
    jobs = [name for name in names if name != "take_over"]
    processes = {
        side: start(folder, homes[side], port, "--only", *jobs)
        for side, folder in (("before", before), ("after", after))
    }
    ended = {side: finish(side, process) for side, process in processes.items()}
    problems = [f"the jobs failed with {side}:\n{why}" for side, why in ended.items() if why]
    for name in jobs:
        found.compare(homes["before"] / name, homes["after"] / name, name=name)
    if "take_over" in names and not ended["before"]:
        words = ("--take-over", str(homes["before"]))
        if why := finish("after, taking over", start(after, homes["after"], port, *words)):
            problems.append(f"taking over failed:\n{why}")
        for folder in sorted((homes["after"] / "take_over").glob("*/*")):
            name = f"{folder.parent.name}/{folder.name}"
            if (homes["before"] / name / "job.yaml").exists() and not _stopped_early(name):
                found.compare(homes["before"] / name, folder, name=name, taken_over=True)
    for side, home in homes.items():
        for path in sorted(home.glob("*/checks.json")):
            for claim, wrong in json.loads(path.read_text(encoding="utf-8")).items():
                if wrong:
                    problems.append(f"{side}, {path.parent.name}: {claim}: NO, {wrong}")
                found.lines["checks"] += 1
    return found, problems


def _stopped_early(name: str) -> bool:
    return name.endswith("_begun") or name == "killed/half"


def shown(text: str) -> str:
    """An excerpt for the table."""
    cut = text if len(text) <= LONGEST else text[:LONGEST] + f" ... ({len(text):,} characters)"
    return "`" + cut.replace("`", "'").replace("|", "\\|").replace("\n", " ") + "`"


def as_markdown(measured: Mapping[str, Any]) -> str:
    differences, problems = measured["differences"], measured["problems"]
    stated = Counter(each["stated"] for each in differences if each["stated"])
    whole = sum(each["whole_item"] and not each["stated"] for each in differences)
    lines = [
        "# Unchanged: the same jobs with two checkouts",
        "",
        f"`python evals/unchanged.py`: before {measured['before']}, after {measured['after']}; "
        f"{measured['seconds']:.0f} s, one thread each, side by side.",
        "",
        f"**{measured['files']:,} files with {measured['lines']:,} lines compared: "
        f"{len(differences) - sum(stated.values()):,} differences** ({whole:,} of them in "
        f"whole-item lines of multi-label data) beside {sum(stated.values()):,} that are meant. "
        f"{measured['checks']:,} checks within one side, of which "
        f"{len(problems):,} do not hold.",
        "",
        table(
            ["job", "files", "lines", "differences"],
            [[job, each["files"], f"{each['lines']:,}", each["differences"]]
             for job, each in measured["jobs"].items()],
        ),
        "",
        "Not compared: times, versions, the folders' own paths, metadata of Parquet files; of the "
        "run that was killed also how often was asked and what the cache had. Verdicts are "
        "compared as sets. Units of `before` are read as "
        + ", ".join(f"`{old}` = `{new}`" for old, new in UNITS.items() if old != new)
        + ", and `label` as `item` where it is a whole multi-label item. " + WORDS,
        "",
        *[f"- meant, {times:,} lines: {why}" for why, times in stated.items()],
    ]  # fmt: skip
    lines += [f"- FAILED: {problem}" for problem in problems]
    if differences:
        lines += ["", f"The first {min(SHOWN, len(differences)):,} differences; the JSON has all.",
                  ""]  # fmt: skip
        rows = [[each["file"], each["line"], shown(each["before"]), shown(each["after"])]
                for each in differences[:SHOWN]]  # fmt: skip
        lines.append(table(["file", "line", "before", "after"], rows))
    return "\n".join([*lines, "", f"Measured on: {measured['about']}"])


def main() -> None:
    names = [*re.findall(r"^@job\ndef (\w+)", JOBS.read_text(encoding="utf-8"), re.MULTILINE),
             "take_over"]  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", required=True, metavar="REV_OR_FOLDER")
    parser.add_argument("--after", default=str(HERE.parent), metavar="REV_OR_FOLDER")
    parser.add_argument("--only", nargs="+", choices=names, metavar="JOB",
                        help=f"some of: {', '.join(names)}")  # fmt: skip
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="a new folder to keep runs in")
    wanted = parser.parse_args()
    only = wanted.only or names
    if "take_over" in only:  # it goes on with what these leave
        only = [*dict.fromkeys([*only, "recorded", "multi", "spot_checks", "multi_spot_checks",
                                "people", "killed"])]  # fmt: skip
    began = time.monotonic()
    with contextlib.ExitStack() as opened:
        before, called_before = opened.enter_context(checkout(wanted.before))
        after, called_after = opened.enter_context(checkout(wanted.after))
        home = wanted.into or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        homes = {side: home.resolve() / side for side in ("before", "after")}
        if any(each.exists() for each in homes.values()):
            sys.exit(f"{str(home)!r} holds earlier runs; name a new folder")
        found, problems = compare_all(before, after, homes, only)
    by_job = Counter("take_over" if "(taken over)" in each.file else each.file.partition("/")[0]
                     for each in found.differences)  # fmt: skip
    checks = found.lines.pop("checks", 0)
    measured = {
        "about": facts("llm_relabel", "numpy", "scikit-learn", "torch", "pyarrow"),
        "before": called_before, "after": called_after,
        "seconds": round(time.monotonic() - began), "files": found.files.total(),
        "lines": found.lines.total(), "checks": checks, "problems": problems,
        "jobs": {job: {"files": files, "lines": found.lines[job], "differences": by_job[job]}
                 for job, files in found.files.items()},
        "differences": [asdict(each) for each in found.differences],
    }  # fmt: skip
    for each in found.differences:
        print(f"{each.file}:{each.line}\n  before {each.before}\n  after  {each.after}")
    if wanted.only:
        print(as_markdown(measured))
    else:
        keep("unchanged", measured, as_markdown(measured))
    sys.exit(bool(problems or any(not each.stated for each in found.differences)))


if __name__ == "__main__":
    main()
