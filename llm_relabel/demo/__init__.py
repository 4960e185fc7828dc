"""`llm-relabel demo`: the main job on bundled data, with no key and no network."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from llm_relabel import engine
from llm_relabel.errors import JobError
from llm_relabel.progress import Progress
from llm_relabel.run_folder.changes import in_force
from llm_relabel.run_folder.folder import RunFolder

SHOWN = 6


HERE = Path(__file__).parent
DEMOS: dict[str, Path] = {
    "classification": HERE, "tagging": HERE / "tagging", "detection": HERE / "detection",
}  # fmt: skip


def run_demo(output: Path, progress: Progress, task: str = "classification") -> str:
    """Run a task's demo into `output` and tell what it did. A finished run is only told again."""
    folder = output.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "job.yaml").exists():
        raise JobError(f"{str(output)!r} exists and is no run folder; name another --output")
    job = engine.open_job(DEMOS[task] / "job.yaml", [f"output={folder}"])
    about, shown, last = {
        "classification": (_BANKING, _examples, _NO_LLM),
        "tagging": (_SENTENCES, _spans, _RECORDED),
        "detection": (_CELLS, _boxes, _SEEN),
    }[task]
    progress.note(about)
    engine.run_job(job, progress=progress)
    return "\n".join(["", engine.status_of(output).told(), "", *shown(folder), "", *last])


_BANKING = (
    "2,589 real messages to a bank, 20 easily confused intents (banking77, CC BY 4.0). "
    "15% of the labels were flipped on purpose, so that the repair can be measured."
)
_SENTENCES = (
    "360 sentences that were written for this demo, with persons, places and organisations. In one "
    "of four an error was planted, so that the repair can be measured."
)
_CELLS = (
    "40 pictures of blood cells (BCCD, MIT). Boxes were taken away, shifted, given another class "
    "or put where nothing is, so that the repair can be measured."
)
_NO_LLM = (
    "The judge here was no LLM, only definitions and neighbours; an LLM judges better.",
    "Now your own data:",
    "  llm-relabel init DATA.jsonl --text TEXT_COLUMN --label LABEL_COLUMN",
)
_RECORDED = (
    "No LLM was called: the judge's answers were made with the sentences, nine of ten entities "
    "right. What real judges do is told by `llm-relabel help figures`.",
    "Now your own data:",
    "  llm-relabel init DATA.conll --task tagging --text tokens --label ner_tags",
)


_SEEN = (
    "No LLM was called: the judge's answers were made with the published boxes, nine of ten right. "
    "A detector that learns from 40 pictures knows little; look at the report, which shows each "
    "place.",
    "Now your own data:",
    "  llm-relabel init DATA --task detection --image COLUMN --label COLUMN",
)


def _boxes(run: Path) -> list[str]:
    """How many boxes were changed, by what they were and are."""
    moves = Counter(
        (line["old"] or "nothing", line["new"] or "nothing")
        for line in in_force(RunFolder(run).changes())
    )
    told = [f"  {count} x  {old} -> {new}" for (old, new), count in moves.most_common(SHOWN)]
    return ["Most frequent changes of a box:", *told]


def _spans(run: Path) -> list[str]:
    """A few changed entities, in their sentences."""
    data = (DEMOS["tagging"] / "sentences.jsonl").read_text(encoding="utf-8")
    text_of = {row["id"]: " ".join(row["tokens"]) for row in map(json.loads, data.splitlines())}
    lines = [line for line in in_force(RunFolder(run).changes()) if line["unit"][:1].isdecimal()]
    told = ["Repaired, for example:"]
    for line in lines[:: max(1, len(lines) // SHOWN)][:SHOWN]:
        words = line["unit"].partition(" ")[2]
        told.append(f"  {words!r}: {line['old'] or 'nothing'} -> {line['new'] or 'nothing'}")
        told.append(f"      {text_of[line['id']]}")
    return told


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
