"""What the jobs of `unchanged.py` are made of: the program, files of lines, data."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import random
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopback_server import Loopback
from sets import RecordedSet, write_job

import llm_relabel as lr

MULTI_ROWS = 400
CLASSES = {
    "card": ("card",), "cash": ("cash", "atm", "withdraw"), "transfer": ("transfer",),
    "top_up": ("top up", "top-up", "topup"), "fee": ("fee", "charge", "cost"),
}  # fmt: skip


def command(home: Path, *words: str, name: str, status: int = 0) -> None:
    """`python -m llm_relabel WORDS` in `home`, in this process; what it says goes to NAME.txt."""
    said, before = io.StringIO(), (sys.argv, Path.cwd())
    code: Any = 0
    sys.argv = ["llm-relabel", *words]
    os.chdir(home)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()) as errors:
            runpy.run_module("llm_relabel", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
    (home / f"{name}.txt").write_text(said.getvalue(), encoding="utf-8")
    if code != status:
        raise RuntimeError(f"llm-relabel {' '.join(words)}: exit {code}\n{errors.getvalue()}")


@contextlib.contextmanager
def judge_server(**options: Any) -> Iterator[Loopback]:
    """A server at one address for both sides, which take turns: an address is part of the key of
    a question, and keys are compared."""
    port = int(os.environ.get("UNCHANGED_PORT", "0"))
    with Path(os.environ.get("UNCHANGED_LOCK", os.devnull)).open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with Loopback(port=port, **options) as server:
            yield server


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_checks(home: Path, checks: Mapping[str, str]) -> None:
    """`checks` says of each claim what is wrong with it, nothing where it holds."""
    (home / "checks.json").write_text(json.dumps(checks, indent=1) + "\n", encoding="utf-8")


def as_predictions(path: Path, one: RecordedSet) -> None:
    """Predictions that are right on some 80 of 100 rows."""
    rng, lines = random.Random(f"predictions of {one.name}"), []
    for row in one.rows:
        if isinstance(row["gold"], list):
            probs = [
                round(abs((name in row["gold"]) - rng.random() * (0.9 if rng.random() < 0.1
                      else 0.4)), 4)
                for name in one.classes
            ]  # fmt: skip
        else:
            likely = row["gold"] if rng.random() < 0.8 else rng.choice(one.classes)
            probs = [round(rng.random() + (1.5 if name == likely else 0), 4)
                     for name in one.classes]  # fmt: skip
        lines.append({"id": row["id"], "pred_probs": probs})
    write_lines(path, lines)


def many_labels() -> tuple[RecordedSet, list[dict[str, Any]]]:
    """400 of the demo's messages with the topics that their words name, a fifth of the labels
    wrong, some rows without a label; and what a judge recorded of them, with gaps."""
    (path,) = Path(lr.__file__).parent.rglob("banking20.jsonl")
    rng, rows, recorded = random.Random(3), [], []
    texts = read_lines(path)
    for number, each in enumerate(texts[:: len(texts) // MULTI_ROWS][:MULTI_ROWS]):
        gold = [c for c, words in CLASSES.items() if any(w in each["text"].lower() for w in words)]
        label: list[str] | None = _mistaken(gold, rng) if rng.random() < 0.2 else gold
        rows.append({
            "id": f"m{number}", "text": each["text"],
            "label": None if rng.random() < 0.04 else label, "gold": gold,
        })  # fmt: skip
        place = rng.random()
        if place < 0.07:
            continue  # the judge never saw it
        said = None if place < 0.15 else _mistaken(gold, rng) if place < 0.3 else gold
        recorded.append({
            "id": f"m{number}", "label": said, "confidence": round(0.5 + rng.random() / 2, 2),
            "rationale": f"by the words of message {number}",
        })  # fmt: skip
    answers = {line["id"]: line["label"] for line in recorded}
    return RecordedSet("multi", rows, list(CLASSES), {"judge": answers}, {}), recorded


def _mistaken(labels: Sequence[str], rng: random.Random) -> list[str]:
    """One or two classes wrongly there, or wrongly not."""
    wrong = set(rng.sample(list(CLASSES), rng.choice((1, 1, 2))))
    return [name for name in CLASSES if (name in labels) != (name in wrong)]


def recorded_job(home: Path, name: str, one: RecordedSet, **changes: Any) -> Path:
    """A job file `NAME.yaml` whose run folder is `NAME`."""
    path = write_job(home, name, one, output=name, **changes)
    if one.name == "multi":
        write_lines(home / "judge.jsonl", many_labels()[1])
    as_predictions(home / "predictions.jsonl", one)
    return path
