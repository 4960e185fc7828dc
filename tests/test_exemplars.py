"""Examples in label definitions: rightly labeled ones, and never the item that is asked about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import toy
import yaml
from vote_clusters import NAMES, clusters, make

from llm_relabel.config.definitions import load_definitions
from llm_relabel.judge.without_llm.embedded import Settings
from llm_relabel.prompts.builder import PromptBuilder
from llm_relabel.records import Item
from llm_relabel.tasks.classification import Classification

PARCEL = ("My parcel never came {}", "The courier lost box {}", "Delivery is late again {}")
MONEY = ("I was charged twice {}", "Wrong invoice number {}", "Refund {} is missing")


def messages(**other: Any) -> list[dict[str, Any]]:
    """80 messages of two classes; the first four rows are mislabeled."""
    names = ("billing", "shipping")
    return [
        {"id": str(row), "text": (PARCEL if row % 2 else MONEY)[row % 3].format(row),
         "label": names[(row + (row < 4)) % 2], "gold": names[row % 2], **other}
        for row in range(80)
    ]  # fmt: skip


def written(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "labels.yaml").read_text("utf-8"))["labels"]


def test_init_chooses_rightly_labeled_rows(work: toy.Work) -> None:
    rows = messages()
    work.write_rows(rows)
    words = ("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    assert work.run(*words).returncode == 0
    gold = {row["text"]: row["gold"] for row in rows}
    labels = written(work.folder / "new")
    for name, label in labels.items():
        assert len(label["examples"]) == 2
        assert [gold[text] for text in label["examples"]] == [name, name]


def test_init_with_lists_of_labels(work: toy.Work) -> None:
    rows = messages()
    lists = [row | {"label": [row["label"], *(["late"] * ("late" in row["text"]))]} for row in rows]
    work.write_rows(lists)
    words = ("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    assert work.run(*words).returncode == 0
    labels = written(work.folder / "new")
    assert all("late" in text for text in labels["late"]["examples"])
    assert labels["late"]["examples"]


def test_init_without_anything_to_learn_writes_none(work: toy.Work) -> None:
    work.write_rows([{"text": f"w{row}", "label": "ab"[row % 2]} for row in range(6)])
    words = ("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    assert work.run(*words).returncode == 0
    assert [label["examples"] for label in written(work.folder / "new").values()] == [[], []]


def test_the_prompt_of_a_leaking_job_does_not_show_the_item_itself(work: toy.Work) -> None:
    """What `init` once wrote: the mislabeled first rows as examples of their wrong labels."""
    rows = messages()
    work.write_rows(rows)
    labels = {
        name: {
            "definition": f"About {name}.",
            "examples": [row["text"] for row in rows[:4] if row["label"] == name],
        }
        for name in ("billing", "shipping")
    }
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    work.write_lines("predictions.jsonl", [
        {"id": row["id"], "pred_probs": [0.93, 0.07] if row["gold"] == "billing" else [0.07, 0.93]}
        for row in rows
    ])  # fmt: skip
    judge = {"model": "openai/m", "base_url": "http://127.0.0.1:1/v1", "max_cost": "none"}
    work.write_job(judge=judge)
    done = work.run("plan", "job.yaml", "--prompts", "4")
    assert done.returncode == 0, done.stderr
    assert (
        "Warning: 4 examples in the label definitions are label issues themselves; keep those "
        "that are right: "
    ) in done.stdout
    assert "'Refund 2 is missing' under 'shipping' (labeled shipping, predicted billing)" in (
        done.stdout
    )
    prompts = done.stdout.split("--- A prompt, as it would be sent")[1:]
    assert len(prompts) == 4
    for prompt in prompts:
        system, user = prompt.split("[user]")
        asked = next(row["text"] for row in rows if row["text"] in user)
        assert asked not in system
        assert len(re.findall("An example: ", system)) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "How far is the moon?"},
        {"text": "how far  is the MOON ?\n"},
        {"title": "How far", "text": "is the moon"},
        {"text": "How far is the moon", "context": "astronomy"},
        {"title": "Space", "text": "How far is the moon..."},
        {"text": "What is a prime number"},
    ],
)
def test_copies_of_an_item_are_no_example_of_it(fields: dict[str, str]) -> None:
    definitions = load_definitions(
        {
            "NUM": {
                "definition": "A number.",
                "examples": ["How far is the moon ?", "How old is he ?"],
                "not": ["What is a prime number ?"],
            },
            "LOC": "A place.",
        }
    )
    prompts = PromptBuilder(Classification(definitions, pa.string()), schema_in_words=True)
    system = prompts.build(Item("i", 0, fields), ())[0].text
    assert len(system.splitlines()) == len(prompts.system.text.splitlines()) - 1
    assert "How old is he ?" in system
    assert '"type": "object"' in system
    other = Item("j", 1, {"text": "How near is the moon ?"})
    assert prompts.build(other, ())[0] == prompts.system


def test_the_embedded_judge_does_not_take_an_item_for_its_own_example() -> None:
    embeddings, truth = clusters()
    row = int(np.flatnonzero(truth == 0)[0])
    # Definitions that say nothing of the clusters, and the row as an example of another class.
    far = np.eye(16, dtype=np.float32)[5:8]
    vote = make(
        embeddings, truth,
        definition_vectors=[far[:1], np.stack([far[1], embeddings[row]]), far[2:]],
        settings=Settings(vote_weight=0, definition_temperature=0.05),
    )  # fmt: skip
    cousin = vote.answer(row + 1)
    assert cousin.label == NAMES[1]  # the example speaks for others that are like it
    assert vote.answer(row).confidence < cousin.confidence
    assert vote.answer(row).label != NAMES[1]


def test_reviewers_are_not_shown_an_item_as_its_own_example(work: toy.Work) -> None:
    from llm_relabel.review import Review
    from llm_relabel.review.opening import Shown

    labels = {
        name: {"definition": f"A {name}.", "examples": [f"THE {toy.WORDS[name][0]}, number 0!"]}
        for name in toy.NAMES
    }
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    assert work.run("run", "job.yaml").returncode == 0
    shown = Review(work.run_folder).definitions([Shown("i0", {"text": toy.text(0)})])
    counts = {label["name"]: len(label["examples"]) for label in shown}
    assert counts == {"fruit": 0, "tool": 1, "animal": 1}
