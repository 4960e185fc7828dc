"""Boxes that people draw: the page by mouse and by keys, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from boxed import NAMES, SIZE, Boxed, Placed, check, given, truth
from page_checks import serious_faults
from review_pages import Server, Tab

from llm_relabel.review import Review, draw_sample


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boxed:
    monkeypatch.chdir(tmp_path)
    return Boxed(tmp_path)


def row_of(tab: Tab) -> int:
    return int(tab.page.locator("#picture img").get_attribute("src").removeprefix("picture/p"))


def at(tab: Tab, x: float, y: float) -> tuple[float, float]:
    """A place of the picture on the page."""
    area = tab.page.locator("#picture svg").bounding_box()
    return area["x"] + x / SIZE[0] * area["width"], area["y"] + y / SIZE[1] * area["height"]


def drag(tab: Tab, start: tuple[float, float], end: tuple[float, float]) -> None:
    tab.page.mouse.move(*at(tab, *start))
    tab.page.mouse.down()
    tab.page.mouse.move(*at(tab, *[(a + b) / 2 for a, b in zip(start, end, strict=True)]))
    tab.page.mouse.move(*at(tab, *end))
    tab.page.mouse.up()


def draw(tab: Tab, boxes: list[Placed]) -> None:
    for name, (left, top, right, bottom) in boxes:
        drag(tab, (left, top), (right, bottom))
        tab.press(str(NAMES.index(name) + 1))


def said(review: Review) -> dict[str, Any]:
    return {line["id"]: line["answer"] for line in review.folder.lines() if "answer" in line}


def test_people_judge_by_drawing(work: Boxed, context: Any) -> None:
    work.write_job(judge={"model": "people"})
    work.call("run", "job.yaml", code=3)
    with Server(work) as server:  # type: ignore[arg-type]
        tab = Tab(context, server.url)
        for _ in range(4):
            row = row_of(tab)
            draw(tab, truth(row))
            counts = tab.text("marks")
            assert counts.startswith("Marked: ")
            tab.press("Enter")
        assert "4 of 4 answered" in tab.text("count")
        assert not tab.complaints
        assert all(url.startswith("http://127.0.0.1") for url in tab.requests)
    work.call("run", "job.yaml")
    check(work)


def test_moving_pulling_naming_and_taking_away(work: Boxed, context: Any) -> None:
    work.call("run", "job.yaml")
    review = Review(work.run_folder)
    draw_sample(review, 12)
    with Server(work) as server:  # type: ignore[arg-type]
        tab = Tab(context, server.url)
        tab.press("Enter")
        assert "Press 0 where there is no object" in tab.text("told")
        first, item = row_of(tab), tab.page.locator("#picture img").get_attribute("src")
        drag(tab, (20, 20), (50, 40))
        drag(tab, (30, 30), (40, 35))  # moved by ten and five
        drag(tab, (60, 45), (80, 65))  # its corner pulled
        tab.press("2")
        drag(tab, (100, 80), (140, 110))
        tab.press("Delete")
        drag(tab, (100, 80), (101, 81))  # too small to be meant
        assert tab.text("marks") == "Marked: 1 square"
        # By keys: another one, made smaller, named, and moved to the left edge.
        tab.press("Insert", "1", *["Shift+ArrowLeft"] * 5, *["ArrowLeft"] * 100)
        tab.press(",", ".", "+", "-")
        tab.press("Enter")
        answer = said(review)[item.removeprefix("picture/")]
        (one, *_), boxes = answer, {each["label"]: each["box"] for each in answer}
        assert len(answer) == 2
        assert set(one) >= {"label", "box"}
        assert boxes["square"] == pytest.approx([30, 25, 80, 65], abs=1)
        assert boxes["disc"] == pytest.approx([0, 45, 36, 75], abs=1)
        # Undone, the page shows what was drawn.
        tab.press("u")
        assert row_of(tab) == first
        assert "1 disc" in tab.text("marks")
        assert "1 square" in tab.text("marks")
        assert tab.page.locator("#picture rect").count() == 2
        assert not serious_faults(tab.page)


def test_spot_checks_that_draw_the_same_box_call_it_right(work: Boxed, context: Any) -> None:
    """Nobody draws a box twice alike: one that lies well on the label's own is that one."""
    work.call("run", "job.yaml")
    review = Review(work.run_folder)
    draw_sample(review, 12)
    with Server(work) as server:  # type: ignore[arg-type]
        tab = Tab(context, server.url)
        for _ in range(12):
            draw(
                tab, [(name, (a - 1, b + 1, c, d + 1)) for name, (a, b, c, d) in truth(row_of(tab))]
            )
            tab.press("Enter")
    for row in range(4, 12):
        own = sorted((box["label"], tuple(box["box"])) for box in said(review)[f"p{row}"])
        assert own == sorted((name, tuple(map(float, box))) for name, box in given(row))
    work.call("run", "job.yaml")
    check(work)
    found = json.loads((work.run_folder / "summary.json").read_text())
    assert found["spot_checks"]["answered"] == 12
    assert found["gold"]["labels_after"] == 1.0


def test_what_is_drawn_before_the_picture_comes_is_where_it_seems(
    work: Boxed, context: Any
) -> None:
    work.call("run", "job.yaml")
    review = Review(work.run_folder)
    draw_sample(review, 12)
    context.route("**/picture/**", lambda route: route.abort())
    with Server(work) as server:  # type: ignore[arg-type]
        tab = Tab(context, server.url)
        area = tab.page.locator("#picture svg").bounding_box()
        assert area["width"] / area["height"] == pytest.approx(SIZE[0] / SIZE[1], rel=0.01)
        drag(tab, (20, 30), (60, 70))
        tab.press("Enter")
    ((one,),) = said(review).values()
    assert one["box"] == pytest.approx([20, 30, 60, 70], abs=1)
