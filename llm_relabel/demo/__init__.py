"""`llm-relabel demo`: the main job on a bundled real dataset, with no key and no network."""

from __future__ import annotations

from pathlib import Path

from llm_relabel.changes import in_force
from llm_relabel.errors import JobError
from llm_relabel.job import load_job
from llm_relabel.progress import Progress
from llm_relabel.report import told_summary
from llm_relabel.rounds import JobRunner

SHOWN = 6


def run_demo(output: Path, progress: Progress) -> str:
    """Run the demo into `output` and tell what it did. A finished run is only told again."""
    folder = output.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "job.yaml").exists():
        raise JobError(f"{str(output)!r} exists and is no run folder; name another --output")
    job = load_job(Path(__file__).with_name("job.yaml"), [f"output={folder}"])
    progress.note(
        "2,589 real messages to a bank, 20 easily confused intents (banking77, CC BY 4.0). "
        "15% of the labels were flipped on purpose, so that the repair can be measured."
    )
    runner = JobRunner(job, progress=progress)
    summary = runner.go()
    lines = ["", told_summary(summary, output), ""]
    lines += _examples(runner)
    lines += [
        "",
        "The judge here was no LLM, only definitions and neighbours; an LLM judges better.",
        "Now your own data:",
        "  llm-relabel init DATA.jsonl --text TEXT_COLUMN --label LABEL_COLUMN",
    ]
    return "\n".join(lines)


def _examples(runner: JobRunner) -> list[str]:
    """A few repaired flips, and rows that nobody flipped: real annotation errors, perhaps."""
    data = runner.prepared.dataset
    gold = runner.prepared.gold
    row_of = {item_id: row for row, item_id in enumerate(data.ids.to_pylist())}
    repaired: list[str] = []
    untouched: list[str] = []
    for line in in_force(runner.run.changes()):
        row = row_of[line["id"]]
        told = f"  {line['old']} -> {line['new']}:  {' '.join(data.text[row].as_py().split())}"
        published = gold[row] if gold is not None else None
        (untouched if published == line["old"] else repaired).append(told)
    return [
        "Repaired, for example:",
        *repaired[:SHOWN],
        "",
        f"{len(untouched)} changes are on labels that nobody flipped. They count as broken above, "
        "but look:",
        "some of them are real annotation errors of the published set.",
        *untouched[:SHOWN],
    ]
