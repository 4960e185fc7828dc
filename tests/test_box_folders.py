"""YOLO and VOC folders, through a whole run and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from boxed import NAMES, ROWS, SIZE, Boxed, given


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boxed:
    monkeypatch.chdir(tmp_path)
    return Boxed(tmp_path)


def renamed(work: Boxed, name: str) -> None:
    """Predictions and recorded answers under the ids that a folder gives its pictures."""
    for file in ("predictions.jsonl", "recorded.jsonl"):
        lines = [json.loads(line) for line in (work.folder / file).read_text().splitlines()]
        work.write_lines(file, [{**line, "id": name.format(line["id"][1:])} for line in lines])


def shares(box: tuple[int, ...]) -> str:
    left, top, right, bottom = (v / s for v, s in zip(box, SIZE * 2, strict=True))
    numbers = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return " ".join(f"{each:.5f}" for each in numbers)


def yolo(work: Boxed) -> Path:
    folder = work.folder / "set"
    (folder / "labels/train").mkdir(parents=True)
    shutil.copytree(work.folder / "images", folder / "images/train")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: disc, 1: square}  # two\n"
    )
    for row in range(ROWS):
        lines = [f"{NAMES.index(name)} {shares(box)}" for name, box in given(row)]
        (folder / f"labels/train/{row}.txt").write_text("\n".join(lines))
    (folder / "labels/train/5.txt").unlink()  # a picture without a file shows nothing
    renamed(work, "images/train/{}")
    return folder


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_yolo_comes_and_goes(work: Boxed) -> None:
    folder = yolo(work)
    data = {"path": "set", "id": "id", "label": "boxes", "gold": None}
    work.write_job(data=data)
    work.call("run", "job.yaml")
    made = work.run_folder / "dataset"
    assert (made / "data.yaml").read_bytes() == (folder / "data.yaml").read_bytes()
    for row in range(6, ROWS):
        name = f"labels/train/{row}.txt"
        assert (made / name).read_bytes() == (folder / name).read_bytes()
    before, after = (
        [lines_of(each / f"labels/train/{row}.txt") for row in range(4)] for each in (folder, made)
    )
    assert after[0][:2] == before[0]
    assert len(after[0]) == 3
    assert after[1] == before[1][:3]
    assert after[2][1:] == before[2][1:]
    assert after[2][0].split()[1:] == before[2][0].split()[1:]
    assert after[2][0].split()[0] != before[2][0].split()[0]
    assert len(lines_of(made / "labels/train/5.txt")) == 3
    code, *numbers = after[0][2].split()
    assert code in "01"
    assert all(0 <= float(each) <= 1 for each in numbers)
    assert "4 of 12" not in work.call("report", "run")  # the fifth was empty, too
    work.call("rollback", "run", "--all")
    assert not (work.run_folder / "dataset/labels/train/5.txt").exists()
    for path in (folder / "labels").rglob("*.txt"):
        again = work.run_folder / "dataset" / path.relative_to(folder)
        assert again.read_bytes() == path.read_bytes()


def test_yolo_that_lacks_something_says_what(work: Boxed) -> None:
    folder = yolo(work)
    data = {"path": "set", "id": "id", "label": "boxes", "gold": None}
    work.write_job(data={**data, "split": "tran"})
    assert "did you mean 'train'" in work.call("plan", "job.yaml", code=2)
    work.write_job(data={**data, "split": "val"})
    assert "data.image_folder" in work.call("plan", "job.yaml", code=2)
    work.write_job(data=data)
    path = folder / "labels/train/3.txt"
    path.write_text(path.read_text() + "\n0 0.1 0.2 0.3 0.2 0.3 0.4\n7 0.1 0.1 0.1 0.1\n")
    said = work.call("plan", "job.yaml", code=2)
    assert "3.txt, line 4: 6 numbers are no box" in said
    (folder / "data.yaml").write_text("train: images/train\n")
    assert "names no classes" in work.call("plan", "job.yaml", code=2)


XML = """<annotation>
\t<filename>{row}.png</filename>
\t<owner>caf\u00e9 &amp; co</owner>
{objects}\t<segmented>0</segmented>
</annotation>
"""


def voc(work: Boxed) -> Path:
    folder = work.folder / "set"
    (folder / "Annotations").mkdir(parents=True)
    shutil.copytree(work.folder / "images", folder / "JPEGImages")

    def shown(name: str, box: tuple[int, ...]) -> str:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        told = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        return (f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Left</pose>\n\t\t<bndbox>{told}"
                "</bndbox>\n\t\t<part><name>edge</name></part>\n\t</object>\n")  # fmt: skip

    for row in range(ROWS):
        objects = "".join(shown(name, box) for name, box in given(row))
        text = XML.format(row=row, objects=objects)
        (folder / f"Annotations/{row}.xml").write_text(text, encoding="utf-8")
    renamed(work, "{}")
    return folder


def test_voc_comes_and_goes(work: Boxed) -> None:
    folder = voc(work)
    work.write_job(data={"path": "set", "id": "id", "label": "boxes", "gold": None})
    work.call("run", "job.yaml")
    made = work.run_folder / "dataset/Annotations"
    texts = {row: (folder / f"Annotations/{row}.xml").read_text("utf-8") for row in range(ROWS)}
    after = {row: (made / f"{row}.xml").read_text("utf-8") for row in range(ROWS)}
    assert [row for row in range(ROWS) if texts[row] != after[row]] == [0, 1, 2, 3]
    assert after[0].count("<object>") == texts[0].count("<object>") + 1
    assert after[1].count("<object>") == texts[1].count("<object>") - 1
    first = given(2)[0][0]
    other = NAMES[1 - NAMES.index(first)]
    assert after[2] == texts[2].replace(f"<name>{first}</name>", f"<name>{other}</name>", 1)
    work.call("report", "run")
    assert "data:image/jpeg" in (work.run_folder / "report.html").read_text()
    work.call("rollback", "run", "--all")
    for row, text in texts.items():
        assert (made / f"{row}.xml").read_text("utf-8") == text
    (folder / "Annotations/4.xml").write_text("<annotation><object/></annotation>")
    said = work.call("run", "job.yaml", "--set", "output=other", code=2)
    assert "4.xml: its object 1 has no name" in said


def test_init_of_a_folder(work: Boxed) -> None:
    voc(work)
    said = work.call("init", "set", "--task", "detection", "--image", "image", "--label", "boxes",
                     "-o", "made")  # fmt: skip
    assert "12 rows, 2 labels" in said
    labels = (work.folder / "made/labels.yaml").read_text()
    assert "cut off by the edge" in labels
    assert "disc:" in labels
    assert "image: image" in (work.folder / "made/job.yaml").read_text()
    said = work.call("plan", "made/job.yaml", "--set", "judge.model=openai/x", code=2)
    assert "still to be written" in said
