"""Job files and definitions: every mistake is told before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy
import yaml

import llm_relabel as lr
from llm_relabel.config.definitions import load_definitions
from llm_relabel.config.job import Job, load_job, make_job

MINIMAL = {
    "task": "classification",
    "data": {"path": "d.jsonl", "text": "t", "label": "l"},
    "labels": "labels.yaml",
    "output": "run",
}


def job(**changes: object) -> Job:
    return make_job({**MINIMAL, **changes}, folder=Path())


def test_defaults_and_round_trip() -> None:
    made = job()
    assert made.judge.model == "embedded"
    assert (made.rounds, made.seed, made.decide.policy) == (2, 0, "auto")
    assert make_job(yaml.safe_load(made.to_yaml()), folder=Path()) == made
    half = job(detect={"budget": "30%"})
    assert half.detect.budget == pytest.approx(0.3)
    assert make_job(yaml.safe_load(half.to_yaml()), folder=Path()) == half


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"taks": "x"}, "unknown key 'taks' (did you mean 'task'?)"),
        ({"judge": {"modle": "x"}}, "unknown key 'judge.modle' (did you mean 'model'?)"),
        (
            {"task": "taging"},
            "task: must be classification or detection or tagging (found 'taging')",
        ),
        (
            {"judge": {"model": "gpt-4o"}},
            "judge.model: must be `embedded`, `people`, or PROVIDER/NAME",
        ),
        ({"judge": {"max_cost": -1}}, "judge.max_cost: must be US dollars"),
        ({"judge": {"deadline": "soon"}}, "judge.deadline"),
        ({"detect": {"budget": "130%"}}, "above 0% and at most 100% (found '130%')"),
        ({"rounds": 0}, "rounds: Input should be greater than or equal to 1 (found 0)"),
        ({"decide": {"policy": "vote"}}, "decide.policy"),
        ({"data": {"path": "d", "text": "t", "label": "t"}}, "the judge would simply read"),
        ({"data": {"path": "d", "text": "t", "label": "l", "gold": "t"}}, "gold is never shown"),
        ({"data": {"path": "d", "text": "t"}}, "data.label: this key is required"),
    ],
)
def test_a_wrong_job_names_the_value_and_the_fix(changes: dict, told: str) -> None:
    with pytest.raises(lr.JobError) as caught:
        job(**changes)
    assert told in str(caught.value)


def test_all_problems_in_one_message() -> None:
    with pytest.raises(lr.JobError) as caught:
        job(rounds=0, seed="x", judge={"timeout": 0})
    assert str(caught.value).count(";") >= 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1", "must be a mapping"),
        ("task: classification\ntask: ctr\n", "the key 'task' is written twice"),
    ],
)
def test_a_file_that_is_no_job(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(lr.JobError, match=told):
        load_job(path)
    with pytest.raises(lr.JobError, match="does not exist"):
        load_job(tmp_path / "none.yaml")


def test_overrides(work: toy.Work) -> None:
    made = load_job(work.job, ["judge.concurrency=8", "detect.budget=5%", "data.context=[id]"])
    assert (made.judge.concurrency, made.data.context) == (8, ("id",))
    assert made.detect.budget == pytest.approx(0.05)
    for wrong in ("judge.concurrency", "=3", "judge.model.x=1"):
        with pytest.raises(lr.JobError, match="--set"):
            load_job(work.job, [wrong])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({}, "must map label names to definitions"),
        ({"a": "x", "b": ""}, "labels.b.definition"),
        ({"a": "x", "b": {"definition": "y", "exmaples": []}}, "did you mean 'examples'?"),
        ({"a": "x", "b": {"definition": "y", "parent": "b"}}, "is its own parent"),
        ({"a": "x", "b": 7}, "labels.b"),
    ],
)
def test_wrong_definitions(labels: dict, told: str) -> None:
    with pytest.raises(lr.DefinitionsError) as caught:
        load_definitions(labels)
    assert told in str(caught.value)


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029", "\n", "\t", "\ufeff", "\xa0"])
def test_a_run_keeps_definitions_whatever_signs_are_in_them(tmp_path: Path, sign: str) -> None:
    made = load_definitions({f"a{sign}b": f"x{sign}  y", "0": "z"})
    path = tmp_path / "labels.yaml"
    path.write_text(made.to_yaml(), encoding="utf-8")
    assert load_definitions(path) == made


def test_definitions_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(
        "instruction: Decide.\nlabels:\n  True: yes it is\n  2: {definition: one, not: [x]}\n"
    )
    assert load_definitions(path).names == ("true", "2")
    path.write_text("labels:\n  a: x\n  a: y\n")
    with pytest.raises(lr.DefinitionsError, match="written twice"):
        load_definitions(path)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("  NO: negative\n  b: y", "reads the key NO as False; put quotes round it: 'NO'"),
        ("  yes: x\n  b: y", "put quotes round it: 'yes'"),
        ("  null: x\n  b: y", "put quotes round it: 'null'"),
        ("  007: x\n  b: y", "put quotes round it: '007'"),
        ("  true: x\n  1: y", "put quotes round them: 'true', '1'"),
        ("  a: {definition: one, two}\n  b: y", "quotes round"),
        ("  a: one: two\n  b: y", "Put quotes round"),
        ("  a: x\n  b: 12", "quotes round"),
    ],
)
def test_what_yaml_would_make_something_else_is_to_be_quoted(
    tmp_path: Path, labels: str, told: str
) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(f"labels:\n{labels}\n")
    with pytest.raises(lr.DefinitionsError, match="quotes round") as caught:
        load_definitions(path)
    assert told in str(caught.value)


def test_undefined_labels_are_told_with_the_nearest_name(work: toy.Work) -> None:
    work.data.write_text(work.data.read_text().replace('"tool"', '"tol"'))
    with pytest.raises(lr.DefinitionsError) as caught:
        lr.relabel(work.job)
    assert "'tol'" in str(caught.value)
    assert "did you mean 'tool'?" in str(caught.value)
    assert not work.run_folder.exists()


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"model": "openai/gpt-4o-mini"}, "OPENAI_API_KEY"),
        ({"model": "recorded/none.jsonl"}, "does not exist"),
        ({"model": "hf/no/such/folder"}, "hf/no/such/folder"),
        ({"model": "people/x"}, "who answers says so on the review page"),
    ],
)
def test_a_judge_that_cannot_answer_is_told_first(work: toy.Work, judge: dict, told: str) -> None:
    work.write_job(judge={"max_cost": 1.0, **judge})
    with pytest.raises(lr.RelabelError, match=told):
        lr.relabel(work.job)
    assert not (work.run_folder / "job.yaml").exists()


def test_a_paid_judge_without_a_cap_is_refused(
    work: toy.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-not-a-key")
    work.write_job(judge={"model": "openai/gpt-4o-mini"})
    with pytest.raises(lr.JobError, match=r"is paid and judge\.max_cost is not set"):
        lr.relabel(work.job)


def test_recorded_answers_with_problems(work: toy.Work) -> None:
    rows = [{"id": "i0", "label": "fruit"}, {"id": "i0", "label": "tool"}, {"label": "x"},
            {"id": "i3", "label": "fruit", "confidence": 4}]  # fmt: skip
    work.write_lines("recorded.jsonl", rows)
    with pytest.raises(lr.DataError) as caught:
        lr.relabel(work.job)
    for told in ("ids that occur twice: row 2 ('i0')", "without `id` and `label`: row 3",
                 "confidences outside 0..1: row 4"):  # fmt: skip
        assert told in str(caught.value)
    work.write_lines("recorded.jsonl", [{"id": "i0", "label": "Obst"}])
    with pytest.raises(lr.DataError, match="none of the 1 labels is defined"):
        lr.relabel(work.job)
