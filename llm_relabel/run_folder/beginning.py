"""What a run was started with, and what is said where it no longer fits."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import Job

# Hashes, whose values tell a person nothing.
_IN_WORDS = {
    "data": "the data file holds something else than before",
    "prompt": "the prompt template or what it is filled with changed",
}
_NAMED = 10


def what_changed(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    definitions: tuple[LabelDefinitions | None, LabelDefinitions],
) -> list[str]:
    """Each difference between two identities (see `Prepared.identity`) in words.

    `definitions`: those that the run began with, None where it did not keep them, and today's.
    """
    names = [name for name, value in now.items() if before.get(name) != value]
    if "definitions" in names:
        names = [name for name in names if name != "prompt"]  # which holds the definitions
    told = list[str]()
    for name in names:
        if name == "definitions":
            told += _changed_definitions(*definitions)
        elif name in _IN_WORDS:
            told.append(_IN_WORDS[name])
        else:
            told.append(f"{name} was {before.get(name)!r} and is {now[name]!r}")
    return told


def how_to_go_on(job: Job, folder: Path, kept_definitions: Path | None) -> str:
    """What a person can do about it.

    `kept_definitions`: the file of those that the run began with, where they are what changed.
    """
    file = "JOB" if job.file is None else shlex.quote(str(job.file))
    again = shlex.quote(f"output={_free(job, folder)}")
    ways = [
        f"`llm-relabel run {file} --set {again}` starts a new run, in which every answer to an "
        "unchanged prompt comes from the cache"
    ]
    if kept_definitions is not None:
        gold = "" if job.data.gold is not None else " --gold TRUSTED_LABELS"
        kept = shlex.quote(str(kept_definitions))
        ways.append(
            f"`llm-relabel eval {file}{gold} --prompt {kept}` holds the old and the new "
            "definitions against trusted labels"
        )
    return "; ".join([*ways, "or undo the change to go on with this run"])


def _changed_definitions(before: LabelDefinitions | None, now: LabelDefinitions) -> list[str]:
    if before is None:
        return ["the label definitions changed"]
    old, new = before.labels, now.labels
    found = {
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "new": [name for name in new if name not in old],
        "gone": [name for name in old if name not in new],
    }
    told = [
        f"the definition{'s' * (len(names) > 1)} of {_listed(names)} "
        f"{'is' if len(names) == 1 else 'are'} {what}"
        for what, names in found.items()
        if names
    ]
    if before.instruction != now.instruction:
        told.append("the instruction above the definitions is changed")
    return told or ["the definitions stand in another order, which is the order of the classes"]


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _free(job: Job, folder: Path) -> str:
    """An `output` beside this one that is not there yet."""
    number = 2
    while folder.with_name(f"{folder.name}-{number}").exists():
        number += 1
    return f"{job.output.rstrip('/')}-{number}"
