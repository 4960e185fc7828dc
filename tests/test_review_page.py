"""The review page in a real headless Chromium, its server a real process that is really killed."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import toy
import yaml
from page_checks import is_light, serious_faults
from pages import SCHEMES, WIDTHS
from review_pages import EVIL, KEY_OF, Server, Tab, row_of
from reviewing import answered, many, reviewable

from llm_relabel.review import draw_sample
from llm_relabel.review.server import serve


def test_fifty_items_by_keys_reloaded_and_killed_half_way(work: toy.Work, context: Any) -> None:
    review = reviewable(work, 50)
    with Server(work, "--reviewer", "Zoë") as server:
        assert "0 of 50 items are answered by Zoë" in server.told
        tab = Tab(context, server.url)
        seen = []
        for _ in range(25):
            seen.append(tab.item)
            tab.press(KEY_OF[toy.truth(row_of(tab.item))])
            # The answer is in the journal before the next item is there.
            assert len(review.folder.lines()) == len(seen)
        half = tab.item
        tab.page.reload()
        tab.wait()
        assert tab.item == half
        assert tab.text("count") == "25 of 50 answered"
        tab.press("u", "u")
        assert tab.item == seen[-2]
        assert f"You had said: {toy.truth(row_of(seen[-2]))}" in tab.text("was")
        assert tab.text("count") == "23 of 50 answered"
        tab.page.reload()
        tab.wait()
        assert tab.text("count") == "23 of 50 answered"
        server.kill()
        tab.press("1")
        assert "Not saved: the server does not answer" in tab.text("told")
        assert tab.text("count") == "23 of 50 answered"
    with Server(work, "--reviewer", "Zoë") as server:
        assert "23 of 50 items are answered" in server.told
        tab = Tab(context, server.url)
        skipped = tab.item
        tab.press("s")
        assert tab.item != skipped
        unsure = tab.item
        tab.press("n")
        tab.page.keyboard.type("12 us ?")  # keys of labels and actions are text here
        tab.press("Escape", "?")
        for _ in range(25):
            tab.press(KEY_OF[toy.truth(row_of(tab.item))])
        assert tab.item == skipped
        assert tab.text("count") == "49 of 50 answered, 1 skipped"
        tab.press("s")
        assert tab.item == skipped
        assert "Only skipped items are left" in tab.text("told")
        tab.press("1")
        assert "All 50 items are answered" in tab.text("fields")
        assert [c for c in tab.complaints if "409" not in c] == []
        assert server.interrupt() == 130
    found = answered(review)
    expected = {i: toy.truth(int(i[1:])) for i in review.asked_ids()}
    expected |= {f"i{row_of(unsure)}": None, f"i{row_of(skipped)}": "fruit"}
    assert found == expected
    notes = {line["id"]: line["note"] for line in review.folder.lines() if "note" in line}
    assert notes == {f"i{row_of(unsure)}": "12 us ?"}
    assert sum(bool(line.get("undo")) for line in review.folder.lines()) == 2


def test_two_tabs_and_another_reviewer(work: toy.Work, context: Any) -> None:
    review = reviewable(work, 20)
    with Server(work) as server, Server(work, "--reviewer", "bob") as other:
        one, two = Tab(context, server.url), Tab(context, server.url)
        first = one.item
        assert two.item == first
        one.press("1")
        two.press("2")  # of an item that the first tab answered meanwhile
        assert "changed in another tab" in two.text("told")
        assert two.item == one.item != first
        assert [line["answer"] for line in review.folder.lines()] == ["fruit"]
        two.press("2")
        one.page.bring_to_front()
        one.page.evaluate("dispatchEvent(new Event('focus'))")
        one.wait()
        assert one.item == two.item
        third = Tab(context, other.url)
        assert third.text("count") == "0 of 20 answered"
        draw_sample(review, 5)  # while they review
        third.press("3")
        assert third.text("count") == "1 of 25 answered"
        assert third.complaints == []
    assert len(review.folder.lines()) == 3
    assert set(answered(review).values()) == {None, "tool"}  # fruit against animal is a tie


def test_keys_that_are_held_and_notes_half_written(work: toy.Work, context: Any) -> None:
    review = reviewable(work, 20)
    with Server(work) as server:
        tab = Tab(context, server.url)
        tab.page.keyboard.down("1")
        tab.page.keyboard.down("1")  # what a held key sends: the same, as a repeat
        tab.page.keyboard.up("1")
        tab.wait()
        assert len(review.folder.lines()) == 1
        tab.press("Control+1", "x", "4", "0", "Enter")
        assert len(review.folder.lines()) == 1
        tab.press("n")
        tab.page.keyboard.type("half a thou")
        tab.page.reload()
        tab.wait()
        assert tab.page.locator("#note").input_value() == "half a thou"
        # A second press before the first is saved answers nothing more.
        tab.page.evaluate(
            "for (const key of '22')"
            " document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
        )
        tab.wait()
        assert [line.get("note") for line in review.folder.lines()] == [None, "half a thou"]


def test_sets_of_labels_by_keys_and_by_the_filter(work: toy.Work, context: Any) -> None:
    """77 classes: more than there are keys."""
    names = [*toy.NAMES, *(f"kind {number}" for number in range(74))]
    labels = {name: f"The text is about a {name}." for name in names}
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}, sort_keys=False))
    work_probs = [{"id": f"i{row}", "pred_probs": [0.9] + [0.01] * 76} for row in range(toy.ROWS)]
    original = work.write_lines
    work.write_lines = lambda name, rows: original(  # type: ignore[method-assign]
        name, work_probs if name == "predictions.jsonl" else rows
    )
    review = many(work)
    ids = review.asked_ids()
    with Server(work) as server:
        tab = Tab(context, server.url)
        tab.press("Enter")
        assert "Nothing is chosen" in tab.text("told")
        tab.press("1", "3", "1", "2", "Enter")  # fruit is taken out again
        tab.press("/")
        tab.page.keyboard.type("kind 73")
        tab.press("Enter", "Enter")
        tab.press("/")
        tab.page.keyboard.type("7 kind")
        tab.press("ArrowDown", "Enter", "Enter", "0", "?")
        tab.press("/")
        tab.page.keyboard.type("no such")
        assert tab.page.locator("#no-match").is_visible()
        tab.press("Enter", "Escape")
        assert tab.page.locator("#labels > li:visible").count() == 77
        tab.press("u")
    found = answered(review)
    assert [found.get(item, "open") for item in ids[:5]] == [
        ("tool", "animal"), ("kind 73",), ("kind 17",), (), "open"
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_is_quiet_accessible_and_safe(
    browser: Any, work: toy.Work, tmp_path: Path, width: int, scheme: str
) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row in rows:
        row["text"] = f"{EVIL} {{{{ 7*7 }}}} {row['text']} " + "x" * 300
    work.write_rows(rows)
    labels = {
        name: {"definition": f"{EVIL} {name}", "examples": [EVIL, "an example"], "not": ["none"]}
        for name in toy.NAMES
    }
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}, sort_keys=False))
    reviewable(work, 20)
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    with Server(work) as server:
        tab = Tab(context, server.url)
        tab.press("n")
        tab.page.locator("summary").first.click()
        picture = tmp_path / "page.png"
        tab.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 20_000
        assert EVIL in tab.item
        assert "an example" in tab.page.locator("details").first.inner_text()
        assert tab.page.title() == "Spot-checks"
        assert tab.page.locator("main img, main script").count() == 0
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.page.evaluate(wide) <= 0
        assert tab.complaints == []
        assert all(url.startswith(server.url) for url in tab.requests)
        assert is_light(tab.page) == (scheme == "light")
        assert serious_faults(tab.page) == []
    context.close()


def test_the_server_answers_its_own_page_only(work: toy.Work) -> None:
    review = reviewable(work, 20)
    item = review.asked_ids()[0]
    with Server(work) as server, httpx.Client() as client:
        host = server.url.split("/")[2]
        root = f"http://{host}"
        page = client.get(server.url)
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        for path in ("/", "/setup", f"/{'x' * 32}/", f"/{'x' * 32}/setup"):
            missing = client.get(root + path)
            assert missing.status_code == 404
            assert "default-src 'none'" in missing.headers["Content-Security-Policy"]
        assert client.get(f"{server.url}../../page/review.js").status_code == 404
        assert client.get(f"{server.url}review.py").status_code == 404
        said = {"id": item, "seen": 0, "answer": "tool"}
        foreign = {"Host": "evil.example", "Origin": f"{root}"}
        assert client.get(server.url, headers={"Host": "evil.example"}).status_code == 403
        for headers in (foreign, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            assert client.post(f"{server.url}answer", json=said, headers=headers).status_code == 403
        form = client.post(f"{server.url}answer", content=json.dumps(said))
        assert form.status_code == 415
        for wrong, told in (
            ({"id": "nobody"}, "under review"), ({"answer": "spade"}, "not one of the defined"),
            ({"answer": None}, "not one of the defined"), ({"note": "x" * 10_001}, "10,000"),
            ({"note": 3}, "10,000"), ({"id": None}, "under review"),
        ):  # fmt: skip
            refused = client.post(f"{server.url}answer", json={**said, **wrong})
            assert refused.status_code == 400
            assert told in refused.json()["error"]
        for body in ("[]", "nonsense", "[" * 50_000):
            sent = client.post(
                f"{server.url}answer", content=body, headers={"Content-Type": "application/json"}
            )
            assert sent.status_code == 400
        assert client.post(f"{server.url}answer", json={**said, "seen": 1}).status_code == 409
        assert not review.folder.answers_path.exists()
        everything = client.get(f"{server.url}setup").json()
        shown = client.post(f"{server.url}next", json={}).json()
        # Blind: nothing but the item's own text, and what all labels mean.
        assert set(shown["item"]) == {"id", "seen", "fields"}
        assert shown["item"]["fields"] == [["text", toy.text(int(item[1:]))]]
        names = {"title", "reviewer", "exclusive", "widget", "instruction", "labels"}
        assert set(everything) == names
        port = int(host.split(":")[1])
        with socket.create_connection(("127.0.0.1", port)):
            taken = work.run("review", "serve", "run", "--port", str(port))
        assert taken.returncode == 2
        assert "name another with --port" in taken.stderr
        # Another address of this machine: the server listens on one, not on all.
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=5)


class Enough(Exception):
    """The address was told and tried."""


def test_the_page_answers_when_its_address_is_told(work: toy.Work) -> None:
    reviewable(work, 20)

    def tell(said: str) -> None:
        port = int(re.search(r"127\.0\.0\.1:(\d+)", said)[1])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        raise Enough

    with pytest.raises(Enough):
        serve(work.run_folder, "Ann", 0, tell)
