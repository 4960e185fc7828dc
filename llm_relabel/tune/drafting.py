"""`init --writer`: definitions for labels that have only examples, for people to confirm."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from llm_relabel.config.definitions import PLACEHOLDER, LabelDefinitions, load_definitions
from llm_relabel.config.job import Job, load_job
from llm_relabel.errors import JobError
from llm_relabel.files.journal import Journal, write_whole
from llm_relabel.judge.asking import outside_event_loops
from llm_relabel.judge.budget import Budget
from llm_relabel.progress import Progress
from llm_relabel.tune.pool import Pool
from llm_relabel.tune.rewrite import Writer
from llm_relabel.tune.writer import member_of
from llm_relabel.tune.yaml_edits import edited

CONFIRM = f"{PLACEHOLDER} confirm or mend, then take these first words away:"


def write_definitions(folder: Path, model: str, cap: float | None, progress: Progress) -> str:
    """Draft what is still to be written in `folder`'s labels.yaml; what was done, in words.

    The placeholder stays before each draft, so that no judge reads it before a person did. Raises
    JobError, or Paused at the cap.
    """
    job, path = load_job(folder / "job.yaml", []), folder / "labels.yaml"
    guide = load_definitions(path)
    wanted = [name for name in guide.unwritten if guide.labels[name].examples]
    if not wanted:
        return "Nothing to draft: every label is written, or has no example to write from."
    section = job.judge.model_copy(update={"max_cost": "none" if cap is None else cap})
    job = job.model_copy(update={"judge": section})
    found = outside_event_loops(lambda: _asked(job, model, cap, guide, wanted, folder, progress))
    changes = {name: {"definition": f"{CONFIRM} {text}"} for name, text in found.items()}
    if changes:
        source = path.read_text(encoding="utf-8")
        write_whole(path, edited(source, changes, where=str(path)).encode())
    return (
        f"{model} drafted {len(found)} of {len(wanted)} definitions in {path}: read each, mend it, "
        f"and take away {PLACEHOLDER!r} and what stands before the draft; until then no judge "
        "reads it."
    )


def _asked(
    job: Job, model: str, cap: float | None, guide: LabelDefinitions, wanted: list[str],
    folder: Path, progress: Progress,
) -> dict[str, str]:  # fmt: skip
    provider, member, prices = member_of(job, model)
    if cap is None and prices is not None and (prices.input or prices.output):
        raise JobError(f"--writer {model} is paid; give a cap in US dollars, --max-cost 1")
    texts = [(text, name) for name in guide.names for text in guide.labels[name].examples]
    pool = Pool(
        tuple(text for text, _ in texts), np.array([name for _, name in texts], dtype=object),
        np.ones((len(texts), 1), dtype=np.float32),
    )  # fmt: skip
    blank = {
        name: each.model_copy(update={"definition": "(not written yet)"})
        if name in wanted
        else each
        for name, each in guide.labels.items()
    }
    start = guide.model_copy(update={"labels": blank})
    with asyncio.Runner() as loop, Journal(folder / ".writer.jsonl") as journal:
        writer = Writer(
            provider, member, prices, budget=Budget(cap), cache=None, journal=journal, pool=pool,
            text_of=lambda miss: miss.key, id_of=str, forbidden=(), run=loop.run,
            note=progress.note,
        )  # fmt: skip
        try:
            with progress.step(f"{len(wanted)} definitions by {model}"):
                proposals = writer.drafts(start, wanted)
        finally:
            loop.run(writer.aclose())
    (folder / ".writer.jsonl").unlink(missing_ok=True)
    return {each.label: each.definition.definition for each in proposals}
