"""Spans that people mark: the page by keys and by mouse, Label Studio, JSON lines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from page_checks import is_light, serious_faults
from pages import SCHEMES, WIDTHS
from review_pages import Server, Tab
from tagged import ROWS, Tagged, entities, given, placed, text

from llm_relabel.errors import DataError
from llm_relabel.review import Questions, Review, draw_sample, export_items, import_answers


@pytest.fixture
def work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tagged:
    monkeypatch.chdir(tmp_path)
    made = Tagged(tmp_path, capsys)
    made.write_job(rounds=1)
    made.call("run", "job.yaml")
    return made


def drawn(work: Tagged, size: int = 12) -> Review:
    review = Review(work.run_folder)
    draw_sample(review, size)
    return review


def row_of(words: str) -> int:
    return int(re.search(r"number (\d+)", words)[1])


def said(review: Review) -> dict[str, Any]:
    return {line["id"]: line["answer"] for line in review.folder.lines() if "answer" in line}


def right(row: int) -> list[dict[str, Any]]:
    return [
        {**span, "text": text(row)[span["start"] : span["end"]]}
        for span in placed(row, entities(row))
    ]


def mark_by_keys(tab: Tab, row: int) -> None:
    """Arrows to the entity, shift over its words, the key of its type."""
    at = 0
    words = re.findall(r"\w+|[^\w\s]", text(row))
    for name, kind in entities(row):
        own = name.split(" ")
        first = next(n for n in range(len(words)) if words[n : n + len(own)] == own)
        tab.press(*["ArrowRight"] * (first - at), *["Shift+ArrowRight"] * (len(own) - 1))
        tab.press({"LOC": "1", "PER": "2"}[kind])
        at = first + len(own)


def test_marking_by_keys_and_mouse(work: Tagged, context: Any) -> None:
    review = drawn(work)
    with Server(work, "--reviewer", "Zoë") as server:
        tab = Tab(context, server.url)
        for number in range(12):
            row = row_of(tab.item)
            if not entities(row):
                tab.press("Enter")
                assert "Press 0 where there is no entity" in tab.text("told")
                tab.press("0")
            elif number % 2:
                mark_by_keys(tab, row)
                told = tab.text("marks")
                assert all(name in told and kind in told for name, kind in entities(row))
                tab.press("Enter")
            else:
                for name, kind in entities(row):
                    own = [
                        tab.page.locator("#marked .word", has_text=re.compile(f"^{word}$"))
                        for word in name.split(" ")
                    ]
                    own[0].hover()
                    tab.page.mouse.down()
                    own[-1].hover()
                    tab.page.mouse.up()
                    tab.page.locator(f"#labels button[value={kind}]").click()
                tab.press("Enter")
            assert len(review.folder.lines()) == number + 1
        assert "All 12 items are answered" in tab.text("fields")
        tab.press("u")
        row = row_of(tab.item)
        if entities(row):
            assert entities(row)[0][0] in tab.text("was")
            assert entities(row)[0][0] in tab.text("marks")
            # A mark is taken away, and the others stay.
            tab.press("Home", *["ArrowRight"] * 3, "Backspace")
            assert entities(row)[0][0] not in tab.text("marks")
        assert not tab.complaints
    found = said(review)
    assert found == {i: right(int(i[1:])) for i in review.asked_ids()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_holds_in_every_width_and_scheme(
    work: Tagged, context: Any, scheme: str, width: int
) -> None:
    drawn(work, 8)
    with Server(work, "--reviewer", "Zoë") as server:
        tab = Tab(context, server.url)
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.page.emulate_media(color_scheme=scheme)
        tab.press("1", "2")
        assert is_light(tab.page) == (scheme == "light")
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.page.evaluate(over) == 0
        assert serious_faults(tab.page) == []
        assert not tab.complaints


def test_people_as_the_judge_see_candidates(work: Tagged, context: Any) -> None:
    work.write_job(rounds=1, judge={"model": "people"}, output="asked")
    with pytest.raises(Exception, match="review serve"):
        work.call("run", "job.yaml")
    with Server(work, "--reviewer", "Zoë", run="asked") as server:
        tab = Tab(context, server.url)
        button = tab.page.locator("#candidates button").first
        shown = button.inner_text()
        button.click()
        assert shown == "no entity" or shown in tab.text("marks")
        row = row_of(tab.item)
        tab.press("0")
        assert said(Questions(work.folder / "asked"))[f"i{row}"] == []


def test_label_studio_and_back(work: Tagged, tmp_path: Path) -> None:
    review = drawn(work, 8)
    export_items(review, tmp_path / "items.json", "label-studio")
    config = (tmp_path / "items.config.xml").read_text()
    assert '<Labels name="answer" toName="field_1">' in config
    assert '<Label value="PER"' in config
    tasks = json.loads((tmp_path / "items.json").read_text())
    for number, task in enumerate(tasks, start=1):
        row = int(task["data"]["item_id"][1:])
        marked = [
            {"from_name": "answer", "to_name": "field_1", "type": "labels", "id": str(n),
             "value": {"start": s["start"], "end": s["end"], "text": s["text"],
                       "labels": [s["type"]]}}
            for n, s in enumerate(right(row))
        ]  # fmt: skip
        none = {"from_name": "otherwise", "to_name": "field_1", "type": "choices",
                "value": {"choices": ["no label applies"]}}  # fmt: skip
        result = {"result": marked or [none], "completed_by": {"email": "z@x"}}
        task |= {"id": number, "annotations": [result]}
    (tmp_path / "done.json").write_text(json.dumps(tasks))
    made = import_answers(review, tmp_path / "done.json")
    assert made.new == 8
    assert all(answer == right(int(i[1:])) for i, answer in said(review).items())


def test_json_lines_and_what_cannot_be_a_span(work: Tagged, tmp_path: Path) -> None:
    review = drawn(work, 8)
    told = export_items(review, tmp_path / "items.jsonl")
    assert "a list of spans" in told
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    for line in lines:
        line["answer"] = placed(int(line["id"][1:]), entities(int(line["id"][1:])))
    good = "".join(json.dumps(line) + "\n" for line in lines)
    lines[0]["answer"] = [{"start": 0, "end": 3, "type": "PER"}]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="begins or ends inside a word"):
        import_answers(review, tmp_path / "bad.jsonl", "Zoë")
    assert not said(review)
    (tmp_path / "good.jsonl").write_text(good)
    assert import_answers(review, tmp_path / "good.jsonl", "Zoë").new == 8
    assert all(answer == right(int(i[1:])) for i, answer in said(review).items())
    for kind in ("csv", "argilla"):
        with pytest.raises(DataError, match="mark them on the page"):
            export_items(review, tmp_path / f"items.{kind}", kind)


def test_spot_checks_choose_the_policy_and_certify(work: Tagged, tmp_path: Path) -> None:
    """A judge that is right and that nobody believes: 40 looks tell, and the rest follows."""
    lying = [{"id": f"i{row}", "spans": [{**span, "prob": 0.9} for span in placed(row, given(row))]}
             for row in range(ROWS)]  # fmt: skip
    work.write_lines("predictions.jsonl", lying)
    work.write_job(rounds=1, output="told", detect={"quality": 0.999})
    work.call("run", "job.yaml")
    before = json.loads((work.folder / "told" / "summary.json").read_text())["gold"]
    review = Review(work.folder / "told")
    draw_sample(review, 40)
    export_items(review, tmp_path / "items.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    for line in lines:
        line["answer"] = placed(int(line["id"][1:]), entities(int(line["id"][1:])))
    work.write_lines("done.jsonl", lines)
    import_answers(review, work.folder / "done.jsonl", "Zoë")
    work.call("run", "job.yaml")
    summary = json.loads((work.folder / "told" / "summary.json").read_text())
    assert summary["gold"]["labels_after"] > before["labels_after"]
    assert summary["gold"]["labels_after"] > 0.98
    checks = summary["spot_checks"]
    assert checks["estimates"][checks["policy"]] == max(checks["estimates"].values())
    assert checks["certificate"]["label_accuracy"]["low"] > 0.7
    assert "spot-check" in work.call("report", "told").lower()


@pytest.mark.parametrize("form", ["triples", "entities"])
def test_doccano_and_back(work: Tagged, tmp_path: Path, form: str) -> None:
    review = drawn(work, 8)
    export_items(review, tmp_path / "items.jsonl", "doccano")
    types = [each["text"] for each in json.loads((tmp_path / "items.labels.json").read_text())]
    assert types == ["LOC", "PER", "unsure", "no label applies"]
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    done, ids = [], [row["item_id"] for row in rows]
    for number, row in enumerate(rows):
        spans = right(int(row["item_id"][1:])) or [
            {"start": 0, "end": 6, "type": "no label applies"}
        ]
        if number == 7:
            spans = [{"start": 0, "end": 6, "type": "unsure"}]
        if number == 6:
            spans = []
        if form == "triples":  # what is no column of doccano's own stands beside them, or in `meta`
            label = [[s["start"], s["end"], s["type"]] for s in spans]
            done.append({"id": number + 90, "text": row["text"], "label": label, "Comments": [],
                         "meta": {"item_id": row["item_id"]}})  # fmt: skip
        else:
            entities_ = [{"id": n, "label": s["type"], "start_offset": s["start"],
                          "end_offset": s["end"]} for n, s in enumerate(spans)]  # fmt: skip
            done.append(
                {**row, "id": number, "label": None, "entities": entities_, "relations": []}
            )
    (tmp_path / "done.jsonl").write_text("".join(json.dumps(row) + "\n" for row in done))
    with pytest.raises(DataError, match="name the person with --reviewer"):
        import_answers(review, tmp_path / "done.jsonl")
    made = import_answers(review, tmp_path / "done.jsonl", "Zoë")
    assert (made.new, made.empty) == (7, 1)
    assert said(review) == {i: right(int(i[1:])) for i in ids[:6]}
    assert [line["id"] for line in review.folder.lines() if line.get("unsure")] == [ids[7]]
    lost = [{k: v for k, v in row.items() if k not in ("meta", "item_id")} for row in done]
    (tmp_path / "lost.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lost))
    with pytest.raises(DataError, match=r"none of the formats.*item_id"):
        import_answers(review, tmp_path / "lost.jsonl", "Zoë")
