"""The command line as a new user types it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import toy
import yaml
from loopback import LoopbackServer
from toy_judge import right_answer

README = Path(__file__).parent.parent / "README.md"


def test_run_status_report_rollback(work: toy.Work) -> None:
    done = work.run_anew("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert "labels were changed" in done.stdout
    assert "Right labels before 80.0%" in done.stdout
    assert "no LLM was called" in done.stdout
    assert "Round 1: " in done.stderr  # plain lines where nobody watches a terminal
    assert "\x1b[" not in done.stderr
    assert "Status: done" in work.run_anew("status", "run").stdout
    report = work.run_anew("report", "run").stdout
    assert "## The largest sets of changes" in report
    page = (work.run_folder / "report.html").read_text(encoding="utf-8")
    assert "the hammer number" in page  # the changed items can be read
    assert not re.search(r'(src|href)="?https?:', page)
    first = work.lines("changes.jsonl")[0]
    undone = work.run_anew("rollback", "run", "--id", first["id"])
    assert undone.returncode == 0
    assert work.labels()[int(first["id"][1:])] == first["old"]


def test_plan_shows_prompts_and_projects_and_asks_nothing(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        work.llm(server.openai_url, prices={"input": 1, "output": 2}, max_cost=5)
        done = work.run("plan", "job.yaml")
        assert done.returncode == 0, done.stderr
        assert server.requests == []
    for told in ("rows are label issues", "about $0.0", " minutes",
                 "A prompt, as it would be sent", "<<<item-"):  # fmt: skip
        assert told in done.stdout
    assert not work.run_folder.exists()


def test_plan_counts_what_run_asks(work: toy.Work) -> None:
    told = work.run("plan", "job.yaml").stdout
    work.run("run", "job.yaml")
    asked = len(work.lines("round-1/asks.jsonl"))
    assert f"about {asked} items" in told


def test_limit_and_set(work: toy.Work) -> None:
    done = work.run("run", "job.yaml", "--limit", "3", "--set", "decide.policy=replace")
    assert done.returncode == 0
    assert work.summary["rounds"][0]["judged"] == 3
    assert work.summary["policy"] == "replace"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "none.yaml"), "does not exist"),
        (("run", "job.yaml", "--set", "judge.modle=x"), "did you mean 'model'?"),
        (("status", "nowhere"), "is no run folder"),
        (("rollback", "nowhere", "--all"), "is no run folder"),
        (("rnu", "job.yaml"), "No such command"),
        (("run",), "Missing argument"),
        (("run", "job.yaml", "--limit", "0"), "0 is not in the range"),
        (("init", "none.csv", "--text", "a", "--label", "b", "-o", "x"), "does not exist"),
        (("init", "data.jsonl", "--text", "a", "--label", "b"), "is not overwritten"),
    ],
)
def test_bad_input_exits_2_and_says_the_fix(work: toy.Work, words: tuple, told: str) -> None:
    done = work.run(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_paused_exits_3_and_the_same_command_goes_on(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        prices = {"input": 10, "output": 30}
        work.llm(server.openai_url, prices=prices, max_cost=0.08, concurrency=2)
        done = work.run("run", "job.yaml")
        assert done.returncode == 3
        assert "raise judge.max_cost to go on" in done.stderr
        assert work.run("run", "job.yaml", "--set", "judge.max_cost=9").returncode == 0


def test_init_writes_a_job_that_runs(work: toy.Work) -> None:
    home = work.folder / "new"
    done = work.run("init", "data.jsonl", "--text", "text", "--label", "label", "--id", "id",
                    "-o", str(home))  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels = yaml.safe_load((home / "labels.yaml").read_text(encoding="utf-8"))
    assert set(labels["labels"]) == set(toy.NAMES)
    # Definitions that nobody wrote never meet a paid judge.
    paid = work.run("run", str(home / "job.yaml"), "--set", "judge={model: openai/x, max_cost: 1}")
    assert paid.returncode == 2
    assert "3 definitions are still to be written" in paid.stderr
    done = work.run("run", str(home / "job.yaml"))
    assert done.returncode == 0
    assert "Warning: 3 definitions are still to be written" in done.stdout
    assert work.run("init", "data.jsonl", "--text", "text", "--label", "label",
                    "-o", str(home)).returncode == 2  # fmt: skip


def test_cache_stats_and_clear(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        work.llm(server.openai_url)
        work.run("run", "job.yaml")
        assert not work.run("cache", "stats").stdout.startswith("0 verdicts")
        assert "verdicts forgotten" in work.run("cache", "clear", "--yes").stdout
        assert work.run("cache", "stats").stdout.startswith("0 verdicts")
        asked = len(server.requests)
        work.run("run", "job.yaml", "--set", "output=other", "--no-cache")
        assert len(server.requests) > asked
        assert work.run("cache", "stats").stdout.startswith("0 verdicts")


def test_keys_are_in_no_file(work: toy.Work) -> None:
    secret = "sk-planted-0123456789abcdef"
    with LoopbackServer(right_answer) as server:
        work.llm(server.openai_url, api_key_env="MY_KEY")
        done = work.run_anew(
            "run", "job.yaml", env={"MY_KEY": secret, "OPENAI_API_KEY": "sk-other"}
        )
        assert done.returncode == 0
        sent = {request.headers["authorization"] for request in server.requests}
    assert sent == {f"Bearer {secret}"}
    places = [work.folder, Path(os.environ["LLM_RELABEL_CACHE"])]
    for path in (p for place in places for p in place.rglob("*") if p.is_file()):
        assert secret.encode() not in path.read_bytes(), path
    assert secret not in done.stdout + done.stderr


def test_hostile_text_is_escaped_in_the_report(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row in rows:
        row["text"] = "<script>alert(1)</script> {{ 7*7 }} " + row["text"]
    work.write_rows(rows)
    answers = [{"id": r["id"], "label": r["gold"], "rationale": "<img src=x onerror=alert(2)>"}
               for r in rows]  # fmt: skip
    work.write_lines("recorded.jsonl", answers)
    assert work.run("run", "job.yaml").returncode == 0
    page = (work.run_folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # the page's own, which its policy names by its hash
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_every_job_key_is_documented() -> None:
    from llm_relabel.config.job import Job

    text = (README.parent / "llm_relabel/manual/job-file.md").read_text(encoding="utf-8")
    for name, field in Job.model_fields.items():
        if name in ("folder", "file"):
            continue
        inner = getattr(field.annotation, "model_fields", None)
        for key in (f"`{name}.{part}`" for part in inner) if inner else (f"`{name}`",):
            assert key in text, f"the manual does not explain {key}"


def test_the_readme_names_every_command() -> None:
    from llm_relabel.cli import cli

    text = README.read_text(encoding="utf-8") + (README.parent / "CHANGELOG.md").read_text()
    for name in cli.commands:
        assert re.search(rf"\b{name}\b", text), f"{name} is not documented"
