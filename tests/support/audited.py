"""Runs with spot-checks, answered without a person."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
import toy

import llm_relabel as lr
from llm_relabel.review import Review, draw_sample, export_items, import_answers

ROWS = 400


@pytest.fixture
def big(work: toy.Work) -> toy.Work:
    """400 rows: a fifth of the labels wrong, the model right in 70%, the judge in 90%."""
    rng = random.Random(4)

    def mostly(row: int, right: float) -> str:
        others = [name for name in toy.NAMES if name != toy.truth(row)]
        return toy.truth(row) if rng.random() < right else rng.choice(others)

    rows = [
        {"id": f"i{n}", "text": f"{toy.text(n)} {n}", "label": mostly(n, 0.8), "gold": toy.truth(n)}
        for n in range(ROWS)
    ]
    work.write_rows(rows)
    lines = []
    for n in range(ROWS):
        said = mostly(n, 0.7)
        lines.append({"id": f"i{n}", "pred_probs": [0.7 if c == said else 0.15 for c in toy.NAMES]})
    work.write_lines("predictions.jsonl", lines)
    work.write_lines(
        "recorded.jsonl", [{"id": f"i{n}", "label": mostly(n, 0.9)} for n in range(ROWS)]
    )
    return work


def review(work: toy.Work, size: int, *, say: Any = toy.truth) -> None:
    """Draw, answer every item by its row, import: in this process, as test_review.py does it by
    the commands."""
    opened = Review(work.run_folder)
    draw_sample(opened, size)
    out = work.folder / "answers.jsonl"
    export_items(opened, out, "jsonl")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for line in lines:
        line["answer"] = say(int(line["id"][1:]))
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_answers(opened, out, "ann")


WRONG = dict(zip(toy.NAMES, toy.NAMES[1:] + toy.NAMES[:1], strict=True))


def misled(work: toy.Work) -> Mapping[str, Any]:
    """A run whose judge is never right, beside a trusted dev file."""
    work.write_lines(
        "recorded.jsonl", [{"id": f"i{n}", "label": WRONG[toy.truth(n)]} for n in range(toy.ROWS)]
    )
    work.write_lines(
        "dev.jsonl",
        [{"id": f"d{n}", "text": toy.text(n + 60), "label": toy.truth(n)} for n in range(45)],
    )
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id", "dev": "dev.jsonl"}
    work.write_job(data=data, model={}, decide={"policy": "replace"}, detect={"quality": 0.9})
    return lr.relabel(work.job).summary
