"""The real command line in a process of its own, forked from one that has imported it already.

A process under test then costs a third of what a new interpreter costs, so many can be started
and killed at every step. What depends on a new interpreter, such as what it reads at start, is
tested with one (`toy.Work.run_anew`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["pytest", "openai", "anthropic", "aiohttp", "pandas", "pyarrow.dataset", "scipy.stats",
     "matplotlib.figure", "matplotlib.backends.backend_svg", "llm_relabel.cli",
     "llm_relabel.engine.run", "llm_relabel.report", "llm_relabel.review", "llm_relabel.evaluation",
     "llm_relabel.judge.llm", "llm_relabel.judge.batch.openai",
     "llm_relabel.judge.batch.anthropic"]
)  # fmt: skip


@dataclass(frozen=True)
class Process:
    """A command under way; `stdout` and `stderr` are the files it writes to."""

    words: tuple[str, ...]
    process: BaseProcess
    stdout: Path
    stderr: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def send_signal(self, which: int) -> None:
        os.kill(self.pid, which)

    def wait(self, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """The end of it, with what it said; line ends are left as they are."""
        self.process.join(seconds)
        if self.returncode is None:
            self.kill()
            raise AssertionError(f"{self.words} did not end: {self.stderr.read_text()}")
        told = [
            path.read_bytes().decode("utf-8", "surrogateescape")
            for path in (self.stdout, self.stderr)
        ]
        rmtree(self.stdout.parent)
        return subprocess.CompletedProcess(self.words, self.returncode, *told)


def start(
    *words: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Process:
    """`llm-relabel` with `words`, in `folder`; `prepare` is called in it first."""
    told = Path(mkdtemp(prefix="told-"))
    process = _FORKS.Process(
        target=_main, args=(words, folder, {**os.environ, **(env or {})}, told, prepare)
    )
    process.start()
    return Process(words, process, told / "stdout", told / "stderr")


def _main(
    words: tuple[str, ...],
    folder: Path,
    env: Mapping[str, str],
    told: Path,
    prepare: Callable[[], None] | None,
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(told / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    if prepare is not None:
        prepare()
    sys.argv = ["llm-relabel", *words]
    import_module("llm_relabel.cli").main()
