"""A small tagging job: 64 sentences about people and cities, every fourth wrongly labeled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml

from llm_relabel.cli import cli

NAMES = ("Ann Lee", "Bob", "Cid Day", "Dora")
PLACES = ("Rome", "Oslo", "New York", "Lima")
ROWS = 64
TYPES = {"PER": "The name of a person.", "LOC": "The name of a city."}

Spans = list[tuple[str, str]]


def entities(row: int) -> Spans:
    """The right ones: every eighth text has none."""
    if row % 8 == 7:
        return []
    return [(NAMES[row % 4], "PER"), (PLACES[row // 4 % 4], "LOC")]


def given(row: int) -> Spans:
    """Every fourth is wrong: a type, a missing one, an added one."""
    right = entities(row)
    if row % 4 or not right:
        return right
    person, place = right
    return [[(person[0], "LOC"), place], [person], [person, place, ("in", "LOC")]][row // 4 % 3]


def text(row: int) -> str:
    if row % 8 == 7:
        return f"number {row} : it rains ."
    return f"number {row} : {entities(row)[0][0]} lives in {entities(row)[1][0]} ."


def tags(row: int, spans: Spans) -> list[str]:
    words = text(row).split(" ")
    found = ["O"] * len(words)
    for words_of, kind in spans:
        own = words_of.split(" ")
        at = next(n for n in range(len(words)) if words[n : n + len(own)] == own)
        for step in range(len(own)):
            found[at + step] = f"{'I' if step else 'B'}-{kind}"
    return found


def placed(row: int, spans: Spans) -> list[dict[str, Any]]:
    found = []
    for words, kind in spans:
        start = text(row).index(f" {words} ") + 1
        found.append({"start": start, "end": start + len(words), "type": kind})
    return sorted(found, key=lambda span: span["start"])


class Tagged(toy.Work):
    """A job over tagged words, and a predictions file that is right nine times of ten."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(folder)
        self._capsys = capsys
        (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": TYPES}))
        self.data.write_text("".join(
            json.dumps({"id": f"i{row}", "text": text(row).split(" "),
                        "label": tags(row, given(row)), "gold": tags(row, entities(row))})[:-1]
            + ', "x": 1.50}\n' for row in range(ROWS)
        ))  # fmt: skip
        self.write_lines(
            "predictions.jsonl",
            [{"id": f"i{row}", "spans": [
                {**span, "prob": 0.9 if row % 10 else 0.4} for span in placed(row, entities(row))
            ]} for row in range(ROWS)],
        )  # fmt: skip
        self.write_lines(
            "recorded.jsonl",
            [{"id": f"i{row}", "label": tags(row, entities(row))} for row in range(ROWS)],
        )
        self.write_job()

    def write_job(self, **changes: Any) -> Path:
        return super().write_job(**{"task": "tagging", **changes})

    def call(self, *words: str) -> str:
        """What a command prints. Raises what it raises."""
        self._capsys.readouterr()
        cli.main([*words], standalone_mode=False)
        return self._capsys.readouterr().out


def as_doccano(row: int, spans: Spans) -> list[Any]:
    return [[span["start"], span["end"], span["type"]] for span in placed(row, spans)]
