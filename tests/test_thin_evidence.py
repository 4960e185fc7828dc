"""No source is followed that the run itself believes worse, and no label vanishes by itself."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import toy
from loopback import LoopbackServer, Received
from toy_judge import right_answer

import llm_relabel as lr

TEXTS = {
    "billing": ["charged twice {}", "invoice {} wrong"],
    "shipping": ["parcel {} late", "courier lost {}"],
    "tech": ["app crash {}", "screen black {}"],
}


def test_right_minority_labels_survive_a_model_that_knows_nothing(work: toy.Work) -> None:
    """Most rows carry a default that nobody looked at; the rest is right."""
    rng = random.Random(0)
    rows = []
    for row in range(420):
        name = rng.choice(list(TEXTS))
        text = rng.choice(TEXTS[name]).format(row)
        rows.append({"id": str(row), "text": text, "label": name if row % 7 == 0 else "ok"})
    work.write_rows(rows)
    work.write_job(
        data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
        labels={"billing": "Invoices.", "shipping": "Parcels.", "tech": "Apps.", "ok": "Nothing."},
        model={}, judge={"model": "embedded"},
    )  # fmt: skip
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    before, after = Counter(row["label"] for row in rows), Counter(work.labels())
    assert all(after[name] >= before[name] for name in TEXTS)
    assert "Doubtful: the small model hardly knows these labels" in done.stdout
    decisions = work.lines("round-1/decisions.jsonl")
    assert any(line["why"].startswith("held back, the evidence is too thin") for line in decisions)


def constant(name: str, but: int = 0) -> object:
    """A judge that answers `name` to all, but to `but` questions."""
    asked = 0

    def answer(request: Received) -> object:
        nonlocal asked
        asked += 1
        return right_answer(request) if asked <= but else {**right_answer(request), "label": name}

    return answer


@pytest.mark.parametrize("but", [0, 1])
def test_a_constant_judge_changes_nothing_and_is_told(work: toy.Work, but: int) -> None:
    rows = [
        {"id": f"i{n}", "text": f"{toy.text(n)} {n}", "label": toy.NAMES[n % 2], "gold": "tool"}
        for n in range(40)
    ]
    work.write_rows(rows)
    other = {toy.NAMES[0]: [0.2, 0.7, 0.1], toy.NAMES[1]: [0.7, 0.2, 0.1]}
    work.write_lines(
        "predictions.jsonl",
        [{"id": row["id"], "pred_probs": other[row["label"]]} for row in rows],
    )
    with LoopbackServer(constant(toy.NAMES[0], but)) as server:
        work.llm(server.openai_url)
        done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert work.labels() == [row["label"] for row in rows]
    assert f"Doubtful: openai/toy, referenced gave the same answer, {toy.NAMES[0]}" in done.stdout
    assert json.loads((work.run_folder / "summary.json").read_text())["changed"] == 0


def test_an_answer_that_is_right_nearly_always_is_no_constant(work: toy.Work) -> None:
    """All that is doubted was labeled otherwise, and the small model says what the judge says."""
    rows = [
        {"id": f"i{n}", "text": f"{toy.text(n)} {n}", "label": toy.NAMES[0 if n % 10 else 1]}
        for n in range(200)
    ]
    work.write_rows(rows)
    work.write_lines(
        "predictions.jsonl", [{"id": row["id"], "pred_probs": [0.9, 0.07, 0.03]} for row in rows]
    )
    with LoopbackServer(constant(toy.NAMES[0])) as server:
        work.write_job(
            data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
            judge={"model": "openai/toy", "base_url": server.openai_url},
        )
        summary = lr.relabel(work.job).summary
    assert not any("same answer" in doubt for doubt in summary["doubts"])
    # And yet no label is emptied without a person's look.
    assert Counter(work.labels())[toy.NAMES[1]] == 20
