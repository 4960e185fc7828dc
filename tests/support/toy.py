"""A small real job in a folder: 60 messages, three classes, every fifth label wrong.

The predictions file stands in for the small model, so these tests load no torch: it is right
on nine of ten rows. Tests of the model itself use the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import forked
import yaml

NAMES = ("fruit", "tool", "animal")
WORDS = {
    "fruit": ("apple", "pear", "plum", "grape"),
    "tool": ("hammer", "saw", "chisel", "wrench"),
    "animal": ("horse", "heron", "beaver", "lynx"),
}
ROWS = 60


def truth(row: int) -> str:
    return NAMES[row % 3]


def given(row: int) -> str:
    return NAMES[(row + 1) % 3] if row % 5 == 0 else truth(row)


def predicted(row: int) -> str:
    return NAMES[(row + 2) % 3] if row % 10 == 7 else truth(row)


def text(row: int) -> str:
    return f"the {WORDS[truth(row)][row // 3 % 4]} number {row}"


class Work:
    """A folder with data, definitions, predictions and a job file; `run` calls the program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data.jsonl"
        self.job = folder / "job.yaml"
        self.run_folder = folder / "run"
        self.write_rows(
            [
                {"id": f"i{row}", "text": text(row), "label": given(row), "gold": truth(row)}
                for row in range(ROWS)
            ]
        )
        self.write_lines(
            "predictions.jsonl",
            [
                {
                    "id": f"i{row}",
                    "pred_probs": [0.8 if n == predicted(row) else 0.1 for n in NAMES],
                }
                for row in range(ROWS)
            ],
        )
        self.write_lines(
            "recorded.jsonl",
            [{"id": f"i{row}", "label": truth(row), "confidence": 0.9} for row in range(ROWS)],
        )
        labels = {name: f"The text is about a kind of {name}." for name in NAMES}
        (folder / "labels.yaml").write_text(
            yaml.safe_dump({"labels": labels}, sort_keys=False), encoding="utf-8"
        )
        self.write_job()

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        self.write_lines("data.jsonl", rows)

    def write_lines(self, name: str, rows: list[dict[str, Any]]) -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def write_job(self, **changes: Any) -> Path:
        """The job file; `judge={...}` and the like replace whole sections."""
        raw = {
            "task": "classification",
            "data": {
                "path": "data.jsonl", "text": "text", "label": "label", "id": "id", "gold": "gold"
            },
            "labels": "labels.yaml",
            "model": {"predictions": "predictions.jsonl"},
            "judge": {"model": "recorded/recorded.jsonl"},
            "rounds": 2,
            "output": "run",
            **changes,
        }  # fmt: skip
        self.job.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return self.job

    def llm(self, url: str, **judge: Any) -> Path:
        """The job file with an OpenAI-compatible judge at `url`."""
        return self.write_job(judge={"model": "openai/toy", "base_url": url, **judge})

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "llm_relabel", *words]

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The program in a process of its own."""
        return forked.start(*words, folder=cwd or self.folder, env=env).wait()

    def run_anew(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same in a new interpreter: slower, and all that happens at its start happens."""
        return subprocess.run(
            self.command(*words), cwd=cwd or self.folder, env={**os.environ, **(env or {})},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_folder / "summary.json").read_text(encoding="utf-8"))

    def lines(self, name: str) -> list[dict[str, Any]]:
        text = (self.run_folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def labels(self) -> list[Any]:
        return [row["label"] for row in self.lines("dataset.jsonl")]
