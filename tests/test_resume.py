"""Processes that are really killed; the same command goes on and nothing is paid twice."""

from __future__ import annotations

import re
import shlex
import signal
from collections import Counter
from pathlib import Path

import pytest
import toy
import yaml
from kills import killed_after, start, wait_for
from loopback import LoopbackServer
from toy_judge import right_answer

import llm_relabel as lr

CONCURRENCY = 3


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "journal-alone"])
def test_kill_at_any_verdict_and_go_on(work: toy.Work, cached: bool) -> None:
    with LoopbackServer(right_answer, latency=0.05) as server:
        work.llm(server.openai_url, concurrency=CONCURRENCY, cache=cached)
        kills = sum(killed_after(work, server, requests) for requests in (2, 3, 3, 4))
        assert kills >= 2
        assert lr.Run(work.run_folder).summary["status"] == "interrupted"
        assert work.run("run", str(work.job)).returncode == 0
        times = Counter(request.user for request in server.requests)
        repeated = sum(count - 1 for count in times.values())
        rounds = [work.lines(f"round-{n}/verdicts.jsonl") for n in (1, 2)]
        assert all(v["outcome"] == "answer" for verdicts in rounds for v in verdicts)
        for verdicts in rounds:
            assert len({v["ask_id"] for v in verdicts}) == len(verdicts)
        if cached:
            assert repeated <= kills * CONCURRENCY
        else:
            # Without a cache, round 2 rightly asks again what it cannot know.
            assert repeated <= kills * CONCURRENCY + len(rounds[1])
        resumed = (work.run_folder / "dataset.jsonl").read_bytes()
        work.write_job(
            judge={"model": "openai/toy", "base_url": server.openai_url}, output="undisturbed"
        )
        assert work.run("run", str(work.job)).returncode == 0
    assert (work.folder / "undisturbed" / "dataset.jsonl").read_bytes() == resumed


def test_interrupt_exits_130_and_goes_on(work: toy.Work) -> None:
    with LoopbackServer(right_answer, latency=0.2) as server:
        work.llm(server.openai_url, concurrency=1)
        process = start(work)
        wait_for(lambda: len(server.requests) >= 3)
        process.send_signal(signal.SIGINT)
        ended = process.wait()
        assert ended.returncode == 130, ended.stderr
        assert work.summary["status"] == "interrupted"
        assert work.run("run", str(work.job)).returncode == 0
    assert work.summary["status"] == "done"


def test_second_process_is_refused(work: toy.Work) -> None:
    with LoopbackServer(right_answer, latency=0.5) as server:
        work.llm(server.openai_url, concurrency=1)
        process = start(work)
        wait_for(lambda: len(server.requests) >= 1)
        second = work.run("run", str(work.job))
        assert second.returncode == 2
        assert "another process is working in the run folder" in second.stderr
        status = work.run("status", str(work.run_folder))
        assert "running" in status.stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait().returncode == 130


def test_torn_last_line_is_mended(work: toy.Work) -> None:
    lr.relabel(work.job)
    path = work.run_folder / "round-1" / "verdicts.jsonl"
    whole = path.read_bytes()
    dataset = (work.run_folder / "dataset.jsonl").read_bytes()
    path.write_bytes(whole[:-20])
    lr.relabel(work.job)
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert (work.run_folder / "dataset.jsonl").read_bytes() == dataset


def test_running_again_changes_nothing(work: toy.Work) -> None:
    lr.relabel(work.job)
    keep = ("changes.jsonl", "dataset.jsonl", "round-1/verdicts.jsonl", "round-2/decisions.jsonl")
    before = {name: (work.run_folder / name).read_bytes() for name in keep}
    lr.relabel(work.job)
    assert {name: (work.run_folder / name).read_bytes() for name in keep} == before


