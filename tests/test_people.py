"""The judge `people`: questions wait in the run folder, answers decide, and never certify."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy
from loopback import LoopbackServer, Received
from people_answers import say, truths
from reviewing import fill

import llm_relabel as lr
from llm_relabel.cli import main
from llm_relabel.files.sheets import read_sheet
from llm_relabel.review import Questions, Review, draw_sample, read_answers

pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")  # the sdk's own

FLAGGED = [row for row in range(toy.ROWS) if toy.predicted(row) != toy.given(row)]
PEOPLE = {"model": "people"}


def paused(work: toy.Work, **job: Any) -> Questions:
    """A job with people as judge, run until they are waited for."""
    work.write_job(**{"judge": PEOPLE, **job})
    return waited_for(work)


def waited_for(work: toy.Work) -> Questions:
    with pytest.raises(lr.Paused, match=r"questions wait for people.*review serve"):
        lr.relabel(work.job)
    return Questions(work.run_folder)


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    work: toy.Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in this process; gives the exit code and all that was said."""
    monkeypatch.chdir(work.folder)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["llm-relabel", *words])
        terminate = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            main()
        signal.signal(signal.SIGTERM, terminate)
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out + told.err

    return run


def test_a_run_waits_for_people_and_goes_on_with_their_answers(
    work: toy.Work, command: Command
) -> None:
    """The commands a person gives, with a sheet for the page."""
    work.write_job(judge=PEOPLE)
    _, told = command("plan", "job.yaml")
    assert f"People are asked {len(FLAGGED)} questions on the review page" in told
    assert "No LLM is called: no tokens, no money." in told
    code, told = command("run", "job.yaml")
    assert code == 3
    assert f"{len(FLAGGED)} questions wait for people" in told
    assert f"llm-relabel review serve {work.run_folder}" in told
    assert f"{len(FLAGGED)} questions wait for people now" in command("status", "run")[1]
    assert command("review", "export", "run", "-o", "sheet.csv")[0] == 0
    sheet = read_sheet(work.folder / "sheet.csv")
    # The worst first, with what it has and what the small model says, in the ask's own order.
    asks = work.lines("round-1/asks.jsonl")
    assert [row["id"] for row in sheet] == [line["id"] for line in asks]
    assert [row["candidates"] for row in sheet] == [" | ".join(a["candidates"]) for a in asks]
    first_is_old = {a["candidates"][0] == toy.given(int(a["id"][1:])) for a in asks}
    assert first_is_old == {True, False}, "the place tells which of them is the old label"
    said = {f"i{row}": toy.truth(row) for row in FLAGGED}
    fill(work.folder / "sheet.csv", dict(list(said.items())[:5]))
    _, told = command("review", "import", "run", "sheet.csv", "--reviewer", "ann")
    assert "5 answers of ann taken over" in told
    assert command("run", "job.yaml")[0] == 3
    # What is answered is decided, the rest waits.
    assert work.summary["rounds"][0]["judged"] == 5
    assert work.summary["changed"] == sum(toy.given(r) != toy.truth(r) for r in FLAGGED[:5]) > 0
    assert f"{len(FLAGGED) - 5} questions wait for people now" in command("status", "run")[1]
    fill(work.folder / "sheet.csv", said)
    assert command("review", "import", "run", "sheet.csv", "--reviewer", "ann")[0] == 0
    assert "People have answered all questions" in command("status", "run")[1]
    code, told = command("run", "job.yaml")
    assert code == 0
    assert "people judged, on the review page; no LLM was called" in told
    assert work.labels() == [toy.truth(row) for row in range(toy.ROWS)]
    summary = work.summary
    # Six that the small model still doubts are flagged again, and nobody is asked again.
    assert (summary["calls"], summary["cached"]) == (len(FLAGGED), 6)
    assert (summary["status"], summary["policy"], summary["cost"]) == ("done", "replace", 0)
    assert summary["judge"]["is_llm"] is False
    assert "wait for people" not in command("status", "run")[1]
    assert (
        "answers decide, and nothing measures how many labels are right"
        in command("report", "run")[1]
    )
    changes = work.lines("changes.jsonl")
    assert {(line["source"], line["judge"]) for line in changes} == {("judge", "people")}
    assert {line["why"] for line in changes} == {"answered by ann"}
    assert command("rollback", "run", "--source", "judge")[0] == 0
    assert work.labels() == [toy.given(row) for row in range(toy.ROWS)]


