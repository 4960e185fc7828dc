"""A run opened for review: its data and definitions, and what of them a reviewer may see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_relabel.errors import JobError, RunError
from llm_relabel.job import make_job
from llm_relabel.preparation import prepare
from llm_relabel.review.journals import ReviewFolder
from llm_relabel.runs import RunFolder

LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reviewer sees of an item: `fields` maps column name to text, and nothing else."""

    id: str
    fields: Mapping[str, str]


class Review:
    """One run under review."""

    def __init__(self, path: Path) -> None:
        """Reads the run's data. Raises RunError when `path` is no run folder, RunChanged when
        data or definitions are not those that the run began with."""
        self.run = RunFolder(path)
        raw = self.run.job()
        raw.pop("hashes")
        self.job = make_job(raw, folder=Path(raw.pop("folder")), where=str(path / "job.yaml"))
        self.prepared = prepare(self.job)
        self.run.check(self.prepared.identity())
        self.task = self.prepared.task
        self.folder = ReviewFolder(self.run)

    def asked_ids(self) -> list[str]:
        """The ids of all items asked about, mixed: nothing in the order tells why one is in."""
        found = self.folder.asked()
        if not found:
            raise RunError(
                f"no item of {str(self.run.path)!r} is to be reviewed yet; draw some with "
                f"`llm-relabel review sample {self.run.path}`"
            )
        return sorted(found, key=self._mixed)

    def shown(self, ids: Iterable[str]) -> list[Shown]:
        """These items as a reviewer sees them, in the order of `ids`."""
        wanted = list(ids)
        dataset = self.prepared.dataset
        rows = pc.index_in(pa.array(wanted, pa.string()), value_set=dataset.ids).to_pylist()
        if None in rows:
            raise RunError(
                f"{str(self.folder.sample_path)!r} names {wanted[rows.index(None)]!r}, which is "
                "not in the data"
            )
        return [Shown(i, dataset.item(row).fields) for i, row in zip(wanted, rows, strict=True)]

    def definitions(self, items: Iterable[Shown]) -> list[dict[str, Any]]:
        """The label definitions for people, in class order.

        An example that is the text of one of `items` is left out: it would give the label away.
        """
        texts = {text.strip() for item in items for text in item.fields.values()}
        texts |= {"\n".join(item.fields.values()).strip() for item in items}

        def others(examples: Iterable[str]) -> list[str]:
            return [text for text in examples if text.strip() not in texts]

        return [
            {
                "name": name,
                "definition": each.definition,
                "examples": others(each.examples),
                "not": others(each.counterexamples),
                "parent": each.parent,
            }
            for name, each in self.prepared.definitions.labels.items()
        ]

    def instruction(self) -> str:
        """What a reviewer is asked to do, in a sentence."""
        words: str = self.task.prompt_constants()["instruction"]
        return words

    def _mixed(self, item_id: str) -> bytes:
        return hashlib.sha256(f"{self.job.seed}/{item_id}".encode(errors="replace")).digest()


def reviewer_name(name: str) -> str:
    """`name` as journals keep it. Raises JobError where it is empty, too long or unprintable."""
    clean = name.strip()
    if not clean or len(clean) > LONGEST_NAME or not clean.isprintable():
        raise JobError(
            f"a reviewer is called {name!r:.150}; a name has 1 to {LONGEST_NAME} printable "
            "characters"
        )
    return clean
