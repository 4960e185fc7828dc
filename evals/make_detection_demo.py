"""The detection demo: forty pictures of BCCD with planted faults, and answers made with its boxes.

    LLM_RELABEL_DATA=... python evals/make_detection_demo.py

Pictures and boxes (`gold`) are those of Shenggan/BCCD_Dataset (MIT). The faults are planted by
`box_noise.py`; the recorded judge's answers are the published boxes, nine of ten right.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from box_noise import spoiled
from detection import NAMES, SIZE, boxes_of
from machine import data_folder, rows_of

from llm_relabel.data.boxes import Box

HERE = Path(__file__).parent.parent / "llm_relabel" / "demo" / "detection"
PICTURES, SEED = 40, 1
WRONG = 0.1  # of the answers: a box left out, or of another class


def cells(boxes: list[Box]) -> list[dict[str, Any]]:
    """Boxes as the demo's file has them."""
    return [{"label": box.label, "box": list(map(int, box.box))} for box in boxes]


def answer(boxes: list[Box], rng: random.Random) -> list[Box]:
    """What the recorded judge says of a picture."""
    found = []
    for box in boxes:
        if rng.random() >= WRONG:
            found.append(box)
        elif rng.random() < 0.5:
            found.append(Box(box.box, rng.choice([n for n in NAMES if n != box.label])))
    return found


def main() -> None:
    """Write the demo's data; the job and the definitions are written by hand."""
    rng, gold = random.Random(SEED), boxes_of("gold", NAMES)
    whole = [key for key, boxes in gold.items() if not any(box.fixed for box in boxes)]
    # White cells and platelets are rare: pictures with both, and such as the set has them.
    rich = [key for key in whole if len({box.label for box in gold[key]}) == len(NAMES)]
    chosen = sorted([*rich[: PICTURES // 2], *[k for k in whole if k not in rich][: PICTURES // 2]])
    image_of = {row["id"]: row["image"] for row in rows_of("bccd_boxes")}
    shutil.rmtree(HERE / "images", ignore_errors=True)
    (HERE / "images").mkdir(parents=True)
    rows, answers = [], []
    for key in chosen:
        shutil.copyfile(data_folder("bccd_boxes") / image_of[key], HERE / image_of[key])
        given, _ = spoiled(gold[key], SIZE, NAMES, rng)
        rows.append({"id": key, "image": image_of[key], "label": cells(given),
                     "gold": cells(gold[key])})  # fmt: skip
        answers.append({"id": key, "label": cells(answer(gold[key], rng))})
    for name, lines in (("pictures.jsonl", rows), ("recorded.jsonl", answers)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
