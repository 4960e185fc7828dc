"""`init --discover` and `init --writer`: groups without labels, drafts for people to confirm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import toy
import yaml
from loopback import LoopbackServer, Received

from llm_relabel.config.definitions import PLACEHOLDER, load_definitions
from llm_relabel.errors import JobError
from llm_relabel.progress import Silent
from llm_relabel.tune.drafting import write_definitions

STARTS = ("the train to Oslo is late, platform", "fry the onions in butter, step")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> toy.Work:
    monkeypatch.chdir(tmp_path)
    return toy.Work(tmp_path)


def test_groups_of_texts_without_labels(work: toy.Work) -> None:
    work.write_rows([{"text": f"{start} {n}"} for n in range(30) for start in STARTS])
    words = ("init", "data.jsonl", "--text", "text", "--discover")
    done = work.run(*words, "2", "-o", "new")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"30 texts \(50%\)", done.stdout)) == 2
    labels = yaml.safe_load((work.folder / "new" / "labels.discovered.yaml").read_text())["labels"]
    kinds = []
    for name, entry in labels.items():
        assert entry["definition"].startswith(PLACEHOLDER)
        kinds.append({text.split()[0] for text in entry["examples"]})
        assert all(any(word in text for word in name.split("_")) for text in entry["examples"])
    assert sorted(map(sorted, kinds)) == [["fry"], ["the"]]
    assert not (work.folder / "new" / "job.yaml").exists()
    assert "is not overwritten" in work.run(*words, "2", "-o", "new").stderr
    assert "too few for 20 groups" in work.run(*words, "20", "-o", "other").stderr
    lost = work.run("init", "data.jsonl", "--text", "txt", "--discover", "2", "-o", "other")
    assert "has no column 'txt'; it has text" in lost.stderr
    assert "leave out --label" in work.run(*words, "2", "--label", "x").stderr
    neither = work.run("init", "data.jsonl", "--text", "text")
    assert neither.returncode == 2
    assert "name the label column with --label" in neither.stderr


def test_a_writer_drafts_and_a_person_confirms(work: toy.Work) -> None:
    def write(received: Received) -> object:
        assert "went wrong" not in received.user
        (name,) = re.findall(r'"(\w+)"', received.user.rpartition("Write the new entry of")[2])
        if name == "tool":
            return "no JSON"
        words = f"It is: about a {name}"
        return {
            "entries": [{"name": name, "definition": words, "examples": [], "not": [], "why": ""}]
        }

    words = ("--text", "text", "--label", "label", "--gold", "gold", "-o", "new")
    assert work.run("init", "data.jsonl", *words).returncode == 0
    before = load_definitions(work.folder / "new" / "labels.yaml")
    with LoopbackServer(write) as server:
        path = work.folder / "new" / "job.yaml"
        job = yaml.safe_load(path.read_text())
        job["judge"] = {"model": "openai/judge", "base_url": server.openai_url}
        path.write_text(yaml.safe_dump(job))
        told = write_definitions(work.folder / "new", "openai/writer", None, Silent())
        assert len(server.requests) == 3
    assert "drafted 2 of 3 definitions" in told
    source = (work.folder / "new" / "labels.yaml").read_text()
    assert source.startswith("# What each label means")
    after = load_definitions(work.folder / "new" / "labels.yaml")
    assert after.labels["tool"] == before.labels["tool"]
    assert after.labels["fruit"].definition.endswith("It is: about a fruit")
    assert after.labels["fruit"].counterexamples == before.labels["fruit"].counterexamples
    assert set(after.unwritten) == {"fruit", "tool", "animal"}  # a person has to confirm


def test_a_paid_writer_needs_a_cap(work: toy.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    work.run("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    before = (work.folder / "new" / "labels.yaml").read_bytes()
    with pytest.raises(JobError, match="--max-cost"):
        write_definitions(work.folder / "new", "openai/gpt-4o-mini", None, Silent())
    assert (work.folder / "new" / "labels.yaml").read_bytes() == before
