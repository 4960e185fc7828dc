"""A job whose every item is judged by the loopback server, for the benchmarks of the judge plane.

Predictions are given and differ from every label, so no small model is trained and all items
are flagged. Each text holds a mark of its own (`#i17#`), by which the server counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

NAMES = ("billing", "delivery", "returns", "account", "product", "praise")
WORDS = ("parcel", "refund", "card", "login", "size", "colour", "late", "broken", "thanks", "price")
ANSWER = json.dumps({"rationale": "It fits.", "label": NAMES[0], "confidence": 0.9})
"""What a canned server says: always the same label, a valid answer."""


def text_of(row: int) -> str:
    """A short text, different for each row."""
    return f"#i{row}# the {WORDS[row % 10]} and the {WORDS[row // 10 % 10]} of order {row}"


def write_data(home: Path, rows: int) -> None:
    """`data.jsonl` and `predictions.jsonl` with `rows` rows, all of which are label issues."""
    with (home / "data.jsonl").open("w") as data, (home / "predictions.jsonl").open("w") as probs:
        for row in range(rows):
            given, predicted = NAMES[row % 6], NAMES[(row + 1 + row // 6 % 5) % 6]
            line = {"id": f"i{row}", "text": text_of(row), "label": given}
            data.write(json.dumps(line) + "\n")
            values = [0.75 if name == predicted else 0.05 for name in NAMES]
            probs.write(json.dumps({"id": f"i{row}", "pred_probs": values}) + "\n")


def write_job(home: Path, judge: Mapping[str, Any], **sections: Any) -> Path:
    """`job.yaml` over the data in `home`; one round, and the judge decides."""
    job = {
        "task": "classification",
        "data": {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
        "labels": {name: f"The customer writes about {name}." for name in NAMES},
        "model": {"predictions": "predictions.jsonl"},
        "judge": dict(judge),
        "decide": {"policy": "replace"},
        "rounds": 1,
        "output": "run",
        **sections,
    }
    path = home / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def start(home: Path, output: str, *words: str) -> subprocess.Popen[bytes]:
    """`llm-relabel run` on the job in `home`, in a process group of its own; says to OUTPUT.log."""
    command = [sys.executable, "-m", "llm_relabel", "run", str(home / "job.yaml"),
               "--set", f"output={output}", *words]  # fmt: skip
    env = {**os.environ, "LLM_RELABEL_CACHE": str(home / "cache"), "HF_HUB_OFFLINE": "1"}
    with (home / f"{output}.log").open("ab") as log:
        return subprocess.Popen(command, env=env, start_new_session=True, stdout=log, stderr=log)
