"""A process parses each journal of a run once, and what it remembers is what the files say."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import LoopbackServer
from test_rounds import right_answer

import llm_relabel as lr
from llm_relabel.job import load_job
from llm_relabel.journal import Journal, KeptJournal, read_lines
from llm_relabel.rounds import JobRunner
from llm_relabel.runs import RunFolder

OF_A_ROUND = ("asks", "verdicts", "issues", "decisions")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of a run's journals was opened to be read, from here on."""
    found: Counter[str] = Counter()
    really = Path.open

    def counted(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if path.suffix == ".jsonl" and "r" in mode and "+" not in mode:
            if path.parent.name.startswith("round-"):
                found[f"{path.parent.name}/{path.stem}"] += 1
            elif path.name == "changes.jsonl":
                found["changes"] += 1
        return really(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", counted)
    return found


def test_a_run_with_its_report_reads_only_what_it_wrote_at_once(
    work: toy.Work, opened: Counter[str]
) -> None:
    """What the run appended it knows; issues and decisions are read for the report."""
    work.write_job(decide={"policy": "replace"}, detect={"quality": 0.99})
    assert len(lr.relabel(work.job).summary["rounds"]) == 2
    assert (work.run_folder / "report.html").exists()
    assert opened == Counter(f"round-{n}/{name}" for n in (1, 2) for name in OF_A_ROUND[2:])


def test_a_resumed_run_reads_each_journal_once(work: toy.Work, opened: Counter[str]) -> None:
    work.write_job(decide={"policy": "replace"}, detect={"quality": 0.99})
    lr.relabel(work.job)
    for n in (1, 2):  # the last verdict of each round is torn, and must be asked for again
        path = work.run_folder / f"round-{n}" / "verdicts.jsonl"
        path.write_bytes(path.read_bytes()[:-9])
    opened.clear()
    lr.relabel(work.job)
    every = {f"round-{n}/{name}" for n in (1, 2) for name in OF_A_ROUND} | {"changes"}
    assert opened == Counter(every)


def test_judging_in_waves_reads_each_journal_once(work: toy.Work, opened: Counter[str]) -> None:
    """A panel, an escalation and controls."""
    with LoopbackServer(right_answer) as server:
        there = {"base_url": server.openai_url}
        further = {"model": "openai/other", **there}
        work.llm(
            server.openai_url, panel=[further], controls="20%",
            escalate=[{"model": "openai/third", "below": 0.99, **there}],
        )  # fmt: skip
        lr.relabel(work.job)
        first = Counter(opened)
        opened.clear()
        lr.relabel(work.job)
        again = Counter(opened)
    assert {line["purpose"] for line in work.lines("round-1/asks.jsonl")} >= {
        "panel", "escalation", "control",
    }  # fmt: skip
    assert max(first.values()) == max(again.values()) == 1
    assert again["round-1/verdicts"] == 1


def test_rolling_back_again_and_again_reads_each_journal_once(
    work: toy.Work, opened: Counter[str]
) -> None:
    run = lr.relabel(work.job)
    opened.clear()
    for change in run.changes()[:2]:
        run.rollback(ids=[change["id"]])
    assert opened["changes"] == opened["round-1/decisions"] == 1
    assert max(opened.values()) == 1


def test_what_people_do_to_the_changes_they_are_given_stays_theirs(work: toy.Work) -> None:
    run = lr.relabel(work.job)
    for whole in (True, False):
        for line in run.changes(in_force=not whole):
            line.clear()
    assert all(run.changes(in_force=False))
    run.rollback(everything=True)
    assert run.changes() == []


def test_a_run_object_sees_what_another_process_rolls_back(work: toy.Work) -> None:
    run = lr.relabel(work.job)
    before = run.changes()
    done = work.run("rollback", str(run.path), "--id", before[0]["id"])
    assert done.returncode == 0, done.stderr
    assert run.changes() == before[1:]
    assert run.changes(in_force=False)[-1]["kind"] == "rollback"


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_a_run_remembers_is_what_its_files_say(work: toy.Work, multi_label: bool) -> None:
    if multi_label:
        rows = [json.loads(line) for line in work.data.read_text().splitlines()]
        work.write_rows([{**r, "label": [r["label"]], "gold": [r["gold"]]} for r in rows])
        work.write_lines(
            "recorded.jsonl",
            [{"id": r["id"], "label": [r["gold"], toy.NAMES[n % 3]][: 1 + n % 2]}
             for n, r in enumerate(rows)],
        )  # fmt: skip
    runner = JobRunner(load_job(work.job))
    runner.go()
    mine, read = runner.run, RunFolder(work.run_folder)
    assert len(mine.changes()) > 0
    assert _exactly(mine.changes()) == _exactly(read.changes())
    for n in (1, 2):
        assert len(mine.verdicts(n)) == len(work.lines(f"round-{n}/verdicts.jsonl"))
        assert _exactly(mine.asks(n)) == _exactly(read.asks(n))
        assert _exactly(mine.verdicts(n)) == _exactly(read.verdicts(n))


def _exactly(lines: Sequence[Any]) -> list[str]:
    """As text, in which a tuple is no list and 1 no 1.0."""
    return [repr(line) for line in lines]


def _itself(line: Mapping[str, Any]) -> Mapping[str, Any]:
    return line


STEPS = st.lists(
    st.sampled_from(["append", "extend", "nothing", "read", "theirs", "torn", "bare", "replace"]),
    max_size=12,
)


@settings(max_examples=150)
@given(STEPS)
def test_memory_follows_the_file_whatever_happens_to_it(steps: list[str]) -> None:
    """Appends of ours and of others, torn and bare last lines, and a file put in its place."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "j.jsonl"
    memory: KeptJournal[Mapping[str, Any]] = KeptJournal(path, _itself, _itself)
    for number, step in enumerate(steps):
        line = json.dumps({"n": number, "by": "them"}).encode()
        if step in ("append", "extend", "nothing"):
            with memory.appending() as log:
                if step == "append":
                    log.append({"n": number})
                    assert memory.read()[-1] == {"n": number}
                log.extend([{"n": number}, {"m": number}] if step == "extend" else [])
        elif step in ("theirs", "torn", "bare"):
            # What writes a journal mends its last line first.
            Journal(path).close()
            with path.open("ab") as file:
                file.write({"theirs": line + b"\n", "torn": line[:-3], "bare": line}[step])
        elif step == "replace":
            path.with_suffix(".new").write_bytes(line + b"\n")
            path.with_suffix(".new").replace(path)
        if step != "nothing":
            assert list(memory.read()) == list(read_lines(path))
    assert list(memory.read()) == list(read_lines(path))
    shutil.rmtree(folder)


def test_a_line_that_cannot_be_written_is_not_remembered(tmp_path: Path) -> None:
    memory: KeptJournal[Mapping[str, Any]] = KeptJournal(tmp_path / "j.jsonl", _itself, _itself)
    with memory.appending() as log:
        log.append({"n": 1})
        with pytest.raises(TypeError):
            log.append({"n": object()})
    assert list(memory.read()) == list(read_lines(memory.path)) == [{"n": 1}]