def test_a_later_round_asks_only_what_is_new(work: toy.Work) -> None:
    review = paused(work)
    first = truths(review)
    say(review, first)
    # By then the small model doubts two rows that it did not doubt before.
    new = [row for row in range(toy.ROWS) if row not in FLAGGED][:2]
    probs = [[0.8 if n == toy.predicted(row) else 0.1 for n in toy.NAMES] for row in range(60)]
    for row in new:
        probs[row] = probs[row][1:] + probs[row][:1]
    work.write_lines("predictions.jsonl", [{"id": f"i{r}", "pred_probs": p}
                                           for r, p in enumerate(probs)])  # fmt: skip
    review = waited_for(work)
    assert work.summary["rounds"][0]["judged"] == len(first)
    assert set(review.asked_ids()) - set(first) == {f"i{row}" for row in new}
    assert review.folder.waiting() == 2
    assert review.folder.asked()[f"i{new[0]}"].round == 2
    say(review, {f"i{row}": toy.given(row) for row in new})
    assert lr.relabel(work.job).summary["status"] == "done"


def test_people_count_by_majority_and_may_change_their_minds(work: toy.Work) -> None:
    review = paused(work, rounds=1)
    ids = review.asked_ids()
    say(review, dict.fromkeys(ids, "tool"), "ann", "a tool, surely")
    say(review, {ids[0]: "fruit", ids[1]: "fruit", ids[2]: None, ids[3]: None}, "bob")
    say(review, {ids[1]: "fruit", ids[2]: None}, "cy")
    lr.relabel(work.job)
    verdicts = {line["id"]: line for line in work.lines("round-1/verdicts.jsonl")}
    assert [verdicts[item]["answer"] for item in ids[:5]] == [None, "fruit", None, None, "tool"]
    assert verdicts[ids[0]]["reason"] == verdicts[ids[2]]["reason"] == "unsure"
    assert verdicts[ids[0]]["rationale"] == "people disagree: tool 1, fruit 1"
    assert verdicts[ids[4]]["rationale"] == "a tool, surely"
    assert {line["confidence"] for line in verdicts.values()} == {None}
    assert work.summary["rounds"][0]["abstained"] == 3
    before = work.labels()
    # The same again changes nothing and writes no verdict.
    lr.relabel(work.job)
    assert len(work.lines("round-1/verdicts.jsonl")) == len(ids)
    # A later answer breaks the tie, and another is taken back.
    say(review, {ids[0]: "animal"}, "ann")
    with review.folder.held():
        review.folder.append_undo(review.folder.asked()[ids[0]], "bob")
        for name in ("ann", "bob", "cy"):
            review.folder.append_undo(review.folder.asked()[ids[1]], name)
    waited_for(work)
    row, withdrawn = int(ids[0][1:]), int(ids[1][1:])
    assert work.labels()[row] == "animal"
    assert work.labels()[withdrawn] == toy.given(withdrawn)
    say(review, {ids[1]: "fruit"})
    lr.relabel(work.job)
    assert [a for n, a in enumerate(work.labels()) if n != row] == [
        b for n, b in enumerate(before) if n != row
    ]


