"""The three forms of a report, and a large one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import toy


def forms(run_folder: Path) -> tuple[dict[str, Any], str, str]:
    """`report.json`, the page and the Markdown of a run."""
    text = (run_folder / "report.json").read_text(encoding="utf-8")
    facts = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    return facts, page, (run_folder / "report.md").read_text(encoding="utf-8")


def large(folder: Path, rows: int, classes: int) -> toy.Work:
    """A run over many rows: a third of them doubted, most of these changed."""
    work, rng = toy.Work(folder), random.Random(0)
    names = [f"class_{number}" for number in range(classes)]
    (folder / "labels.yaml").write_text(json.dumps({"labels": {n: f"About {n}." for n in names}}))
    with (
        (folder / "data.jsonl").open("w") as data,
        (folder / "predictions.jsonl").open("w") as predictions,
        (folder / "recorded.jsonl").open("w") as recorded,
    ):
        for row in range(rows):
            truth = rng.randrange(classes)
            given = rng.randrange(classes) if row % 3 == 0 else truth
            line = {"id": f"i{row}", "text": f"an item, number {row} " + "and more words " * 8,
                    "label": names[given], "gold": names[truth]}  # fmt: skip
            data.write(json.dumps(line) + "\n")
            probs = [0.2 / classes] * classes
            probs[truth] += 0.8
            predictions.write(json.dumps({"id": f"i{row}", "pred_probs": probs}) + "\n")
            said = {"id": f"i{row}", "label": names[truth], "confidence": 0.9,
                    "rationale": "because the words say so " * 6}  # fmt: skip
            recorded.write(json.dumps(said) + "\n")
    work.write_job(rounds=1)
    return work
