"""The review page in a browser, with its server."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import toy

KEY_OF = {name: str(place) for place, name in enumerate(toy.NAMES, start=1)}
EVIL = "<script>document.title='in'</script><img src='http://127.0.0.1:9/x' onerror='x()'>"


class Server:
    """`llm-relabel review serve` in a process of its own."""

    def __init__(self, work: toy.Work, *words: str, run: str = "run") -> None:
        self._process = subprocess.Popen(
            work.command("review", "serve", run, *words), cwd=work.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.told = ""
        while "Ctrl-C" not in self.told:
            line = self._process.stdout.readline()
            assert line, self._process.stderr.read()
            self.told += line
        self.url = re.search(r"http://\S+", self.told)[0]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(30)


class Tab:
    """The page in a tab, driven by keys."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.wait()

    def wait(self) -> None:
        # No function may be sent to the page to wait for: its policy lets none be evaluated.
        self.page.wait_for_selector("body:not([aria-busy])")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.wait()

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").inner_text()

    @property
    def item(self) -> str:
        return self.page.locator("#fields p").first.inner_text()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    opened = browser.new_context()
    yield opened
    opened.close()


def row_of(text: str) -> int:
    return int(re.findall(r"\d+", text)[0])
