"""Object detection through the whole program: the commands, both wires, hostile pictures."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boxed
import numpy as np
import pytest
from boxed import CHANGED, ROWS, Boxed, check, given, truth
from hypothesis import given as given_any
from hypothesis import strategies as st
from kills import killed_after
from loopback import ANTHROPIC, OPENAI, LoopbackServer, Received
from PIL import Image

from llm_relabel.config.definitions import load_definitions
from llm_relabel.data.box_cells import TYPE
from llm_relabel.data.boxes import Box, box_at, corners_of, overlaps
from llm_relabel.records import Item
from llm_relabel.tasks.box_f1 import BoxF1
from llm_relabel.tasks.detection import Detection
from llm_relabel.tasks.posed import posed
from llm_relabel.tasks.task import InvalidAnswer
from llm_relabel.units import column


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boxed:
    monkeypatch.chdir(tmp_path)
    return Boxed(tmp_path)


def test_recorded_boxes_from_plan_to_rollback(work: Boxed) -> None:
    planned = work.call("plan", "job.yaml")
    assert "1  spurious: disc" in planned
    assert "1  misplaced: disc" in planned
    assert not work.run_folder.exists()
    work.call("run", "job.yaml")
    check(work)
    gold = work.summary["gold"]
    assert gold["measure"] == "box F1"
    assert gold["labels_after"] == 1.0 > gold["labels_before"]
    shown = work.call("report", "run")
    assert "Box F1" in shown
    assert "A change is of one box" in shown
    table = json.loads((work.run_folder / "report.json").read_text())
    kinds = {each["kind"] for each in table["kinds"] if each["changed"]}
    assert kinds == {"missing", "spurious", "another class", "misplaced"}
    page = (work.run_folder / "report.html").read_text()
    pictures = re.findall(r'<img alt="" src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == len(work.lines("changes.jsonl")) == 5
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (160, 160)
    work.call("rollback", "run", "--id", "p1")
    rows = work.data.read_text().splitlines()
    assert (work.run_folder / "dataset.jsonl").read_text().splitlines()[1] == rows[1]


def eyes(received: Received) -> dict[str, Any]:
    """A judge that looks: it finds the colours in each crop of the second picture."""
    numbers = [int(n) for n in re.findall(r"^- (\d+)", received.user, re.MULTILINE)]
    (_, whole), (_, sheet) = received.images
    assert max(Image.open(io.BytesIO(whole)).size) <= 1024
    crops = Image.open(io.BytesIO(sheet)).convert("RGB")
    two = dict(re.findall(r"^- (\d+)(: boxes A)?", received.user, re.MULTILINE))
    places = []
    for number in numbers:
        left = (number - 1) % 2 * (2 * 224 + 6 + 6)
        top = (number - 1) // 2 * (224 + 20) + 20
        plain = crops.crop((left, top, left + 224, top + 224))
        marked = crops.crop((left + 230, top, left + 454, top + 224))
        places.append(_look(number, plain, marked, bool(two[str(number)])))
    return {"rationale": "looked", "places": places, "confidence": 0.9}


def _look(number: int, plain: Image.Image, marked: Image.Image, two: bool) -> dict[str, Any]:
    pixels = np.asarray(plain, dtype=int)
    masks = {
        "disc": (pixels[..., 0] > 150) & (pixels[..., 2] < 110),
        "square": (pixels[..., 2] > 150) & (pixels[..., 0] < 110),
    }
    middle = {name: mask[60:164, 60:164].mean() for name, mask in masks.items()}
    name = max(middle, key=lambda each: middle[each])
    if middle[name] < 0.4:
        return {"number": number, "verdict": "NO_OBJECT", "better": "ONE"}
    better = "ONE"
    if two:
        rows, columns = np.nonzero(masks[name])
        object_ = [columns.min(), rows.min(), columns.max(), rows.max()]
        drawn = np.abs(np.asarray(marked, dtype=int) - pixels).sum(axis=2) > 90
        red = drawn & (
            np.asarray(marked, dtype=int)[..., 0] > np.asarray(marked, dtype=int)[..., 2]
        )
        rows, columns = np.nonzero(red)
        frame = [columns.min(), rows.min(), columns.max(), rows.max()]
        off = sum(abs(a - b) for a, b in zip(frame, object_, strict=True))
        better = "A" if off < 40 else "B"
    return {"number": number, "verdict": name, "better": better}


@pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC])
def test_a_judge_that_sees_the_pictures(work: Boxed, wire: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(f"{wire.upper()}_API_KEY", "k")
    with LoopbackServer(eyes) as server:
        url = server.openai_url if wire == OPENAI else server.anthropic_url
        work.write_job(judge={"model": f"{wire}/sees", "base_url": url, "max_cost": "none"})
        work.call("run", "job.yaml")
    check(work)
    assert len(server.requests) == len(CHANGED)
    for received in server.requests:
        assert [kind for kind, _ in received.images] == ["image/jpeg"] * 2
        assert "images/" not in received.user  # a file's name may tell its class
    journals = "".join(p.read_text() for p in work.run_folder.rglob("*.jsonl"))
    assert "base64" not in journals
    assert max(map(len, journals.splitlines())) < 5000


def test_kill_and_go_on(work: Boxed) -> None:
    with LoopbackServer(eyes, latency=0.2) as server:
        work.write_job(judge={"model": "openai/sees", "base_url": server.openai_url,
                              "max_cost": "none", "concurrency": 1})  # fmt: skip
        killed = killed_after(work, server, 2)  # type: ignore[arg-type]
        work.call("run", "job.yaml")
        assert killed
        assert len(server.requests) <= len(CHANGED) + 1
    check(work)


def test_an_answer_must_speak_of_every_number_once(work: Boxed) -> None:
    def forgets(received: Received) -> dict[str, Any]:
        found = eyes(received)
        if len(received.body["messages"]) == 2:
            found["places"] = found["places"][1:]
        return found

    with LoopbackServer(forgets) as server:
        work.write_job(judge={"model": "openai/sees", "base_url": server.openai_url,
                              "max_cost": "none"})  # fmt: skip
        work.call("run", "job.yaml")
        again = [r for r in server.requests if len(r.body["messages"]) > 2]
    assert len(again) == len(CHANGED)
    assert "each once" in again[0].body["messages"][-1]["content"]
    check(work)


# Files


def unlike(row: int) -> dict[str, Any]:
    return {"id": f"p{row}", "image": f"images/{row}.png", "gold": boxed.cells(truth(row))}


def _named(name: str, box: tuple[int, ...]) -> dict[str, Any]:
    left, top, right, bottom = box
    return {"class": name, "x": left, "y": top, "width": right - left, "height": bottom - top}


def _voc(name: str, box: tuple[int, ...]) -> dict[str, Any]:
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"name": name, "bndbox": corners, "difficult": 0}


def _centred(name: str, box: tuple[int, ...]) -> dict[str, Any]:
    left, top, right, bottom = (v / s for v, s in zip(box, (160, 120) * 2, strict=True))
    shares = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return {"label": name, "bbox": shares, "by": "me"}


FORMS: dict[str, tuple[Callable[[list[Any]], Any], str | None]] = {
    "corners": (lambda boxes: [{"label": n, "box": list(b)} for n, b in boxes], None),
    "named": (lambda boxes: [_named(n, b) for n, b in boxes], None),
    "voc": (lambda boxes: [_voc(n, b) for n, b in boxes], None),
    "hf": (lambda boxes: {"bbox": [[b[0], b[1], b[2] - b[0], b[3] - b[1]] for _, b in boxes],
                          "category": [boxed.NAMES.index(n) for n, _ in boxes],
                          "area": [7 for _ in boxes]}, "xywh"),
    "shares": (lambda boxes: [_centred(n, b) for n, b in boxes], "cxcywh, normalized"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_back(work: Boxed, form: str) -> None:
    write, told = FORMS[form]
    work.write_rows([{**unlike(row), "label": write(given(row))} for row in range(ROWS)])
    data: dict[str, Any] = {"tag_names": list(boxed.NAMES)} if form == "hf" else {}
    if told is not None:
        data["boxes"] = told
    work.write_job(data={**data, "gold": None})
    work.call("run", "job.yaml")
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row, (old, new) in enumerate(zip(rows, work.lines("dataset.jsonl"), strict=True)):
        if row not in CHANGED:
            assert old == new
            continue
        assert new["label"] != old["label"]
        whole = isinstance(new["label"], dict)
        boxes = [dict(zip(new["label"], cells, strict=True)) for cells in
                 zip(*new["label"].values(), strict=True)] if whole else new["label"]  # fmt: skip
        assert len(boxes) == 3
        assert {len(box) for box in boxes[:2]} == {len(old["label"]) if whole else
                                                   len(old["label"][0])}  # fmt: skip


def test_numbers_that_may_mean_two_things_are_asked_about(work: Boxed) -> None:
    rows = [{**unlike(row), "label": [{"label": "disc", "box": [10, 12, 40, 42]}], "gold": []}
            for row in range(ROWS)]  # fmt: skip
    work.write_rows(rows)
    work.write_job(data={"gold": None})
    said = work.call("plan", "job.yaml", code=2)
    assert "set data.boxes" in said
    assert "'xyxy' would make it 30 wide and 30 high" in said
    assert "'xywh' would make it 40 wide and 42 high" in said
    work.write_job(data={"gold": None, "boxes": "corners"})
    assert "xyxy, xywh, cxcywh, yxyx" in work.call("plan", "job.yaml", code=2)


def test_what_nobody_decides_about_stays(work: Boxed) -> None:
    rows = [work.row(row) for row in range(ROWS)]
    crowd = {"cls": "disc", "box": [0, 0, 70, 110], "iscrowd": 1}
    flat = {"cls": "disc", "box": [5, 5, 5, 9]}
    again = {**rows[4]["label"][0], "cls": "square"}
    rows[4]["label"] += [crowd, flat, again]
    rows[1]["label"] += [crowd]
    work.write_rows(rows)
    work.call("run", "job.yaml")
    after = work.lines("dataset.jsonl")
    assert after[4] == rows[4]
    assert crowd in after[1]["label"]


def test_a_rotated_box_is_refused_with_its_row(work: Boxed) -> None:
    rows = [work.row(row) for row in range(ROWS)]
    rows[5]["label"][0]["rotation"] = 30
    work.write_rows(rows)
    said = work.call("plan", "job.yaml", code=2)
    assert "line 6" in said
    assert "rotated" in said


# Hostile pictures


def _bytes(image: Image.Image, kind: str, **more: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **more)
    return held.getvalue()


def hostile() -> dict[str, bytes]:
    plain = boxed.picture(0)
    grey = Image.fromarray(np.asarray(plain.convert("L"), dtype=np.uint16) * 200)
    return {
        "cmyk.jpg": _bytes(plain.convert("CMYK"), "JPEG"),
        "deep.png": _bytes(grey, "PNG"),
        "moving.gif": _bytes(plain, "GIF", save_all=True, append_images=[boxed.picture(1)]),
        "turned.jpg": _bytes(plain.rotate(90, expand=True), "JPEG", exif=_turned()),
        "see-through.png": _bytes(plain.convert("RGBA"), "PNG"),
        "palette.png": _bytes(plain.convert("P"), "PNG"),
    }


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is at the right of what is stored
    return exif


@pytest.mark.parametrize("name", hostile())
def test_odd_pictures_are_read_upright(work: Boxed, name: str) -> None:
    (work.folder / "images" / name).write_bytes(hostile()[name])
    rows = [work.row(row) for row in range(ROWS)]
    rows[0]["image"] = f"images/{name}"
    work.write_rows(rows)
    with LoopbackServer(eyes if name != "deep.png" else None) as server:
        sees = {"model": "openai/sees", "base_url": server.openai_url, "max_cost": "none"}
        work.write_job(judge=sees)
        work.call("run", "job.yaml")
        sizes = [Image.open(io.BytesIO(r.images[0][1])).size for r in server.requests]
    assert all(wide > high for wide, high in sizes)
    if name != "deep.png":
        check(work)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x89PNG\r\n\x1a\nnothing", "cannot be read"),
        (b"<svg/>", "cannot be read"),
        (None, "is not in"),
    ],
)
def test_one_bad_picture_leaves_one_row_alone(work: Boxed, data: bytes | None, why: str) -> None:
    if data is not None:
        (work.folder / "images" / "bad.png").write_bytes(data)
    rows = [work.row(row) for row in range(ROWS)]
    rows[1]["image"] = "images/bad.png"
    work.write_rows(rows)
    said = work.call("run", "job.yaml")
    assert "no picture that can be read" in said
    assert why in said
    after = work.lines("dataset.jsonl")
    assert after[1] == rows[1]
    assert after[0] != rows[0]


def test_a_picture_that_breaks_off_fails_its_own_question(work: Boxed) -> None:
    path = work.folder / "images/0.png"
    path.write_bytes(path.read_bytes()[:-40])
    with LoopbackServer(eyes) as server:
        work.write_job(judge={"model": "openai/sees", "base_url": server.openai_url,
                              "max_cost": "none"})  # fmt: skip
        assert "A prompt, as it would be sent" in work.call("plan", "job.yaml")
        work.call("run", "job.yaml")
    verdicts = {line["id"]: line for line in work.lines("round-1/verdicts.jsonl")}
    assert verdicts["p0"]["outcome"] == "failed"
    assert "cannot be read" in verdicts["p0"]["error"]
    assert verdicts["p1"]["outcome"] == "answer"


def test_nothing_outside_of_the_folder_is_opened(work: Boxed) -> None:
    secret = work.folder.parent / "secret.png"
    boxed.picture(0).save(secret)
    rows = [work.row(row) for row in range(ROWS)]
    rows[1]["image"] = "../secret.png"
    (work.folder / "images" / "link.png").symlink_to(secret)
    rows[2]["image"] = "images/link.png"
    work.write_rows(rows)
    said = work.call("run", "job.yaml")
    assert "outside of the dataset's folder" in said
    after = work.lines("dataset.jsonl")
    assert after[1:3] == rows[1:3]


def test_a_bomb_is_not_unpacked(work: Boxed) -> None:
    header = bytearray(_bytes(Image.new("1", (1, 1)), "PNG"))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (work.folder / "images" / "bad.png").write_bytes(bytes(header))
    rows = [work.row(row) for row in range(ROWS)]
    rows[1]["image"] = "images/bad.png"
    work.write_rows(rows)
    assert "3600000000 pixels" in work.call("run", "job.yaml")


def test_without_pictures_what_is_brought_does(work: Boxed) -> None:
    for row in range(ROWS):
        (work.folder / f"images/{row}.png").unlink()
    assert "set data.boxes" in work.call("run", "job.yaml", code=2)
    work.write_job(data={"boxes": "xyxy"})
    work.call("run", "job.yaml")
    check(work)
    work.write_job(data={"boxes": "xyxy"}, model={})
    said = work.call("run", "job.yaml", "--set", "output=other", code=2)
    assert "no picture of the dataset is there" in said


def test_the_same_picture_under_two_names_is_one_group(work: Boxed) -> None:
    from llm_relabel.config.job import load_job
    from llm_relabel.data import read_dataset

    (work.folder / "images/1.png").write_bytes((work.folder / "images/0.png").read_bytes())
    job = load_job(work.folder / "job.yaml")
    dataset = read_dataset(job.data, job.resolve, {}, Detection.cells)
    assert dataset.groups[0] == dataset.groups[1]
    assert len(set(dataset.groups.tolist())) == ROWS - 1


def test_text_and_pictures_are_told_apart(work: Boxed) -> None:
    said = work.call("plan", "job.yaml", "--set", "task=classification", code=2)
    assert "data.text" in said
    work.write_job(data={"image": None, "text": "site"})
    assert "data.image" in work.call("plan", "job.yaml", code=2)


def test_a_judge_without_an_llm_looks_at_places(work: Boxed) -> None:
    work.write_job(judge={"model": "embedded"})
    work.call("run", "job.yaml")
    verdicts = work.lines("round-1/verdicts.jsonl")
    assert {verdict["outcome"] for verdict in verdicts} == {"answer"}
    assert all(re.match(r"looks like 1: \w+", verdict["rationale"]) for verdict in verdicts)
    gold = work.summary["gold"]
    assert gold["labels_after"] > gold["labels_before"]
    assert gold["broken"] == 0
    first = (work.run_folder / "dataset.jsonl").read_bytes()
    work.call("run", "job.yaml", "--set", "output=again")
    assert (work.folder / "again/dataset.jsonl").read_bytes() == first


def test_shown_blind_a_judge_of_boxes_has_nothing_to_say(work: Boxed) -> None:
    said = work.call("run", "job.yaml", "--set", "judge.evidence=blind", code=2)
    assert "judge.evidence: referenced" in said
    model = ("--set", "judge.model=openai/x", "--set", "judge.max_cost=none")
    assert "leave it out" in work.call("eval", "job.yaml", "--anchoring", "4", code=2)
    said = work.call("tune", "job.yaml", "--gold", "data.jsonl", *model, "--plan", code=2)
    assert "eval --prompt" in said


def test_people_answer_in_lines(work: Boxed) -> None:
    work.write_job(judge={"model": "people"})
    work.call("run", "job.yaml", code=3)
    for kind in ("csv", "argilla", "label-studio", "doccano"):
        said = work.call("review", "export", "run", "--format", kind, "-o", "out.x", code=2)
        assert "--format jsonl" in said
    work.call("review", "export", "run", "-o", "asked.jsonl")
    lines = [json.loads(line) for line in (work.folder / "asked.jsonl").read_text().splitlines()]
    for line in lines:
        row = int(line["id"][1:])
        line["answer"] = [{"label": name, "box": box} for name, box in truth(row)]
    work.write_lines("asked.jsonl", lines)
    work.call("review", "import", "run", "asked.jsonl", "--reviewer", "ann")
    work.call("run", "job.yaml")
    check(work)


# The detector


def test_the_detector_finds_what_it_was_taught(work: Boxed) -> None:
    work.write_job(model={"folds": 2})
    work.call("run", "job.yaml")
    predicted = work.summary["rounds"][0]
    assert predicted["gold"]["labels_after"] >= 0.97
    assert "EfficientNet-lite0" in predicted["model"]
    first = (work.run_folder / "changes.jsonl").read_bytes()
    work.call("run", "job.yaml", "--set", "output=again")
    assert _same(first) == _same((work.folder / "again/changes.jsonl").read_bytes())


def _same(changes: bytes) -> list[Any]:
    lines = [json.loads(line) for line in changes.splitlines()]
    return [(line["id"], line["unit"], line["new"]) for line in lines]


# Properties

COORDINATES = st.integers(0, 90)
PLACED = st.builds(
    lambda x, y, w, h, name: Box((float(x), float(y), float(x + w), float(y + h)), name),
    COORDINATES, COORDINATES, st.integers(4, 60), st.integers(4, 60), st.sampled_from(boxed.NAMES),
)  # fmt: skip
LABELS = st.lists(PLACED, max_size=8, unique_by=lambda box: box.key).map(
    lambda boxes: tuple(sorted(boxes))
)


def task() -> Detection:
    told = {name: {"definition": name} for name in boxed.NAMES}
    return Detection(load_definitions(told), TYPE)


@given_any(LABELS, LABELS)
def test_an_answer_for_one_candidate_is_that_candidate(one: Any, other: Any) -> None:
    """Whoever answers each place as one of the labels has it, says that label."""
    question = posed((one, other), "x")
    own = {box.key: box.label for box in one}
    places = []
    for number, shown in enumerate(question.places, start=1):
        mine = [place for place, box in enumerate(shown) if box.key in own]
        verdict = own[shown[mine[0]].key] if mine else "NO_OBJECT"
        better = "ONE" if len(shown) == 1 else "AB"[mine[0]] if mine else "NEITHER"
        places.append({"number": number, "verdict": verdict, "better": better})
    item = task().posed(Item("x", 0, {}), (one, other))
    answer = task().parse(json.dumps({"rationale": "", "places": places}), item)
    assert answer.label == one


@given_any(LABELS, LABELS)
def test_codes_and_labels_are_inverse(one: Any, other: Any) -> None:
    columns = {"given": column([one]), "predicted": column([other])}
    units = task().units(columns)
    for labels in columns.values():
        assert task().labels(units, task().codes(units, labels))[0] == labels[0]
    for box in one:
        assert box_at(box.key, box.label) == box


@given_any(LABELS)
def test_a_label_is_as_good_as_gold_against_itself(label: Any) -> None:
    for at in (0.5, 0.75):
        measure = BoxF1(at)
        counts = measure.counts(column([label]), column([label]))
        assert counts.tolist() == [[len(label)] * 3]
        assert measure.errors(counts).tolist() == [0]


@given_any(LABELS, LABELS)
def test_no_more_boxes_match_than_there_are(label: Any, gold: Any) -> None:
    right, told, true = BoxF1().counts(column([label]), column([gold]))[0]
    assert right <= min(told, true)
    shared = overlaps(corners_of(label), corners_of(gold))
    possible = [
        (a, b) for a, one in enumerate(label) for b, other in enumerate(gold)
        if one.label == other.label and shared[a, b] >= 0.5
    ]  # fmt: skip
    assert right <= len({a for a, _ in possible})
    assert (right > 0) == bool(possible)


@pytest.mark.parametrize(
    "value",
    [3, [3], [{"label": "disc"}], [{"label": "cat", "box": [1, 2, 3, 4]}],
     [{"label": "disc", "box": [5, 5, 5, 9]}], [{"label": "disc", "box": [1, 2, float("nan"), 4]}]],
)  # fmt: skip
def test_what_is_no_label_is_refused(value: Any) -> None:
    with pytest.raises(InvalidAnswer):
        task().check(value)


# COCO


def coco(folder: Path) -> dict[str, Any]:
    """The job's labels as a COCO file."""
    annotations: list[dict[str, Any]] = []
    for row in range(ROWS):
        for name, (left, top, right, bottom) in given(row):
            annotations.append({
                "id": 100 + len(annotations), "image_id": 7 * row,
                "category_id": 3 if name == "disc" else 9,
                "bbox": [left, top, right - left, bottom - top], "area": 1.50, "by": "ann",
            })  # fmt: skip
    whole = {
        "info": {"year": 2026},
        "images": [{"id": 7 * row, "file_name": f"{row}.png", "width": 160, "height": 120}
                   for row in range(ROWS)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "disc"}, {"id": 9, "name": "square"}],
    }  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(whole, indent=1))
    return whole


