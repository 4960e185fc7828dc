"""How a run tells what it is doing: bars on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

# What a terminal obeys instead of showing it: control characters, and what turns a line around.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` for a terminal: what it would obey is written out, such as \\x1b."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


class Step(Protocol):
    """One step under way."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` pieces are finished."""
        ...


class Progress(Protocol):
    """What the rounds speak to."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """A context for one step; it gives the function that reports its pieces."""
        ...

    def note(self, text: str) -> None:
        """One sentence for the user."""
        ...


class Silent:
    """Says nothing: for use from Python."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:  # noqa: ARG002 - the seam names it
        """A step that nobody watches."""
        yield unheard

    def note(self, text: str) -> None:
        """Said to nobody."""


class LogLines:
    """Plain lines with seconds since the start, at most one every `every` seconds a step."""

    def __init__(self, stream: TextIO | None = None, *, every: float = 15.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._start = time.monotonic()
        self._every = every

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step told by its start and, while it lasts, how far it is."""
        self.note(title)
        told = began = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told >= self._every:
                told = time.monotonic()
                self.note(f"{title}: {done:,} of {total:,}{_pace(done, total, told - began)}")

        yield report

    def note(self, text: str) -> None:
        """One line."""
        seconds = time.monotonic() - self._start
        self._stream.write(f"[{seconds:7.1f} s] {visible(text)}\n")
        self._stream.flush()


class Bars:
    """Progress bars on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One bar, which stays when the step is finished."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        with Progress(*columns, console=self._console) as bars:
            bar = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)
            task = bars.tasks[0]
            total = task.total or 1
            bars.update(bar, completed=total, total=total)

    def note(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(visible(text), highlight=False, markup=False)


class Relay:
    """Passes pieces on to the step that is under way: what reports may live longer than a step."""

    def __init__(self) -> None:
        self._step: Step = unheard

    @contextmanager
    def to(self, step: AbstractContextManager[Step]) -> Iterator[None]:
        """Pass on to `step` while it lasts."""
        with step as self._step:
            yield
        self._step = unheard

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` pieces are finished."""
        self._step(done, total)


def _pace(done: int, total: int, seconds: float) -> str:
    """How fast it goes, and how long the rest will take at that."""
    if not done:
        return ""
    rate = done / seconds
    left = (total - done) / rate
    shown = f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min"
    return f", {rate:,.0f} a second, {shown} left" if rate >= 1 else f", {shown} left"


def unheard(done: int, total: int) -> None:
    """Said to nobody."""


def for_stderr() -> Progress:
    """Bars when a person watches, lines otherwise."""
    return Bars() if sys.stderr.isatty() else LogLines()
