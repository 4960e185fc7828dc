"""The real command line in a process of its own, with short waits and small batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import forked

BATCH = "llm_relabel.judge.batch."
QUICK = {
    f"{BATCH}waits:FIRST_WAIT": 0.005,
    f"{BATCH}waits:LONGEST_WAIT": 0.02,
    f"{BATCH}search:SETTLE": 0.05,
    f"{BATCH}cancel:FIRST_WAIT": 0.01,
}
"""Waits in seconds, by module and constant."""


@dataclass
class Client:
    """Starts `llm-relabel` in a folder. `constants` are set in it, beside those of QUICK."""

    folder: Path
    constants: dict[str, Any] = field(default_factory=dict)
    dies_at: tuple[str, int] | None = None
    """A journal's file name, or a pattern of it, and the line from 1 that is the last written."""

    def start(self, *words: str) -> Running:
        prepare = partial(_prepare, {**QUICK, **self.constants}, self.dies_at)
        return Running(forked.start(*words, folder=self.folder, prepare=prepare))

    def run(self, *words: str) -> Done:
        return self.start(*words).wait()


@dataclass(frozen=True)
class Done:
    """`code` is the exit code, negative for a signal; `said` is stdout and stderr."""

    code: int
    said: str


@dataclass(frozen=True)
class Running:
    """A process under way."""

    process: forked.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self) -> Done:
        ended = self.process.wait()
        return Done(ended.returncode, ended.stdout + ended.stderr)


def _prepare(constants: Mapping[str, Any], dies_at: tuple[str, int] | None) -> None:
    for place, value in constants.items():
        module, _, name = place.partition(":")
        thing: Any = import_module(module)
        *path, last = name.split(".")
        for each in path:
            thing = getattr(thing, each)
        setattr(thing, last, value)
    if dies_at is not None:
        _die_at(*dies_at)


def _die_at(name: str, line: int) -> None:
    """Kill this process right after it has appended so many lines to one journal."""
    journal = import_module("llm_relabel.files.journal").Journal
    left = line

    def counted(append: Any) -> Any:
        def appending(self: Any, record: Any) -> None:
            nonlocal left
            append(self, record)
            left -= fnmatch(self.path.name, name)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return appending

    journal.append, journal.append_json = counted(journal.append), counted(journal.append_json)