def test_coco_comes_and_goes(work: Boxed) -> None:
    before = coco(work.folder)
    lines = [json.loads(line) for line in (work.folder / "recorded.jsonl").read_text().splitlines()]
    work.write_lines("recorded.jsonl", [{**e, "id": f"{7 * n}"} for n, e in enumerate(lines)])
    lines = [{"id": f"{7 * row}", "boxes": work.scored(row)} for row in range(ROWS)]
    work.write_lines("predictions.jsonl", lines)
    data = {"path": "labels.json", "image_folder": "images", "label": "boxes", "gold": None}
    work.write_job(data=data)
    work.call("run", "job.yaml")
    path = work.run_folder / "dataset.json"
    after = json.loads(path.read_text())
    assert {name: after[name] for name in ("info", "images", "categories")} == {
        name: before[name] for name in ("info", "images", "categories")
    }
    by_id = {each["id"]: each for each in before["annotations"]}
    new = [each for each in after["annotations"] if each["id"] not in by_id]
    assert min(each["id"] for each in new) == max(by_id) + 1
    assert {each["image_id"] for each in new} == {0, 21}  # one was missing, one misplaced
    changed = [e for e in after["annotations"] if e["id"] in by_id and e != by_id[e["id"]]]
    assert [(each["image_id"], each["by"]) for each in changed] == [(14, "ann")]
    assert {e["image_id"] for e in by_id.values() if e["id"] not in
            {each["id"] for each in after["annotations"]}} == {7, 21}  # fmt: skip
    # Nothing else is another character.
    removed = [line for line in (work.folder / "labels.json").read_text().splitlines()
               if line not in path.read_text()]  # fmt: skip
    assert len(removed) < 12
    work.call("rollback", "run", "--all")
    assert path.read_bytes() == (work.folder / "labels.json").read_bytes()


