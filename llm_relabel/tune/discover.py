"""A taxonomy out of texts that have no labels: groups, the words that tell them, texts to look at.

It is a report and a file to edit: what the labels are, people decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel.config.definitions import PLACEHOLDER, as_yaml
from llm_relabel.config.job import DataSection
from llm_relabel.data.locate import open_source
from llm_relabel.data.problems import Problems
from llm_relabel.data.source import is_missing
from llm_relabel.errors import DataError, JobError
from llm_relabel.files.cache_store import cache_folder
from llm_relabel.files.journal import write_whole
from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.progress import Progress
from llm_relabel.tune.draft import telling_words
from llm_relabel.tune.pool import LONGEST, Pool

FILE = "labels.discovered.yaml"
ROWS = 5000  # texts that are looked at, evenly over the data
FEWEST = 5  # of a group, on average
WORDS, EXAMPLES = 5, 3
# A group is loose where its texts are less like its middle than this (mean cosine).
LOOSE = 0.45


def discover(
    data: str, columns: Mapping[str, Any], groups: int, folder: Path, progress: Progress
) -> str:
    """Write labels.discovered.yaml with so many groups; what was found, in words.

    Raises DataError, and JobError where there are too few texts.
    """
    target = folder / FILE
    if target.exists():
        raise JobError(f"{str(target)!r} exists and is not overwritten; name another --output")
    texts = _texts(data, columns)
    if len(texts) < FEWEST * groups:
        raise JobError(
            f"{len(texts):,} different texts are too few for {groups} groups; {FEWEST} a group are "
            "the least"
        )
    with progress.step(f"{len(texts):,} texts as vectors") as step:
        vectors = Encoder("embedded", cache=cache_folder()).embed(texts, step)
    found = _grouped(texts, vectors, groups)
    labels, told = {}, list[str]()
    for name, pool in found.items():
        mine = pool.of(name)
        near = float((pool.vectors[mine] @ pool.centre(name)).mean())
        examples = [text for text in pool.exemplars(name, EXAMPLES) if len(text) <= LONGEST]
        labels[name] = {
            "definition": f"{PLACEHOLDER} what these have in common and the other groups have not.",
            "examples": examples,
        }
        loose = "; loosely alike, perhaps several things" if near < LOOSE else ""
        told.append(f"{name}: {len(mine):,} texts ({len(mine) / len(texts):.0%}){loose}")
        told += [f"    {' '.join(text.split())[:100]}" for text in pool.exemplars(name, EXAMPLES)]
    header = (
        f"# {groups} groups of {len(texts):,} texts without labels, by their likeness. The names\n"
        "# are words that tell a group from the others: rename, join, part, and write what each\n"
        "# means.\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(target, (header + as_yaml({"labels": labels}, width=96)).encode())
    told.append(f"Wrote {target}. People decide what the labels are; nothing was labeled.")
    return "\n".join(told)


def _texts(data: str, columns: Mapping[str, Any]) -> list[str]:
    """Different texts, evenly drawn."""
    given = {name: value for name, value in columns.items() if value}
    text = list(given.pop("text"))
    given.pop("label", None)
    section = DataSection(path=data, text=tuple(text), label=text[0], **given)
    source = open_source(section, lambda path: Path(path).expanduser().resolve())
    problems, found = Problems(source.unit), dict[str, None]()
    for batch in source.batches(text, problems):
        for cells in zip(*(batch.cells[name] for name in text), strict=True):
            found["\n".join(str(cell) for cell in cells if not is_missing(cell))] = None
    if absent := [name for name in text if name not in source.columns()]:
        raise DataError(
            f"{data!r} has no column {absent[0]!r}; it has {', '.join(source.columns())}"
        )
    problems.check(source.name)
    every = [each for each in found if each.strip()]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(ROWS, len(every))).astype(int))
    return [every[place] for place in chosen.tolist()] if every else []


def _grouped(texts: list[str], vectors: Any, groups: int) -> dict[str, Pool]:
    """The pool by each group's name, the largest group first."""
    from sklearn.cluster import KMeans

    numbers = KMeans(groups, n_init=4, random_state=0).fit(vectors).labels_
    order = np.argsort(-np.bincount(numbers, minlength=groups), kind="stable")
    rank = np.empty(groups, dtype=np.int64)
    rank[order] = np.arange(groups)
    plain = np.array([f"group {rank[number] + 1}" for number in numbers.tolist()], dtype=object)
    pool = Pool(tuple(texts), plain, np.asarray(vectors, dtype=np.float32))
    named: dict[str, str] = {}
    for place in range(groups):
        name = f"group {place + 1}"
        words = telling_words(pool, name)[:WORDS]
        title = "_".join(words[:2]) or name.replace(" ", "_")
        named[name] = title if title not in named.values() else f"{title}_{place + 1}"
    names = np.array([named[name] for name in plain.tolist()], dtype=object)
    whole = Pool(pool.texts, names, pool.vectors)
    return dict.fromkeys(named.values(), whole)
