"""The evaluation sets that carry recorded LLM answers, as jobs in a folder of their own."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from machine import data_folder, rows_of

RECORDED = (
    "fomc_stance", "numclaim_analyst", "semeval_relations", "css_discourse", "css_emotion",
    "css_flute", "css_tempowic", "css_wiki_politeness", "pledge_small",
)  # fmt: skip

# Only the judge that needs no LLM reads these; recorded answers were given to other words.
DEFINITIONS = {
    "dovish": "The sentence leans to easier monetary policy: weak growth or jobs, low inflation, "
    "cuts of interest rates or asset purchases.",
    "hawkish": "The sentence leans to tighter monetary policy: strong growth or jobs, high "
    "inflation, raises of interest rates or an end of purchases.",
    "neutral": "The sentence leans to neither side, is mixed, or is not about policy.",
    "INCLAIM": "The sentence makes a claim about the future with a number in it.",
    "OUTOFCLAIM": "The sentence states a fact, a past figure or an assumption, or has no "
    "forward-looking number.",
}


@dataclass(frozen=True)
class RecordedSet:
    """One set. `answers` maps a model to its answers by id; `stated` to what the set's own README
    says of it: accuracy, answered, kappa."""

    name: str
    rows: list[dict[str, Any]]
    classes: list[str]
    answers: dict[str, dict[str, str]]
    stated: dict[str, tuple[float, int, float]]

    @property
    def gold(self) -> dict[str, str]:
        """Gold by id, where there is any."""
        return {row["id"]: row["gold"] for row in self.rows if row["gold"] is not None}


def read_set(name: str) -> RecordedSet:
    """A set from the data folder; ends with a clear message where it is not there."""
    rows = rows_of(name)
    found = {row[key] for row in rows for key in ("label", "gold")} - {None}
    models = sorted({model for row in rows for model in row["llm"]})
    answers = {
        model: {row["id"]: row["llm"][model] for row in rows if row["llm"].get(model) is not None}
        for model in models
    }
    return RecordedSet(name, rows, sorted(found), answers, _stated(name))


def write_job(folder: Path, name: str, one: RecordedSet, **changes: Any) -> Path:
    """Data, answers (`MODEL.jsonl`) and a job file; the path of the job file."""
    _write(folder / "data.jsonl", [
        {key: row[key] for key in ("id", "text", "label", "gold")} for row in one.rows
    ])  # fmt: skip
    _write(folder / "gold.jsonl", [
        {key: row[key] for key in ("id", "gold", "annotators") if key in row}
        for row in one.rows if row["gold"] is not None
    ])  # fmt: skip
    for model, given in one.answers.items():
        _write(
            folder / answers_file(model),
            [{"id": item_id, "label": label} for item_id, label in given.items()],
        )
    first = answers_file(next(iter(one.answers)))
    job = {
        "task": "classification",
        "data": {"path": "data.jsonl", "text": "text", "label": "label", "id": "id",
                 "gold": "gold"},
        "labels": {each: DEFINITIONS.get(each, f"The text is {each}.") for each in one.classes},
        "judge": {"model": f"recorded/{first}"},
        "output": "run",
        **changes,
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def answers_file(model: str) -> str:
    """The file of one model's answers."""
    return model.replace("/", "_") + ".jsonl"


def _stated(name: str) -> dict[str, tuple[float, int, float]]:
    text = (data_folder(name) / "README.md").read_text(encoding="utf-8")
    pattern = r"^\| (\S+) \| ([\d.]+) \| (\d+) \| (-?[\d.]+) \|$"
    return {
        model: (float(accuracy), int(answered), float(kappa))
        for model, accuracy, answered, kappa in re.findall(pattern, text, re.MULTILINE)
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
