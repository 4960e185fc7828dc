"""The browser, and the looks in which pages are checked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real headless Chromium, where the machine has one."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
        "google-chrome")  # fmt: skip
    if path is None:
        pytest.skip("no Chromium on this machine; `make browser` installs one where it can")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()
