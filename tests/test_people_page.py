"""People as the judge, in a real headless Chromium: the questions by keys, then the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from page_checks import is_light, serious_faults
from people_answers import say, truths
from review_pages import EVIL, KEY_OF, Server, Tab, row_of

import llm_relabel as lr
from llm_relabel.review import Questions, Review, draw_sample

WRONG = [row for row in range(toy.ROWS) if row % 3 == 0]  # 20 of them


def queued(work: toy.Work, names: tuple[str, ...] = toy.NAMES) -> Questions:
    """Twenty questions that wait for people; the classes are called `names`."""
    labels = {
        name: f"The text is about a {kind}." for name, kind in zip(names, toy.NAMES, strict=True)
    }
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}, sort_keys=False))
    right = [names[toy.NAMES.index(toy.truth(row))] for row in range(toy.ROWS)]
    work.write_rows(
        [{"id": f"i{row}", "text": toy.text(row), "gold": right[row],
          "label": names[(row + 1) % 3] if row in WRONG else right[row]}
         for row in range(toy.ROWS)]
    )  # fmt: skip
    probs = [[0.8 if name == label else 0.1 for name in names] for label in right]
    work.write_lines(
        "predictions.jsonl", [{"id": f"i{n}", "pred_probs": p} for n, p in enumerate(probs)]
    )
    work.write_job(judge={"model": "people"})
    with pytest.raises(lr.Paused, match="20 questions wait for people"):
        lr.relabel(work.job)
    return Questions(work.run_folder)


def candidates(tab: Tab) -> list[str]:
    return [each.inner_text() for each in tab.page.locator("#candidates .name").all()]


def test_twenty_questions_by_keys_reloaded_and_killed_half_way(
    work: toy.Work, context: Any
) -> None:
    review = queued(work)
    shown = {line["id"]: line["candidates"] for line in work.lines("round-1/asks.jsonl")}
    with Server(work, "--reviewer", "Zoë") as server:
        assert "Questions of the judge `people`" in server.told
        tab = Tab(context, server.url)
        assert tab.page.title() == "Questions"
        order = []
        for _ in range(10):
            row = row_of(tab.item)
            order.append(f"i{row}")
            assert candidates(tab) == shown[f"i{row}"]
            tab.press(KEY_OF[toy.truth(row)])
            assert len(review.folder.lines()) == len(order)  # on the disk before the next is shown
        assert order == review.asked_ids()[:10]
        half = tab.item
        tab.page.reload()
        tab.wait()
        assert (tab.item, tab.text("count")) == (half, "10 of 20 answered")
        tab.press("u", "s")
        assert tab.text("count") == "9 of 20 answered, 1 skipped"
        server.kill()
    assert review.folder.waiting() == 11
    with Server(work, "--reviewer", "Zoë") as server:
        assert "9 of 20 items are answered by Zoë" in server.told
        tab = Tab(context, server.url)
        # A candidate is a button, too, and has the key of its label.
        right = toy.truth(row_of(tab.item))
        button = tab.page.locator("#candidates button", has_text=right)
        assert button.locator("kbd").inner_text() == KEY_OF[right]
        button.click()
        tab.wait()
        for _ in range(10):
            tab.press(KEY_OF[toy.truth(row_of(tab.item))])
        assert "All 20 items are answered" in tab.text("fields")
        assert not tab.page.locator("#candidates").is_visible()
        assert tab.complaints == []
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert work.summary["status"] == "done"
    assert work.labels() == [toy.truth(row) for row in range(toy.ROWS)]
    assert {line["blind"] for line in review.folder.lines() if "undo" not in line} == {False}


def test_the_other_ones_are_told_of_and_served_when_chosen(work: toy.Work, context: Any) -> None:
    review = queued(work)
    say(review, truths(review))
    lr.relabel(work.job)
    draw_sample(Review(work.run_folder), 30)
    with Server(work, "--spot-checks") as server:
        assert "Blind spot-checks (--judge serves the judge's questions)" in server.told
        tab = Tab(context, server.url)
        assert tab.page.title() == "Spot-checks"
        assert not tab.page.locator("#candidates").is_visible()
        assert tab.page.locator("#candidates li").count() == 0
        tab.press("1")
    assert len(review.folder.lines()) == 20
    [line] = Review(work.run_folder).folder.lines()
    assert line["blind"]


def test_sets_of_labels_as_candidates(work: toy.Work, context: Any) -> None:
    work.write_rows(
        [{"id": f"i{row}", "text": toy.text(row), "label": ["fruit", "animal"] if row else []}
         for row in range(toy.ROWS)]
    )  # fmt: skip
    work.write_lines(
        "predictions.jsonl",
        [{"id": f"i{row}", "pred_probs": [0.9, 0.1, 0.9] if row % 9 else [0.2, 0.9, 0.1]}
         for row in range(toy.ROWS)],
    )  # fmt: skip
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    work.write_job(judge={"model": "people"}, data=data, rounds=1)
    with pytest.raises(lr.Paused):
        lr.relabel(work.job)
    review = Questions(work.run_folder)
    with Server(work) as server:
        tab = Tab(context, server.url)
        for _ in review.asked_ids():
            empty = row_of(tab.item) == 0
            label = "no label applies" if empty else "fruit"
            tab.page.locator("#candidates button", has_text=label).click()
            tab.wait()
            if not empty:
                pressed = tab.page.locator('#labels [aria-pressed="true"] .name').all_inner_texts()
                assert pressed == ["fruit", "animal"]
                tab.press("Enter")
        assert "are answered" in tab.text("fields")
    said = {line["id"]: line["answer"] for line in review.folder.lines()}
    assert said.pop("i0") == []
    assert set(map(tuple, said.values())) == {("fruit", "animal")}


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_fits_and_is_accessible_with_candidates(
    browser: Any, work: toy.Work, tmp_path: Path, width: int, scheme: str
) -> None:
    long = "a_label_without_any_place_to_break_" * 3
    queued(work, (EVIL, long, "animal"))
    opened = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    with Server(work) as server:
        tab = Tab(opened, server.url)
        picture = tmp_path / f"people-{width}.png"
        tab.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 20_000
        assert EVIL in candidates(tab) or long in candidates(tab)
        assert tab.page.locator("main img, main script").count() == 0
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.page.evaluate(wide) <= 0
        for each in tab.page.locator("#candidates button").all():
            box = each.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        assert is_light(tab.page) == (scheme == "light")
        assert serious_faults(tab.page) == []
        assert tab.complaints == []
    opened.close()
