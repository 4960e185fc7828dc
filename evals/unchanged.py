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
compared, and what is compared under another name, is said by the data that
`unchanged_compare.py` begins with.
"""

from __future__ import annotations

import argparse
import contextlib
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machine import facts, keep, table
from unchanged_compare import UNITS, WORDS, Comparison

HERE = Path(__file__).parent
JOBS = HERE / "unchanged_jobs.py"

SHOWN, LONGEST = 200, 300


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
