"""A run that is killed after so many requests."""

from __future__ import annotations

import time

import forked
import toy
from loopback import LoopbackServer


def start(work: toy.Work, *words: str) -> forked.Process:
    return forked.start("run", str(work.job), *words, folder=work.folder)


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the process under test did not get so far"
        time.sleep(0.01)


def killed_after(work: toy.Work, server: LoopbackServer, requests: int) -> bool:
    """Start the job and kill it once it has made so many requests; whether it still lived."""
    wanted = len(server.requests) + requests
    process = start(work)
    wait_for(lambda: len(server.requests) >= wanted or process.returncode is not None)
    alive = process.returncode is None
    process.kill()
    return alive