def test_coco_that_lacks_something_says_what(work: Boxed) -> None:
    whole = coco(work.folder)
    data = {"path": "labels.json", "image_folder": "images", "label": "boxes", "gold": None}
    work.write_job(data=data)
    whole["annotations"][3]["category_id"] = 5
    (work.folder / "labels.json").write_text(json.dumps(whole))
    assert "annotation 103 is of category 5" in work.call("plan", "job.yaml", code=2)
    del whole["categories"]
    (work.folder / "labels.json").write_text(json.dumps(whole))
    assert "has no list 'categories'" in work.call("plan", "job.yaml", code=2)


def test_the_demo_s_files_agree() -> None:
    from llm_relabel.config.job import load_job
    from llm_relabel.demo import DEMOS
    from llm_relabel.prepared import prepare

    folder = DEMOS["detection"]
    prepared = prepare(load_job(folder / "job.yaml"))
    answers = (folder / "recorded.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in answers] == prepared.dataset.ids.to_pylist()
    assert prepared.gold is not None
    before = BoxF1().counts(prepared.given, prepared.gold).sum(axis=0)
    assert 0.7 < float(BoxF1().value(before)) < 0.85
    assert all(prepared.dataset.item(row).picture.size == (640, 480) for row in range(40))


def test_the_detector_passes_over_a_picture_that_breaks_off(work: Boxed) -> None:
    path = work.folder / "images/0.png"
    path.write_bytes(path.read_bytes()[:-60])
    work.write_job(model={"folds": 2}, judge={"model": "recorded/recorded.jsonl"})
    work.call("run", "job.yaml")
    after = work.lines("dataset.jsonl")
    assert after[0] == work.row(0)  # nothing is known of it, so its label is as good as any
    assert after[1] != work.row(1)
