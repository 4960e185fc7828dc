"""Whole jobs with the judge in process, in the program and from Python, without a network."""

from __future__ import annotations

import tiny_lm
import toy

import llm_relabel as lr
from llm_relabel import engine
from llm_relabel.config.job import load_job
from llm_relabel.progress import Silent


def test_a_job_runs_end_to_end(work: toy.Work) -> None:
    tiny_lm.save(work.folder / "model")
    work.write_job(judge={"model": "hf/model"}, decide={"policy": "replace"})
    plan = engine.plan_job(load_job(work.job), Silent(), prompts=1).told()
    assert "hf/model: 18 calls" in plan
    assert "about $0.00" in plan

    done = work.run_anew("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    verdicts = work.lines("round-1/verdicts.jsonl")
    assert {one["outcome"] for one in verdicts} <= {"answer", "abstain"}
    answered = [one for one in verdicts if one["outcome"] == "answer"]
    assert {one["answer"] for one in answered} <= set(toy.NAMES)
    assert len({one["confidence"] for one in answered}) > 5
    assert all(0 < one["confidence"] <= 1 and one["tokens"]["input"] for one in verdicts)
    summary = work.summary
    assert (summary["status"], summary["cost"]) == ("done", 0)
    assert summary["tokens"]["output"] == 0 < summary["tokens"]["input"]

    # The same model has nothing more to say; another one under its name is asked.
    again = lr.relabel(work.job, overrides=["output=again"])
    assert again.summary["calls"] == 0 < summary["calls"]
    moved = [
        [(one["id"], one["new"]) for one in run.changes()]
        for run in (again, lr.Run(work.run_folder))
    ]
    assert moved[0] == moved[1] != []
    tiny_lm.save(work.folder / "model", seed=1)
    other = lr.relabel(work.job, overrides=["output=other"])
    assert other.summary["calls"] > 0


def test_a_multi_label_job_keeps_what_cannot_be_asked(work: toy.Work) -> None:
    long = 17  # among the first flagged, and longer than the model reads
    work.write_rows(
        [
            {"id": f"i{row}", "label": [toy.given(row)],
             "text": toy.text(row) * (1000 if row == long else 1)}
            for row in range(toy.ROWS)
        ]
    )  # fmt: skip
    tiny_lm.save(work.folder / "model", "gpt2", template=None)
    work.write_job(
        data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
        judge={"model": "hf/model"},
        decide={"policy": "replace"},
        rounds=1,
    )
    run = lr.relabel(work.job)
    assert run.summary["status"] == "done"
    verdicts = {one["id"]: one for one in work.lines("round-1/verdicts.jsonl")}
    failed = verdicts.pop(f"i{long}")
    assert (failed["outcome"], failed["reason"]) == ("failed", "refused")
    assert "judge.max_item_tokens" in failed["error"]
    assert work.labels()[long] == [toy.given(long)]
    assert {one["outcome"] for one in verdicts.values()} <= {"answer", "abstain"}
    answered = [one["answer"] for one in verdicts.values() if one["outcome"] == "answer"]
    assert all(set(labels) <= set(toy.NAMES) for labels in answered)
