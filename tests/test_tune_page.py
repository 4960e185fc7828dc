"""`tune.html` in a real headless Chromium: it fits, is quiet, safe, and gives the command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from page_checks import is_light, serious_faults
from pages import SCHEMES, WIDTHS

from llm_relabel.tune.writing import as_page

EVIL = "</script><script>alert(1)</script>'; rm -rf ~ #"


def result() -> dict[str, Any]:
    test = {"items": 100, "fixed": 20, "broken": 3, "right_before": 60, "right_after": 77,
            "p": 1e-4, "alpha": 0.025, "look": 1, "lost": 0, "difference": 0.17,
            "interval": [0.08, 0.26],
            "proved": True, "fell": [{"label": "b", "of": 9, "before": 8, "after": 7}]}  # fmt: skip
    return {
        "status": "proved", "told": "proved: on 100 items", "judge": "openai/x", "mode": "locked",
        "prompt": {"before": {"tokens": 90, "dollars_per_1000": 0.1},
                   "after": {"tokens": 120, "dollars_per_1000": 0.2}},
        "calls": {"questions": 400, "calls": 410, "dollars": 0.25},
        "search": {"tried": 7, "ended": "no proposal gained any more"}, "test": test,
        "smallest_provable_gain": 0.12, "advice": [], "suspects": 3,
    }  # fmt: skip


def lines() -> list[dict[str, Any]]:
    select = {"fixed": 9, "broken": 1, "labels": 3}
    shared = {
        "by": "errors",
        "pair": None,
        "evidence": ["i1"],
        "select": select,
        "status": "proved",
    }
    return [
        {"label": name, "field": field, "old": old, "new": new, "why": "it was vague", **shared}
        for name in ("plain", EVIL, "a_very_long_name_of_a_label_that_goes_on_and_on_for_ever")
        for field, old, new in (
            ("definition", "Old words.", f"New words, {EVIL}"), ("examples", [], ["one", EVIL]),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_is_quiet_and_accessible(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    path = tmp_path / "tune.html"
    path.write_text(as_page(result(), lines(), "my job.yaml"), encoding="utf-8")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page, complaints, asked = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert is_light(page) == (scheme == "light")
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(over) == 0
    assert serious_faults(page) == []
    command = page.locator("#command")
    assert "Choose above" in command.inner_text()
    page.locator(".entry").nth(0).get_by_label("Accept").check()
    page.locator(".entry").nth(1).get_by_label("Reject").check()
    words = ["llm-relabel", "tune", "my job.yaml", "--accept", "plain", "--reject", EVIL]
    assert shlex.split(command.inner_text()) == words
    page.locator("#all").click()
    assert shlex.split(command.inner_text()).count("--accept") == 3
    assert asked == [path.as_uri()]
    assert complaints == []
    context.close()
