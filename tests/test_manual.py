"""The manual: shown by `help`, the same on the web, and never behind what the code says."""

from __future__ import annotations

import json
import os
import pty
import re
from pathlib import Path

import click
import pytest
import toy
import yaml

import llm_relabel as lr
from llm_relabel.cli import cli
from llm_relabel.manual import TOPICS, heading, page
from llm_relabel.manual.generate import WIDTH, generated_pages

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "llm_relabel" / "manual"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_help_lists_every_topic_in_a_line_of_its_own(work: toy.Work) -> None:
    done = work.run("help")
    assert done.returncode == 0, done.stderr
    for topic in TOPICS:
        assert re.search(rf"^  {topic} +\S.*$", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("topic", TOPICS)
def test_help_shows_the_page_as_it_is_written(topic: str, work: toy.Work) -> None:
    done = work.run("help", topic)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (PAGES / f"{topic}.md").read_text(encoding="utf-8")


def test_every_page_is_a_topic() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(TOPICS)


def test_a_terminal_gets_the_page_laid_out(work: toy.Work) -> None:
    above, below = pty.openpty()
    child = os.fork()
    if child == 0:
        os.dup2(below, 1)
        os.chdir(work.folder)
        words = work.command("help", "overnight")
        os.execvpe(words[0], words, {**os.environ, "TERM": "xterm", "COLUMNS": "80"})
    os.close(below)
    shown = b""
    while True:
        try:
            piece = os.read(above, 65536)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not piece:
            break
        shown += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = shown.decode()
    assert "\x1b[1m" in text
    assert "# Overnight" not in text
    assert "**Limits.**" not in text
    assert "Limits." in text


def test_an_unknown_topic_names_the_nearest(work: toy.Work) -> None:
    done = work.run("help", "jugdes")
    assert done.returncode == 2
    assert "'jugdes' (did you mean 'judges'?)" in done.stderr
    assert "job-file" in done.stderr
    assert "did you mean 'rollback'" in work.run("help", "rolback").stderr
    assert "\x1b" not in work.run("help", "\x1b[31m").stderr


def test_help_of_a_command_is_its_help(work: toy.Work) -> None:
    asked = work.run("help", "run")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout == work.run("run", "--help").stdout
    assert "--pilot" in asked.stdout


def test_the_generated_pages_say_what_the_code_says() -> None:
    for topic, text in generated_pages(cli).items():
        assert page(topic) == text, f"the page {topic!r} is behind the code: run `make manual`"


def test_the_job_file_page_tells_every_key_with_its_default() -> None:
    text = " ".join(page("job-file").split())
    for told in (
        "`data.path` (text; required)",
        "`model.folds` (a whole number from 2 to 50; default `5`)",
        "`detect.severity` (`equal` or `parent`; default `equal`)",
        "`judge.max_cost` (a number or `none`; optional)",
        "`judge.max_output_tokens` (a whole number of at least 16; default `1024`)",
        "`judge.escalate.below` (a number from 0 to 1; default `0.8`)",
        "`judge.breakers.failed` (a number above 0 and up to 1; default `0.5`)",
        "`rounds` (a whole number from 1 to 20; default `2`)",
    ):
        assert told in text


def test_the_job_file_page_s_example_is_a_job() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", page("job-file"), re.DOTALL)
    assert lr.Job.model_validate(yaml.safe_load(example)).judge.max_cost == 5.0


def test_the_labels_page_names_every_key_of_a_definition() -> None:
    for name, field in lr.LabelDefinition.model_fields.items():
        assert f"- `{field.alias or name}`:" in page("labels")


def test_the_labels_page_s_example_is_read(work: toy.Work) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", page("labels"), re.DOTALL)
    (work.folder / "labels.yaml").write_text(example, encoding="utf-8")
    rows = [{"id": f"i{n}", "text": f"text {n}", "label": ["NUM", "LOC"][n % 2]} for n in range(60)]
    work.write_rows(rows)
    work.write_lines("predictions.jsonl", [{"id": r["id"], "pred_probs": [0.9, 0.1]} for r in rows])
    work.write_job(data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
                   judge={"model": "embedded"})  # fmt: skip
    done = work.run("plan", "job.yaml")
    assert done.returncode == 0, done.stderr


def groups(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = [groups(c, (*path, n)) for n, c in group.commands.items() if isinstance(c, click.Group)]
    return [path, *(each for found in below for each in found)]


@pytest.mark.parametrize("path", groups(cli), ids=lambda path: " ".join(path) or "top")
def test_no_line_of_a_list_of_commands_is_cut_at_80_columns(
    path: tuple[str, ...], work: toy.Work
) -> None:
    done = work.run_anew(*path, "--help", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert "..." not in done.stdout.split("Commands:")[1]


def test_help_lists_the_commands_in_the_order_of_use(work: toy.Work) -> None:
    listed = re.findall(r"^  ([a-z]+)  ", work.run("--help").stdout.split("Commands:")[1], re.M)
    assert listed == [
        "demo", "init", "plan", "run", "status", "report", "review", "rollback", "eval", "tune",
        "cancel", "cache", "help",
    ]  # fmt: skip


def test_the_command_line_page_has_every_command() -> None:
    text = page("command-line")
    for name in cli.commands:
        assert f"## llm-relabel {name}\n" in text
    assert "## llm-relabel review serve\n" in text
    assert max(map(len, text.splitlines())) <= WIDTH + 4  # the exit codes keep their own lines


def test_the_readme_is_short_and_links_every_topic() -> None:
    assert len(README.splitlines()) < 200
    for topic in TOPICS:
        assert f"[{topic}](llm_relabel/manual/{topic}.md)" in README


MARKDOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(PAGES.glob("*.md"))]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links {target}"


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_that_a_page_names_exists(topic: str) -> None:
    text = " ".join(page(topic).split())
    for named in re.findall(r"[Tt]opics? `([^`]+)`", text):
        assert named in TOPICS


def test_the_figures_are_those_of_the_results() -> None:
    rows = json.loads((ROOT / "evals/results/table.json").read_text(encoding="utf-8"))["rows"]
    figures = " ".join(page("figures").split())
    for row in rows:
        assert f"- {row['what']}: **{row['figure']}** [`{row['command']}`]" in figures
    shown = README.split("<!-- results -->")[1].split("<!-- end of results -->")[0]
    lines = [f"| {r['what']} | {r['figure']} | [`{r['command']}`]" for r in rows]
    told = shown.strip().splitlines()[2:]
    assert len(told) >= 8
    for line in told:
        assert any(line.startswith(each) for each in lines), line


def test_a_page_begins_with_a_heading_that_says_what_it_is_about() -> None:
    for topic in TOPICS:
        assert page(topic).startswith("# ")
        assert len(heading(topic).split()) >= 5
