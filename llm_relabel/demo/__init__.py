"""`llm-relabel demo`: the main job on a bundled real dataset, with no key and no network."""

from __future__ import annotations

import json
from pathlib import Path

from llm_relabel import engine
from llm_relabel.errors import JobError
from llm_relabel.progress import Progress
from llm_relabel.run_folder.changes import in_force
from llm_relabel.run_folder.folder import RunFolder

SHOWN = 6


def run_demo(output: Path, progress: Progress) -> str:
    """Run the demo into `output` and tell what it did. A finished run is only told again."""
    folder = output.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "job.yaml").exists():
        raise JobError(f"{str(output)!r} exists and is no run folder; name another --output")
    job = engine.open_job(Path(__file__).with_name("job.yaml"), [f"output={folder}"])
    progress.note(
        "2,589 real messages to a bank, 20 easily confused intents (banking77, CC BY 4.0). "
        "15% of the labels were flipped on purpose, so that the repair can be measured."
    )
    engine.run_job(job, progress=progress)
    lines = ["", engine.status_of(output).told(), ""]
    lines += _examples(folder)
    lines += [
        "",
        "The judge here was no LLM, only definitions and neighbours; an LLM judges better.",
        "Now your own data:",
        "  llm-relabel init DATA.jsonl --text TEXT_COLUMN --label LABEL_COLUMN",
    ]
    return "\n".join(lines)


def _examples(run: Path) -> list[str]:
    """A few repaired flips, and rows that nobody flipped: real annotation errors, perhaps."""
    data = Path(__file__).with_name("banking20.jsonl").read_text(encoding="utf-8")
    row_of = {row["id"]: row for row in map(json.loads, data.splitlines())}
    repaired: list[str] = []
    untouched: list[str] = []
    for line in in_force(RunFolder(run).changes()):
        row = row_of[line["id"]]
        told = f"  {line['old']} -> {line['new']}:  {' '.join(row['text'].split())}"
        (untouched if row["gold"] == line["old"] else repaired).append(told)
    return [
        "Repaired, for example:",
        *repaired[:SHOWN],
        "",
        f"{len(untouched)} changes are on labels that nobody flipped. They count as broken above, "
        "but look:",
        "some of them are real annotation errors of the published set.",
        *untouched[:SHOWN],
    ]
