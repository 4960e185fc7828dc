"""The manual: one Markdown page a topic, shown by `llm-relabel help` and read on the web.

A page's first line is its heading; it says in one line what the page is about, and lists show
it. `job-file` and `command-line` are written by `make manual`, all others by people.
"""

from __future__ import annotations

from importlib.resources import files

TOPICS = (
    "start",
    "data",
    "labels",
    "tagging",
    "detection",
    "model",
    "judges",
    "policies",
    "overnight",
    "review",
    "people",
    "evaluation",
    "tuning",
    "run-folder",
    "trust",
    "figures",
    "python",
    "job-file",
    "command-line",
)
"""Every page, in the order in which a user needs them."""


def page(topic: str) -> str:
    """The Markdown of one of the TOPICS."""
    return (files(__name__) / f"{topic}.md").read_text(encoding="utf-8")


def heading(topic: str) -> str:
    """What the page is about, in one line."""
    return page(topic).partition("\n")[0].removeprefix("# ")
