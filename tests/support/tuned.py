"""A job whose judge can do only what the guideline tells it, so that words in it matter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import toy
from loopback import Received

WORDS = {
    "fruit": ("apple", "pear", "plum", "grape", "mango"),
    "tool": ("hammer", "saw", "chisel", "wrench", "rasp"),
    "animal": ("horse", "heron", "beaver", "lynx", "otter"),
    "metal": ("iron", "zinc", "nickel", "copper", "tin"),
}
NAMES = tuple(WORDS)
ROWS = 480
LABELS = """\
# What the four kinds are.
labels:
  fruit: Things of the first kind.   # the commonest
  tool:
    definition: Things of the second kind.
    # a person's example
    examples:
      - a toolbox
  animal: {definition: Things of the third kind.}
  metal:
    definition: >-
      Things of the
      fourth kind.
# the end
"""


def truth(row: int) -> str:
    return NAMES[row % 4]


def given(row: int) -> str:
    return NAMES[(row + 1) % 4] if row % 7 == 0 else truth(row)


def predicted(row: int) -> str:
    return NAMES[(row + 2) % 4] if row % 11 == 0 else truth(row)


def word(row: int) -> str:
    return WORDS[truth(row)][row // 4 % 5]


def text(row: int) -> str:
    return f"the {word(row)} in place {row}"


class Tuned(toy.Work):
    """480 rows, of which the gold file names some."""

    def __init__(self, folder: Path, gold: int = 200) -> None:
        super().__init__(folder)
        self.write_rows([{"id": f"i{row}", "text": text(row), "label": given(row)}
                         for row in range(ROWS)])  # fmt: skip
        self.write_lines("predictions.jsonl", [
            {"id": f"i{row}",
             "pred_probs": [0.7 if name == predicted(row) else 0.1 for name in NAMES]}
            for row in range(ROWS)
        ])  # fmt: skip
        (folder / "labels.yaml").write_text(LABELS, encoding="utf-8")
        self.write_gold(gold)
        self.write_job()

    @property
    def tune_folder(self) -> Path:
        return self.folder / "run-tune"

    def write_gold(self, items: int) -> None:
        rows = [row * 7 % ROWS for row in range(items)]
        self.write_lines("gold.jsonl", [{"id": f"i{row}", "gold": truth(row)} for row in rows])

    def write_job(self, **changes: Any) -> Path:
        data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
        return super().write_job(**{"data": data, **changes})

    def tune(self, *words: str) -> Any:
        return self.run("tune", str(self.job), "--gold", "gold.jsonl", *words)

    def result(self) -> dict[str, Any]:
        return json.loads((self.tune_folder / "tune.json").read_text())

    def left(self, name: str) -> list[dict[str, Any]]:
        lines = (self.tune_folder / name).read_text().splitlines()
        return [json.loads(line) for line in lines]


def row_of(received: Received) -> int:
    return int(re.search(r"in place (\d+)", received.user)[1])


def entries(received: Received) -> dict[str, str]:
    """What the prompt says of each label."""
    found: dict[str, str] = {}
    parts = re.split(r'\n- "(\w+)": ', received.body["messages"][0]["content"])
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        found[name] = said.split("\n\n")[0]
    return found


def answer(label: str) -> dict[str, Any]:
    return {"rationale": "r", "label": label, "confidence": 0.9}


def by_the_book(received: Received) -> dict[str, Any]:
    """A judge that knows a word only where the guideline has it; else it says `fruit`."""
    own = word(row_of(received))
    for name, said in entries(received).items():
        plain = said.split("Not an example")[0]
        if own in plain:
            return answer(name)
    return answer("fruit")
