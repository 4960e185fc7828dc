"""`init`: a job file and label definitions to edit, made from the data itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.config.definitions import PLACEHOLDER, as_yaml
from llm_relabel.config.job import DataSection, make_job
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.data.label_shapes import list_hint, missing_hint
from llm_relabel.errors import DataError, JobError
from llm_relabel.spellings import look_alikes, told_look_alikes
from llm_relabel.tasks import task_type
from llm_relabel.tasks.task import Starter

# The data keys that `init` takes as options of the same name.
OPTIONS = (
    "encoding", "delimiter", "quoting", "skip_lines", "sheet", "split", "subset", "group",
    "missing", "label_separator", "boxes",
)  # fmt: skip


# What a job asks where its task has no judge without an LLM.
LLM = "openai/gpt-4o-mini"


def init_job(data: str, task: str, columns: Mapping[str, Any], folder: Path) -> str:
    """Write `job.yaml` and `labels.yaml` into `folder`; gives what to do next, as text.

    Raises JobError rather than overwrite a file, and DataError where the data is wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / "job.yaml", folder / "labels.yaml"]
    for path in targets:
        if path.exists():
            raise JobError(f"{str(path)!r} exists and is not overwritten; name another --output")
    where = data
    if Path(data).expanduser().exists():
        where = os.path.relpath(Path(data).expanduser(), folder)
    given = {name: value for name, value in columns.items() if value or name == "missing"}
    if folder_named := given.get("image_folder"):
        given["image_folder"] = os.path.relpath(Path(folder_named).expanduser(), folder)
    for name in ("text", "label"):
        if len(given.get(name, ())) == 1:
            given[name] = given[name][0]
    raw = {
        "task": task,
        "data": {"path": where, **given},
        "labels": "labels.yaml",
        "judge": {"model": "embedded" if task_type(task).embedded_judge else LLM},
        "rounds": 2,
        "output": f"runs/{Path(data).stem or 'first'}",
    }
    job = make_job(raw, folder=folder.resolve())
    try:
        dataset = read_dataset(job.data, job.resolve, cells_of=task_type(task).cells)
    except DataError as error:
        raise DataError(_with_options(str(error))) from error
    counts = dict.fromkeys(dataset.class_names or (), 0) | dataset.label_counts()
    _ask(job.data, dataset)
    alike = look_alikes(counts)
    aliases = {name: others for name, *others in alike}
    joined = {other for others in aliases.values() for other in others}
    names = [name for name in dataset.class_names or sorted(counts) if name not in joined]
    kind = task_type(task)
    if len(names) < kind.starter.least:
        least = {1: "one is", 2: "two are"}[kind.starter.least]
        raise JobError(
            f"the label column {given['label']!r} holds {len(names)} distinct labels; at least "
            f"{least} needed: is it the right column?"
        )
    targets[0].write_text(_job_text(raw), encoding="utf-8")
    targets[1].write_text(_labels_text(kind.starter, dataset, names, aliases), encoding="utf-8")
    notes = list(dataset.notes)
    if alike:
        notes.append(
            f"labels that look alike: {told_look_alikes(alike, counts)}; {targets[1]} joins each "
            "to the most frequent one by `aliases`. Those that differ in meaning get an entry of "
            "their own there."
        )
    return "".join(f"Warning: {note}\n" for note in notes) + (
        f"Wrote {targets[0]} and {targets[1]}: {len(dataset):,} rows, {len(names)} labels.\n"
        f"1. Write what each label means in {targets[1]}: the judge reads nothing else.\n"
        f"2. llm-relabel plan {targets[0]}\n"
        f"3. llm-relabel run {targets[0]}"
    )


def _with_options(told: str) -> str:
    """The message with the option of `init` beside each data key that it names."""

    def with_option(found: re.Match[str]) -> str:
        option = f"--{found[2].replace('_', '-')}"
        return found[0] if option in told else f"{found[0]} (`init {option}{found[4] or ''}`)"

    keys = "|".join(OPTIONS)
    return re.sub(rf"(`?)data\.({keys})\b(:( [\w-]+)`)?", with_option, told)


def _ask(section: DataSection, dataset: Dataset) -> None:
    """Raises JobError where only the user knows what the labels mean."""
    counts = dataset.label_counts()
    hints = [missing_hint(section, counts)]
    if not dataset.multi_label:
        hints.append(list_hint(section, counts))
    if asked := [hint for hint in hints if hint]:
        raise JobError("; ".join(asked) + ". Nothing was written")


def _job_text(raw: Mapping[str, Any]) -> str:
    judge = f"""judge:
  model: {LLM}   # or anthropic/NAME, ... with the key in OPENAI_API_KEY,
                           # ANTHROPIC_API_KEY or a .env file
  max_cost: 5.00           # US dollars for the whole run
"""
    if raw["judge"]["model"] == "embedded":
        judge = """judge:
  model: embedded          # no LLM; or openai/gpt-4o-mini, anthropic/NAME, ... with the key in
                           # OPENAI_API_KEY, ANTHROPIC_API_KEY or a .env file, and a cap:
  # max_cost: 5.00         # US dollars for the whole run
"""
    parts = [as_yaml({key: raw[key]}, width=80) if key != "judge" else judge for key in raw]
    return "".join(parts)


def _labels_text(
    starter: Starter, dataset: Dataset, names: list[str], aliases: Mapping[str, Sequence[str]]
) -> str:
    told = f"{PLACEHOLDER} {starter.told}"
    labels: dict[str, Any] = {
        name: {"definition": told.format(name=name), "examples": []} for name in names
    }
    for name, others in aliases.items():
        labels[name]["aliases"] = list(others)
    spelled = {other: name for name, others in aliases.items() for other in others}
    shown = starter.examples(dataset, names, spelled)
    for name, texts in shown.examples.items():
        labels[name]["examples"] = list(texts)
    for name, texts in shown.near_misses.items():
        labels[name]["not"] = list(texts)
    header = "# What each label means, in the words the judge will read.\n"
    if any(shown.examples.values()):
        header += (
            "# The examples are rows of the data that carry the label now and that a quick\n"
            "# model of words would label so too, and under `not` the one of another label\n"
            "# that is most like it; keep those that are right. No item is shown as its own\n"
            "# example.\n"
        )
    header += "".join(f"# {line}\n" for line in starter.asks)
    body = {"instruction": starter.instruction, "labels": labels}
    return header + as_yaml(body, width=96)