def test_other_data_labels_or_seed_is_refused(work: toy.Work) -> None:
    lr.relabel(work.job)
    work.write_job(seed=7)
    with pytest.raises(lr.RunChanged, match="seed was 0 and is 7"):
        lr.relabel(work.job)
    work.write_job()
    work.data.write_text(work.data.read_text().replace('number 1"', 'number one"'))
    done = work.run("run", str(work.job))
    assert done.returncode == 2
    assert "the data file holds something else than before" in done.stderr
    assert "--set output=run-2" in done.stderr


def test_edited_definitions_are_named_with_the_commands_that_go_on(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url}
        data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
        work.write_job(judge=judge, data=data)
        assert work.run("run", str(work.job)).returncode == 0
        definitions = work.folder / "labels.yaml"
        before = definitions.read_text()
        definitions.write_text(before.replace("a kind of tool", "work by hand"))
        refused = work.run("run", str(work.job))
        assert refused.returncode == 2
        told = " ".join(refused.stderr.split())
        assert "the definition of 'tool' is changed. " in told
        run, held = re.findall(r"`llm-relabel (.+?)`", told)
        gold = work.write_lines(
            "gold.jsonl", [{"id": f"i{row}", "label": toy.truth(row)} for row in range(40)]
        )
        asked = len(server.requests)
        # Each prompt holds each definition, so the new run asks again; the old one stays.
        assert work.run(*shlex.split(run)).returncode == 0
        assert len(server.requests) > asked
        assert work.run("rollback", "run", "--all").returncode == 0
        done = work.run(*shlex.split(held.replace("TRUSTED_LABELS", str(gold))))
        assert done.returncode == 0, done.stderr
        assert "the job's own" in done.stdout
        assert "labels.yaml" in done.stdout


def test_other_labels_in_the_definitions_are_named(work: toy.Work) -> None:
    work.write_job(model={"folds": 2})
    definitions = work.folder / "labels.yaml"
    labels = yaml.safe_load(definitions.read_text())["labels"]
    lr.relabel(work.job)
    labels["plant"] = "No animal."
    definitions.write_text(
        yaml.safe_dump({"instruction": "Look twice.", "labels": labels}, sort_keys=False)
    )
    with pytest.raises(lr.RunChanged) as refused:
        lr.relabel(work.job)
    told = str(refused.value)
    assert "the definition of 'plant' is new; the instruction above the definitions is" in told
    assert "llm-relabel eval" not in told  # which compares definitions of the same labels


def test_another_policy_decides_again_without_a_call(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url}
        work.write_job(judge=judge, decide={"policy": "agree"}, detect={"quality": 0.99}, rounds=1)
        lr.relabel(work.job)
        work.write_job(
            judge=judge, decide={"policy": "replace"}, detect={"quality": 0.99}, rounds=1
        )
        lr.relabel(work.job)
        asked = len(server.requests)
        replaced = work.labels()
        work.write_job(judge=judge, decide={"policy": "agree"}, detect={"quality": 0.99}, rounds=1)
        lr.relabel(work.job)
        assert len(server.requests) == asked
    kinds = {(line["kind"], line["source"]) for line in work.lines("changes.jsonl")}
    assert kinds <= {("change", "judge"), ("rollback", "redecided")}
    changed = {c["id"]: c["new"] for c in lr.Run(work.run_folder).changes()}
    for row, label in enumerate(work.labels()):
        assert label == changed.get(f"i{row}", toy.given(row))
    assert replaced


def test_a_damaged_journal_is_named(work: toy.Work) -> None:
    lr.relabel(work.job)
    path = work.run_folder / "round-1" / "verdicts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"{broken\n" + b"".join(lines[1:]))
    with pytest.raises(lr.RunError, match="line 1 is damaged"):
        lr.relabel(work.job)


def test_a_folder_with_other_files_is_left_alone(work: toy.Work) -> None:
    work.run_folder.mkdir()
    precious = work.run_folder / "thesis.txt"
    precious.write_text("years of work")
    done = work.run("run", str(work.job))
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    left = {path.name for path in work.run_folder.iterdir()} - {".lock"}
    assert left == {"thesis.txt"}
    assert Path(precious).read_text() == "years of work"
