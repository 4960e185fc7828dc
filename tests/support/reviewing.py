"""Runs to review, and answers to their items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import toy
import yaml

import llm_relabel as lr
from llm_relabel.config.job import load_job
from llm_relabel.files.sheets import read_sheet, write_sheet
from llm_relabel.prepared import prepare
from llm_relabel.review import (
    Review,
    draw_sample,
    read_answers,
)
from llm_relabel.run_folder.folder import RunFolder


def write_beliefs(
    run: Path, judged: Any, belief: Any, conflict: Any = None, *, number: int = 1
) -> None:
    """`round-N/beliefs.parquet` of a run, in the form that a round writes."""
    rows = len(judged)
    table = {
        "id": pa.array([f"i{row}" for row in range(rows)]),
        "judged": pa.array(np.asarray(judged, dtype=np.bool_)),
        "belief": pa.array(np.asarray(belief, dtype=np.float32)),
        "conflict": pa.array(np.zeros(rows, bool) if conflict is None else np.asarray(conflict)),
    }
    path = run / f"round-{number}" / "beliefs.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), path)


SETS = ((), ("fruit",), ("tool",), ("fruit", "animal"))


def reviewable(work: toy.Work, size: int = 30, **job: Any) -> Review:
    """The toy job run to its end, and `size` items drawn."""
    lr.relabel(work.write_job(rounds=1, **job))
    rows = range(toy.ROWS)
    write_beliefs(
        work.run_folder, [row % 5 == 0 for row in rows], [0.5 + row % 6 / 10 for row in rows],
        [row % 4 == 1 for row in rows],
    )  # fmt: skip
    review = Review(work.run_folder)
    draw_sample(review, size)
    return review


def begun(work: toy.Work) -> None:
    """The run folder of a job that was started and has no round yet."""
    job = load_job(work.write_job(rounds=1))
    folder = RunFolder(job.output_path)
    folder.path.mkdir()
    prepared = prepare(job)
    folder.start(job, prepared.identity(), prepared.definitions)


def work_of(
    folder: Path, classes: list[str], labels: list[Any] | None = None, texts: Any = "abcdef"
) -> toy.Work:
    """A job of six items with these classes."""
    work = toy.Work(folder)
    labels = labels or [classes[row % 2] for row in range(6)]
    work.write_rows(
        [{"id": f"i{row}", "text": text + " .", "label": labels[row], "gold": labels[row]}
         for row, text in enumerate(texts)]
    )  # fmt: skip
    probs = [1 / len(classes)] * len(classes)
    work.write_lines("predictions.jsonl", [{"id": f"i{r}", "pred_probs": probs} for r in range(6)])
    (work.folder / "labels.yaml").write_text(
        yaml.safe_dump({"labels": dict.fromkeys(classes, "A class.")}, sort_keys=False)
    )
    return work


def many(work: toy.Work, size: int = 30) -> Review:
    """The same with sets of labels."""
    rows = range(toy.ROWS)
    work.write_rows(
        [{"id": f"i{row}", "text": toy.text(row), "label": SETS[row % 4]} for row in rows]
    )
    work.write_lines(
        "predictions.jsonl", [{"id": f"i{row}", "pred_probs": [0.9, 0.2, 0.3]} for row in rows]
    )
    work.write_lines("recorded.jsonl", [{"id": f"i{row}", "label": ["fruit"]} for row in rows])
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    return reviewable(work, size, data=data)


def fill(path: Path, answers: dict[str, str]) -> Path:
    """A sheet of ours as a person fills it in."""
    rows = read_sheet(path)
    for row in rows:
        row["answer"] = answers.get(row["id"], "")
    write_sheet(path, list(rows[0]), [list(row.values()) for row in rows])
    return path


def answered(review: Review) -> dict[str, Any]:
    return {check.id: check.answer for check in read_answers(review.run, review.task)}