def test_answers_as_judge_never_pass_for_spot_checks(work: toy.Work) -> None:
    review = paused(work, rounds=1)
    say(review, truths(review))
    lr.relabel(work.job)
    assert work.summary["spot_checks"] is None
    spot_checks = Review(work.run_folder)
    draw_sample(spot_checks, 60)  # every row, so each question is a spot-check as well
    assert set(review.asked_ids()) <= set(spot_checks.asked_ids())
    lr.relabel(work.job)
    assert work.summary["spot_checks"] is None, "answers of the judge were taken for spot-checks"
    assert read_answers(review.run, review.task) == []
    both = review.asked_ids()[0]
    say(spot_checks, {both: "animal" if toy.truth(int(both[1:])) != "animal" else "tool"}, "zoe")
    others = [item for item in spot_checks.asked_ids() if item != both][:10]
    say(spot_checks, {item: toy.truth(int(item[1:])) for item in others}, "zoe")
    assert len(review.folder.lines()) == len(review.asked_ids())
    lr.relabel(work.job)
    checks = work.summary["spot_checks"]
    assert (checks["answered"], checks["drawn_at_random"]) == (11, 11)
    # The blind look outranks what the judge said.
    assert work.labels()[int(both[1:])] == spot_checks.folder.lines()[0]["answer"]
    assert {line["blind"] for line in review.folder.lines()} == {False}
    assert {line["blind"] for line in spot_checks.folder.lines()} == {True}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "label-studio", "argilla"])
def test_files_of_questions_come_back_as_questions_only(
    work: toy.Work, command: Command, kind: str
) -> None:
    review = paused(work, rounds=1)
    draw_sample(Review(work.run_folder), 60)
    name = "out.csv" if kind == "csv" else "out.json"
    assert command("review", "export", "run", "--format", kind, "-o", name)[0] == 0
    item = review.asked_ids()[0]
    shown = work.lines("round-1/asks.jsonl")[0]["candidates"]
    answer_in(work.folder / name, kind, item, shown)
    back = ("review", "import", "run", name, "--reviewer", "ann")
    code, told = command(*back, "--spot-checks")
    assert code == 2
    assert "import it with --judge" in told
    code, told = command(*back)
    assert code == 2
    assert "say with --judge or --spot-checks" in told
    code, told = command(*back, "--judge")
    assert "1 answers of ann taken over" in told
    [line] = review.folder.lines()
    assert (line["id"], line["answer"], line["blind"]) == (item, "animal", False)
    assert not Review(work.run_folder).folder.answers_path.exists()


def answer_in(path: Path, kind: str, item: str, shown: list[str]) -> None:
    """Answer one item of an exported file, as the tool does, and see its candidates there."""
    words = " | ".join(shown)
    if kind == "csv":
        fill(path, {item: "animal"})
        assert read_sheet(path)[0]["candidates"] == words
        return
    if kind == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert (rows[0]["id"], rows[0]["candidates"]) == (item, shown)
        rows[0]["answer"] = "animal"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    rows = json.loads(path.read_text())
    if kind == "argilla":
        argilla = pytest.importorskip("argilla")
        record = argilla.Record.from_dict(rows[0])
        assert (record.id, record.fields["candidates"]) == (item, words)
        said = [
            argilla.Response("answer", "animal", user_id="7b9fae42-2b2b-4b3e-9a51-000000000001")
        ]
        made = argilla.Record(id=record.id, fields=record.fields, responses=said)
        path.write_text(json.dumps([made.to_dict()], default=str))
        return
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    converter = pytest.importorskip("label_studio_sdk.converter")
    config = path.with_suffix(".config.xml").read_text()
    labeling = interface.LabelInterface(config)
    labeling.validate()
    assert all(labeling.validate_task(task) for task in rows)
    assert rows[0]["data"]["candidates"] == words
    regions = [region._dict() for region in labeling.create_regions({"answer": "animal"})]
    for number, task in enumerate(rows, start=1):
        task |= {"id": number, "annotations": []}
    rows[0]["annotations"] = [{"id": 1, "result": regions, "completed_by": 1, "lead_time": 1,
                               "was_cancelled": False}]  # fmt: skip
    path.write_text(json.dumps(rows))
    made = converter.Converter(config, project_dir=str(path.parent))
    # The flat form: what marks the file must come through there, too.
    made.convert(str(path), str(path.parent / "flat"), "JSON_MIN", is_dir=False)
    shutil.move(next((path.parent / "flat").iterdir()), path)


