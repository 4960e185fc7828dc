"""The report's page in a real headless Chromium: it fits, is quiet, accessible, and safe."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from page_checks import is_light, serious_faults
from pages import SCHEMES, WIDTHS
from report_forms import forms, large

import llm_relabel as lr


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything on it: gold, confidences, many classes, two rounds."""
    folder = tmp_path_factory.mktemp("page")
    work = large(folder, 240, 14)
    lines = (folder / "recorded.jsonl").read_text().splitlines()
    rng = random.Random(1)
    said = [{**json.loads(line), "confidence": round(rng.uniform(0.3, 1), 2)} for line in lines]
    work.write_lines("recorded.jsonl", said[:220])  # the rest abstains as not recorded
    work.write_job(rounds=2)
    lr.relabel(work.job)
    return work.run_folder / "report.html"


class Shown:
    """The page in a context of its own, with what the console said and what was asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.context.close()

    def overflow(self) -> int:
        return int(self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        ))  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_is_quiet_and_accessible(
    browser: Any, page_file: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 900}
    with Shown(browser, page_file, viewport=size, color_scheme=scheme) as shown:
        picture = tmp_path / "page.png"
        shown.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 20_000
        assert shown.overflow() <= 0
        assert shown.complaints == []
        assert shown.requests == [page_file.as_uri()]
        assert is_light(shown.page) == (scheme == "light")
        assert serious_faults(shown.page) == []


def test_without_script_everything_is_shown(browser: Any, page_file: Path) -> None:
    facts, _, _ = forms(page_file.parent)
    with Shown(browser, page_file, java_script_enabled=False) as shown:
        assert shown.page.locator("#changes tbody tr").count() == len(facts["changes"])
        assert shown.page.locator("#changes tbody tr").last.is_visible()
        assert shown.page.locator("#finder").is_hidden()
        assert shown.page.locator("figure svg").count() >= 7
        for heading in ("Headline", "What the run did", "What changed", "The small model",
                        "The most confusable definitions", "Provenance"):  # fmt: skip
            assert shown.page.get_by_role("heading", name=heading, exact=True).is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_search_and_sort_by_keyboard(browser: Any, page_file: Path, width: int) -> None:
    facts, _, _ = forms(page_file.parent)
    wanted = facts["changes"][7]
    with Shown(browser, page_file, viewport={"width": width, "height": 900}) as shown:
        page = shown.page
        rows = page.locator("#changes tbody tr:visible")
        everything = rows.count()
        page.get_by_role("searchbox").focus()
        page.keyboard.type(f"{wanted['id']} {wanted['new']}")
        assert 1 <= rows.count() < everything
        assert all(wanted["id"] in row for row in rows.all_inner_texts())
        assert page.locator("#found").inner_text() == f"{rows.count()} of {everything} shown"
        page.keyboard.press("Escape")
        assert rows.count() == everything
        page.keyboard.press("Tab")  # to the table's scroll area, then its first heading
        page.keyboard.press("Tab")
        for order, reverse in (("ascending", False), ("descending", True)):
            page.keyboard.press("Enter")
            head = page.locator("#changes th").first
            assert head.get_attribute("aria-sort") == order
            first = [text.split("\n")[0] for text in page.locator("#changes td.name")
                     .all_inner_texts()]  # fmt: skip
            numbers = [int(re.findall(r"\d+", name)[0]) for name in first]
            assert numbers == sorted(numbers, reverse=reverse)


def test_the_policy_stops_a_script_that_got_in(
    browser: Any, page_file: Path, tmp_path: Path
) -> None:
    """Should escaping ever fail, nothing runs, and nothing is asked of any server."""
    evil = "<script>document.title='in'</script><img src='http://127.0.0.1:9/x' onerror='x()'>"
    text = page_file.read_text(encoding="utf-8").replace("<h1>", f"{evil}<h1>")
    (tmp_path / "evil.html").write_text(text, encoding="utf-8")
    with Shown(browser, tmp_path / "evil.html") as shown:
        assert shown.page.title().startswith("Relabeling report")
        assert any("Content Security Policy" in complaint for complaint in shown.complaints)
        assert shown.page.locator("#finder").is_visible()  # our own script still runs
