"""The real command line in a process of its own, with short waits and small batches.

A fork server has the SDKs imported already, so that a process under test costs a fraction of
a second and a kill at every step can be tried.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["pytest", "openai", "anthropic", "aiohttp", "pyarrow.dataset", "llm_relabel.cli",
     "llm_relabel.rounds", "llm_relabel.judge.llm", "llm_relabel.judge.batch.openai",
     "llm_relabel.judge.batch.anthropic"]
)  # fmt: skip

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
        said = self.folder / "said.txt"
        process = FORKS.Process(
            target=_main,
            args=(words, self.folder, dict(os.environ), {**QUICK, **self.constants}, said,
                  self.dies_at),
        )  # fmt: skip
        process.start()
        return Running(process, said)

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

    process: BaseProcess
    output: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, seconds: float = 60.0) -> Done:
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"the client did not end: {self.output.read_text()}")
        return Done(self.process.exitcode, self.output.read_text())


def _main(
    words: tuple[str, ...],
    folder: Path,
    env: Mapping[str, str],
    constants: Mapping[str, Any],
    said: Path,
    dies_at: tuple[str, int] | None,
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    for place, value in constants.items():
        module, _, name = place.partition(":")
        thing: Any = import_module(module)
        *path, last = name.split(".")
        for each in path:
            thing = getattr(thing, each)
        setattr(thing, last, value)
    if dies_at is not None:
        _die_at(*dies_at)
    sys.argv = ["llm-relabel", *words]
    import_module("llm_relabel.cli").main()


def _die_at(name: str, line: int) -> None:
    """Kill this process right after it has appended so many lines to one journal."""
    journal = import_module("llm_relabel.journal").Journal
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