def test_the_llm_does_its_part_before_people_are_waited_for(
    work: toy.Work, command: Command
) -> None:
    def hesitant(received: Received) -> dict[str, Any]:
        row = int(received.user.split(" number ")[1].split()[0])
        return {"rationale": "", "label": toy.truth(row), "confidence": 0.9 if row % 2 else 0.3}

    with LoopbackServer(hesitant) as server:
        first = {"model": "openai/x", "base_url": server.openai_url}
        work.write_job(judge={**first, "escalate": [PEOPLE]}, decide={"policy": "replace"})
        told = command("plan", "job.yaml")[1]
        assert f"People are asked at most {len(FLAGGED)} questions" in told
        review = waited_for(work)
        assert len(server.requests) == len(FLAGGED)
        assert {int(item[1:]) for item in review.asked_ids()} == {r for r in FLAGGED if r % 2 == 0}
        assert work.summary["rounds"][0]["judged"] == sum(row % 2 for row in FLAGGED)
        say(review, truths(review))
        summary = lr.relabel(work.job).summary
        assert summary["judge"]["note"] == "an LLM judged: openai/x; besides, people"
        assert work.labels() == [toy.truth(row) for row in range(toy.ROWS)]
        assert len(server.requests) == len(FLAGGED)


def test_a_panel_with_people(work: toy.Work) -> None:
    """Both are asked about everything, and the LLM does not wait for people."""
    with LoopbackServer() as server:
        first = {"model": "openai/x", "base_url": server.openai_url, "concurrency": 2}
        review = paused(work, judge={**first, "panel": [PEOPLE]}, rounds=1)
        assert len(server.requests) == len(FLAGGED) == len(review.asked_ids())
        assert work.summary["rounds"][0]["judged"] == 0
        say(review, dict.fromkeys(review.asked_ids()))
        summary = lr.relabel(work.job).summary
        assert len(server.requests) == len(FLAGGED)
    assert summary["status"] == "done"
    assert [each["model"] for each in summary["judges"]] == ["openai/x", "people"]


def test_blind_questions_show_nothing(work: toy.Work) -> None:
    review = paused(work, judge={**PEOPLE, "evidence": "blind"})
    assert {item.candidates for item in review.shown(review.asked_ids())} == {()}
    assert {tuple(q.candidates) for q in review.folder.asked().values()} == {()}


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"model": "people", "samples": 3}, "calls none and is asked once"),
        ({"model": "people", "controls": "5%"}, "controls puts questions to a language model"),
        ({"model": "people", "batch": True}, "'people' has no batch API"),
        ({"model": "people", "panel": [PEOPLE]}, "`people` is named twice"),
        (
            {"model": "people", "escalate": [{"model": "openai/x"}]},
            "'openai/x' would be asked afte",
        ),
        ({"model": "embedded", "escalate": [PEOPLE, {"model": "openai/x"}]}, "last in escalate"),
        ({"model": "embedded", "panel": [PEOPLE], "escalate": [{"model": "openai/x"}]}, "outrank"),
    ],
)
def test_settings_that_cannot_be_are_told(work: toy.Work, judge: Any, told: str) -> None:
    work.write_job(judge=judge)
    with pytest.raises(lr.JobError) as caught:
        lr.relabel(work.job)
    assert told in str(caught.value)
    assert not work.run_folder.exists()


def test_eval_says_what_to_do_instead(work: toy.Work, command: Command) -> None:
    work.write_job(judge=PEOPLE)
    for words in (["--judge", "people"], []):
        code, told = command("eval", "job.yaml", *words)
        assert code == 2
        assert "cannot be asked by `eval`; name the judges" in told
