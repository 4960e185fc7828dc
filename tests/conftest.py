"""Every test has its own cache and no keys, and cannot reach a network it did not start."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import toy
from hypothesis import settings

# The tests run one to a core; each with as many threads would only stand in the others' way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test run started in the background inherits an ignored SIGINT, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes its time over an example, and that says nothing about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLM_RELABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1")):
            raise AssertionError(f"a test tried to reach {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def work(tmp_path: Path) -> toy.Work:
    return toy.Work(tmp_path)
