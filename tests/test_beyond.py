"""Rows beyond the flagged ones: some are drawn, and the run goes on where that pays."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import LoopbackServer, Received

import llm_relabel as lr
from llm_relabel.engine import open_job, plan_job
from llm_relabel.progress import Silent
from llm_relabel.run_folder.folder import RunFolder

TOPICS = {
    "sport": "match goal team coach league striker referee stadium penalty season",
    "money": "bank loan interest deposit account credit mortgage savings branch fee",
    "weather": "rain cloud storm wind snow forecast sunny thunder fog degrees",
}
ROWS = 360


def truth_of(row: int) -> str:
    return list(TOPICS)[row % 3]


def text_of(row: int) -> str:
    rng = random.Random(row)
    words = rng.sample(TOPICS[truth_of(row)].split(), 3)
    return f"note {row}: {' and '.join(words)} today"


def noisy(row: int, right: float, seed: int) -> str:
    rng = random.Random(f"{seed}:{row}")
    if rng.random() < right:
        return truth_of(row)
    return rng.choice([name for name in TOPICS if name != truth_of(row)])


def write(folder: Path, *, given: float, judge: float, **changes: Any) -> Path:
    """A job whose labels and recorded judge are right in such a share of the rows."""
    rows = [
        {"id": f"r{row}", "text": text_of(row), "label": noisy(row, given, 1),
         "gold": truth_of(row)}
        for row in range(ROWS)
    ]  # fmt: skip
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"id": f"r{row}", "label": noisy(row, judge, 2)} for row in range(ROWS)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(each) + "\n" for each in answers))
    job = {
        "task": "classification",
        "data": {"path": "data.jsonl", "text": "text", "label": "label", "id": "id",
                 "gold": "gold"},
        "labels": {name: f"A note about {name}." for name in TOPICS},
        "judge": {"model": "recorded/answers.jsonl"},
        "output": "run",
        **changes,
    }  # fmt: skip
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


@pytest.fixture(scope="module")
def deserved(tmp_path_factory: pytest.TempPathFactory) -> lr.Run:
    """Labels that are little better than chance, and a judge that is nearly always right."""
    return lr.relabel(write(tmp_path_factory.mktemp("deserved"), given=0.4, judge=0.95))


def lines(run: lr.Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / name).read_text().splitlines()]


def test_a_judge_that_the_texts_vouch_for_is_followed_everywhere(deserved: lr.Run) -> None:
    first = deserved.summary["rounds"][0]
    assert first["sources"]["lean"] > 0
    assert first["beyond"]["drawn"] > 0
    assert first["beyond"]["why"] == "every item was asked about"
    assert first["judged"] == ROWS
    assert deserved.summary["gold"]["labels_after"] > 0.93
    assert deserved.summary["doubts"] == []


def test_what_was_asked_beyond_is_counted_and_kept_apart(deserved: lr.Run) -> None:
    first = deserved.summary["rounds"][0]
    beyond = lines(deserved, "round-1/beyond.jsonl")
    reasons = [line["reason"] for line in beyond]
    assert reasons.count("drawn") == first["beyond"]["drawn"]
    assert reasons.count("extended") == first["beyond"]["extended"]
    assert len(lines(deserved, "round-1/issues.jsonl")) == first["flagged"]
    assert first["judged"] == first["flagged"] - first["deferred"] + len(beyond)
    parts = ("replaced", "kept", "abstained", "failed")
    assert first["judged"] == sum(first[part] for part in parts)
    changed = {line["id"] for line in lines(deserved, "changes.jsonl")}
    some = next(line for line in beyond if line["id"] in changed)
    assert RunFolder(deserved.path).excerpts([some["id"]]) == {some["id"]: some["text"]}


def test_a_judge_that_they_do_not_vouch_for_is_not(tmp_path: Path) -> None:
    run = lr.relabel(write(tmp_path, given=0.85, judge=0.4))
    first = run.summary["rounds"][0]
    assert first["sources"]["lean"] < 0
    assert first["beyond"]["extended"] == 0
    assert "below 2%" in first["beyond"]["why"]
    assert run.summary["gold"]["labels_after"] >= run.summary["gold"]["labels_before"]


def test_a_run_goes_on_alike_and_takes_all_of_it_back(deserved: lr.Run, tmp_path: Path) -> None:
    again = lr.relabel(write(tmp_path, given=0.4, judge=0.95))
    assert again.dataset_path().read_bytes() == deserved.dataset_path().read_bytes()
    asked = [line["id"] for line in lines(again, "round-1/asks.jsonl")]
    assert asked == [line["id"] for line in lines(deserved, "round-1/asks.jsonl")]
    again.rollback(everything=True)
    assert again.dataset_path().read_bytes() == (tmp_path / "data.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("detect", "most"), [({"sample": 0}, 0), ({"extend": False}, 200), ({"budget": 300}, 60)]
)
def test_what_the_job_allows_beyond(tmp_path: Path, detect: dict[str, Any], most: int) -> None:
    run = lr.relabel(write(tmp_path, given=0.4, judge=0.95, detect=detect, rounds=1))
    first = run.summary["rounds"][0]
    beyond = first.get("beyond")
    if not most:
        assert beyond is None
        assert not (run.path / "round-1" / "beyond.jsonl").exists()
        assert first["judged"] == first["flagged"]
        return
    assert 0 < beyond["drawn"] <= most
    if "budget" in detect:
        assert first["judged"] == 300
        assert beyond["why"] == "detect.budget is used up"
    else:
        assert "extended" not in beyond


def test_the_plan_says_what_is_drawn_and_where_it_may_lead(tmp_path: Path) -> None:
    job = write(tmp_path, given=0.4, judge=0.95, detect={"sample": 60})
    plan = plan_job(open_job(job), Silent())
    assert plan.drawn == 60
    assert plan.asked == plan.flagged + plan.drawn
    assert plan.further == ROWS - plan.asked
    assert f"up to {plan.further:,} further items" in plan.told()


def test_the_money_cap_ends_the_extension_and_not_the_run(tmp_path: Path) -> None:
    def answer(received: Received) -> dict[str, object]:
        row = next(row for row in range(ROWS) if f"note {row}:" in received.user)
        return {"rationale": "r", "label": noisy(row, 0.95, 2), "confidence": 0.9}

    with LoopbackServer(answer) as server:
        judge = {
            "model": "openai/toy", "base_url": server.openai_url, "concurrency": 8,
            "prices": {"input": 10.0, "output": 10.0}, "max_cost": "none",
        }  # fmt: skip
        whole = lr.relabel(
            write(tmp_path, given=0.4, judge=0.95, rounds=1) and priced(tmp_path, judge)
        )
        assert whole.summary["rounds"][0]["judged"] == ROWS
        cap = round(0.9 * whole.summary["cost"], 4)
        capped = lr.relabel(
            priced(tmp_path, {**judge, "max_cost": cap, "cache": False}, output="capped")
        )
    assert capped.summary["status"] == "done"
    assert capped.summary["cost"] <= cap
    assert "raise judge.max_cost" in capped.summary["rounds"][0]["beyond"]["why"]


def priced(folder: Path, judge: dict[str, Any], **changes: Any) -> Path:
    """The job of the folder with another judge."""
    path = folder / "job.yaml"
    job = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**job, "judge": judge, **changes}))
    return path
