"""A sixth task type through the whole program, and no line about it outside its own file.

`ratings_task.py` knows the seam only; here the commands run over it as over any other type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from loopback import LoopbackServer, Received
from ratings_task import AbsoluteError

import llm_relabel as lr
from llm_relabel import registry
from llm_relabel.cli import cli
from llm_relabel.files.sheets import read_sheet, write_sheet

WORDS = (
    ("filthy", "dreadful"), ("dull", "stale"), ("plain", "fair"), ("tidy", "kind"),
    ("splendid", "superb"),
)  # fmt: skip
ROWS = 60


def gold(row: int) -> int:
    return row % 5 + 1


def given(row: int) -> int:
    """Every fourth rating is two off."""
    right = gold(row)
    return right if row % 4 else right + 2 if right <= 3 else right - 2


def text(row: int) -> str:
    return f"a {WORDS[gold(row) - 1][row // 5 % 2]} room in house {row}"


class Ratings(toy.Work):
    """A job over ratings; `call` runs the program in this process, where the task is known."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(folder)
        self._capsys = capsys
        points = {"1": "Nobody would stay.", "3": "Good enough.", "5": "As good as it gets."}
        (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": points}))
        # Written by hand: what comes back must be this, byte for byte, but for the changed cells.
        self.data.write_text("".join(
            f'{{"id":"i{row}",  "label" : {given(row)}, "text": "{text(row)}", '
            f'"gold":{gold(row)}.0, "caf\\u00e9": [1,2]}}\n' for row in range(ROWS)
        ))  # fmt: skip
        self.write_lines(
            "recorded.jsonl",
            [{"id": f"i{row}", "label": gold(row), "confidence": 0.9} for row in range(ROWS)],
        )
        self.write_job(task="ratings", model={})

    def write_job(self, **changes: Any) -> Path:
        return super().write_job(**{"task": "ratings", "model": {}, **changes})

    def call(self, *words: str) -> str:
        """What a command prints. Raises what it raises."""
        self._capsys.readouterr()
        cli.main([*words], standalone_mode=False)
        return self._capsys.readouterr().out


@pytest.fixture
def ratings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ratings:
    monkeypatch.setitem(registry.TASKS, "ratings", "ratings_task:Ratings")
    monkeypatch.chdir(tmp_path)
    return Ratings(tmp_path, capsys)


def rated(received: Received) -> dict[str, object]:
    """A perfect judge."""
    for rating, words in enumerate(WORDS, start=1):
        if any(f" {word} room" in received.user for word in words):
            return {"rationale": "it says so", "rating": rating, "confidence": 0.9}
    raise AssertionError(f"no rated item in {received.user!r}")


def mean_error(labels: list[int]) -> float:
    return sum(abs(label - gold(row)) for row, label in enumerate(labels)) / ROWS


def check_run(work: Ratings, out: str) -> None:
    """Whatever judged: the labels are mended, written back as they came, and measured."""
    before, after = (
        path.read_text().splitlines() for path in (work.data, work.run_folder / "dataset.jsonl")
    )
    changed = {line["id"] for line in work.lines("changes.jsonl")}
    assert changed
    assert all(type(line["new"]) is int for line in work.lines("changes.jsonl"))
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        label = json.loads(new)["label"]
        assert new == old.replace(f'"label" : {given(row)},', f'"label" : {label},')
        assert (label != given(row)) == (f"i{row}" in changed)
    summary = work.summary
    measured = summary["gold"]
    assert measured["measure"] == AbsoluteError.name
    assert measured["labels_before"] == pytest.approx(-0.5)
    assert measured["labels_after"] == pytest.approx(-mean_error(work.labels()))
    assert measured["labels_after"] > measured["labels_before"]
    assert len(summary["rounds"]) == 2
    assert "Minus mean absolute error before -0.5, after " in out


def check_report(work: Ratings, shown: str) -> None:
    """The measure under its own name, labels in the task's words, nothing called a share."""
    assert "| Minus mean absolute error before | -0.5 |" in shown
    assert "-50" not in shown
    assert re.search(r"from `\d of 5` to `\d of 5`", shown)
    page = (work.run_folder / "report.html").read_text()
    assert "Minus mean absolute error after" in page
    assert not re.search(r"[Rr]ight labels (before|after)|share of right labels", shown + page)
    figures = json.loads((work.run_folder / "report.json").read_text())["measures"]
    assert figures["labels_before"]["low"] < -0.5 < figures["labels_before"]["high"] <= 0
    gain = work.summary["gold"]["labels_after"] + 0.5
    assert figures["difference"]["value"] == pytest.approx(gain)
    assert figures["difference"]["low"] > 0
    assert figures["curve"][0]["labels"] == pytest.approx(-0.5)
    first_round = [point["labels"] for point in figures["curve"] if point["round"] == 1]
    after = work.summary["rounds"][0]["gold"]["labels_after"]
    assert first_round[-1] == pytest.approx(after)


def test_plan_run_and_report_with_recorded_ratings(ratings: Ratings) -> None:
    planned = ratings.call("plan", "job.yaml")
    assert re.search(r"\d  \d of 5 -> \d of 5", planned)
    assert not ratings.run_folder.exists()
    check_run(ratings, ratings.call("run", "job.yaml"))
    check_report(ratings, ratings.call("report", "run"))
    assert "Minus mean absolute error" in ratings.call("status", "run")


def test_run_with_a_language_model(ratings: Ratings) -> None:
    with LoopbackServer(rated) as server:
        ratings.llm(server.openai_url, controls="10%")
        planned = ratings.call("plan", "job.yaml")
        assert "A rating is a whole number from 1 to 5" in planned
        assert not server.requests
        check_run(ratings, ratings.call("run", "job.yaml"))
        first = len(server.requests)
        ratings.call("run", "job.yaml", "--set", "output=again")
        assert len(server.requests) == first  # every answer was kept
    user = server.requests[0].user
    assert re.search(r"Candidates, in random order:\n- \d of 5\n- \d of 5\n", user)
    check_report(ratings, ratings.call("report", "run"))


def test_an_answer_off_the_scale_is_asked_again_and_never_taken(ratings: Ratings) -> None:
    def stubborn(received: Received) -> dict[str, object]:
        return {"rationale": "", "rating": 6, "confidence": 1.0}

    with LoopbackServer(stubborn) as server:
        llm = {"model": "openai/toy", "base_url": server.openai_url}
        ratings.write_job(judge=llm, detect={"budget": 5})
        with pytest.raises(lr.Paused, match="6 is no whole number of 1"):
            ratings.call("run", "job.yaml")
    assert ratings.summary["rounds"][0]["reasons"] == {"invalid": 5}
    assert "6 is no whole number of 1..5" in server.requests[-1].body["messages"][-1]["content"]
    assert ratings.labels() == [given(row) for row in range(ROWS)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_formats_come_back_as_they_were(ratings: Ratings, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = ratings.folder / f"data.{kind}"
    if kind == "csv":
        lines = [f'i{row},"{text(row)}", {given(row)}' for row in range(ROWS)]
        path.write_text("id,text,label\n" + "\n".join(lines).replace(", ", ",") + "\n")
    else:
        rows = range(ROWS)
        columns = {"id": [f"i{row}" for row in rows], "text": [text(row) for row in rows]}
        labels = pa.array([given(row) for row in rows], pa.int8())
        pq.write_table(pa.table({**columns, "label": labels}), path)
    data = {"path": path.name, "text": "text", "label": "label", "id": "id"}
    ratings.write_job(data=data)
    ratings.call("run", "job.yaml")
    changed = {line["id"]: line["new"] for line in ratings.lines("changes.jsonl")}
    wanted = [changed.get(f"i{row}", given(row)) for row in range(ROWS)]
    assert wanted != [given(row) for row in range(ROWS)]
    new = ratings.run_folder / f"dataset.{kind}"
    if kind == "csv":
        lines = [f'i{row},"{text(row)}",{wanted[row]}' for row in range(ROWS)]
        assert new.read_text() == "id,text,label\n" + "\n".join(lines) + "\n"
    else:
        found = pq.read_table(new)
        assert found.schema.equals(pq.read_table(path).schema)
        assert found["label"].to_pylist() == wanted


def as_jsonl(row: int, label: Any) -> str:
    return json.dumps({"id": f"i{row}", "gold": label})


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gold.jsonl", lambda row: as_jsonl(row, gold(row))),
        ("text.jsonl", lambda row: as_jsonl(row, str(gold(row)))),
        ("gold.csv", lambda row: f"i{row},{gold(row)}"),
    ],
)
def test_eval_against_gold(ratings: Ratings, name: str, line: Callable[[int], str]) -> None:
    head = ["id,gold"] if name.endswith("csv") else []
    (ratings.folder / name).write_text("\n".join([*head, *map(line, range(0, ROWS, 2))]) + "\n")
    shown = ratings.call("eval", "job.yaml", "--gold", name)
    figures = json.loads((ratings.folder / "run-eval" / "agreement.json").read_text())
    assert figures["measure"] == AbsoluteError.name
    judge = figures["judges"]["recorded/recorded.jsonl"]
    assert judge["measure"]["answered_only"]["value"] == 0
    before = -sum(abs(given(row) - gold(row)) for row in range(0, ROWS, 2)) / 30
    labels = figures["judges"]["given labels"]["measure"]["answered_only"]
    assert labels["value"] == pytest.approx(before)
    assert labels["low"] < before < labels["high"]
    assert "## Minus mean absolute error" in shown
    answers = (ratings.folder / "run-eval" / "answers.jsonl").read_text().splitlines()
    assert {type(json.loads(each)["label"]) for each in answers} == {int}


def fill_sheet(path: Path) -> None:
    rows = read_sheet(path)
    header = list(rows[0])
    for row in rows:
        row["answer"] = str(gold(int(row["id"][1:])))
    write_sheet(path, header, [[row[name] for name in header] for row in rows])


def fill_lines(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["answer"] = gold(int(row["id"][1:]))
    path.write_text("\n".join(map(json.dumps, rows)))


def fill_argilla(path: Path) -> None:
    settings = json.loads(path.with_suffix(".settings.json").read_text())
    options = settings["questions"][0]["settings"]["options"]
    assert [each["value"] for each in options] == ["1", "2", "3", "4", "5"]
    rows = json.loads(path.read_text())
    for row in rows:
        said = options[gold(int(row["id"][1:])) - 1]["value"]
        row["responses"] = {"answer": [{"value": said, "user_id": "ann"}]}
    path.write_text(json.dumps(rows))


def fill_label_studio(path: Path) -> None:
    config = path.with_suffix(".config.xml").read_text()
    assert all(f'<Choice value="{rating}"' in config for rating in range(1, 6))
    rows = json.loads(path.read_text())
    for row in rows:
        choice = {"choices": [str(gold(int(row["data"]["item_id"][1:])))]}
        row["annotations"] = [{"result": [{"from_name": "answer", "value": choice}]}]
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("words", "fill"),
    [
        (("answers.csv",), fill_sheet),
        (("answers.jsonl",), fill_lines),
        (("answers.json", "--format", "argilla"), fill_argilla),
        (("answers.json", "--format", "label-studio"), fill_label_studio),
    ],
)
def test_spot_checks_decide_and_certify(
    ratings: Ratings, words: tuple[str, ...], fill: Callable[[Path], None]
) -> None:
    ratings.call("run", "job.yaml")
    ratings.call("review", "sample", "run", "--size", "30")
    ratings.call("review", "export", "run", "-o", *words)
    fill(ratings.folder / words[0])
    told = ratings.call("review", "import", "run", words[0], "--reviewer", "ann")
    assert told.startswith("30 answers of ann taken over")
    answers = ratings.lines("review/answers.jsonl")
    assert all(line["answer"] == gold(int(line["id"][1:])) for line in answers)
    assert {type(line["answer"]) for line in answers} == {int}
    ratings.call("run", "job.yaml")
    labels = ratings.labels()
    assert all(labels[int(line["id"][1:])] == line["answer"] for line in answers)
    assert ratings.summary["spot_checks"]["answered"] == 30


def test_a_reviewer_is_offered_every_rating_and_answers_by_its_name(ratings: Ratings) -> None:
    from llm_relabel.review import open_review
    from llm_relabel.review.session import Session

    ratings.write_job(judge={"model": "people"}, detect={"budget": 12})
    with pytest.raises(lr.Paused, match="12 questions wait for people"):
        ratings.call("run", "job.yaml")
    session = Session(open_review(ratings.run_folder), "ann")
    offered = [each["name"] for each in session.setup()["labels"]]
    assert offered == ["1", "2", "3", "4", "5"]
    item = session.next()["item"]
    assert set(item["candidates"]) <= set(offered)
    session.answer({"id": item["id"], "seen": 0, "answer": item["candidates"][0]})
    assert session.undo()["item"]["was"]["answer"] == item["candidates"][0]
    for _ in range(12):
        item = session.next()["item"]
        session.answer({"id": item["id"], "seen": item["seen"],
                        "answer": str(gold(int(item["id"][1:])))})  # fmt: skip
    ratings.call("run", "job.yaml")
    changed = ratings.lines("changes.jsonl")
    assert changed
    assert all(line["new"] == gold(int(line["id"][1:])) for line in changed)


def test_rollback(ratings: Ratings) -> None:
    ratings.call("run", "job.yaml")
    first = ratings.lines("changes.jsonl")[0]
    ratings.call("rollback", "run", "--id", first["id"])
    assert ratings.labels()[int(first["id"][1:])] == first["old"]
    told = ratings.call("rollback", "run", "--label", "5")
    assert 5 not in {line["new"] for line in _standing(ratings)}
    assert "changes undone" in told
    ratings.call("rollback", "run", "--all")
    assert (ratings.run_folder / "dataset.jsonl").read_bytes() == ratings.data.read_bytes()
    assert ratings.summary["gold"]["labels_after"] == ratings.summary["gold"]["labels_before"]


def _standing(work: Ratings) -> list[dict[str, Any]]:
    from llm_relabel.run_folder.changes import in_force

    return [dict(line) for line in in_force(work.lines("changes.jsonl"))]


def test_the_small_model_is_scored_on_dev_by_the_measure(ratings: Ratings) -> None:
    dev = [{"text": text(row), "label": gold(row)} for row in range(0, 20)]
    ratings.write_lines("dev.jsonl", dev)
    raw = yaml.safe_load(ratings.job.read_text())
    ratings.write_job(data={**raw["data"], "dev": "dev.jsonl"})
    ratings.call("run", "job.yaml")
    shown = ratings.call("report", "run")
    for entry in ratings.summary["rounds"]:
        assert entry["dev"]["measure"] == AbsoluteError.name
        assert -4 <= entry["dev"]["accuracy"] <= 0
    figures = json.loads((ratings.run_folder / "report.json").read_text())
    assert figures["rounds"][0]["dev"]["value"] == ratings.summary["rounds"][0]["dev"]["accuracy"]
    assert "small model on dev" in shown


def test_own_predictions_and_words_are_the_tasks(ratings: Ratings) -> None:
    rows = [
        {"id": f"i{row}", "pred_probs": [0.8 if p == gold(row) else 0.05 for p in range(1, 6)]}
        for row in range(ROWS)
    ]
    ratings.write_lines("own.jsonl", rows)
    ratings.write_job(model={"predictions": "own.jsonl"})
    check_run(ratings, ratings.call("run", "job.yaml"))
    assert ratings.labels() == [gold(row) for row in range(ROWS)]
