"""The report: figures against a recount, every edge case in words, hostile data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import toy
from hostile import HOSTILE_DEFINITIONS, corpus
from loopback import LoopbackServer
from report_forms import forms, large
from toy_judge import right_answer

import llm_relabel as lr
from llm_relabel import engine
from llm_relabel.config.job import load_job
from llm_relabel.errors import Paused
from llm_relabel.report import write_report
from llm_relabel.run_folder.folder import RunFolder


def told(facts: dict[str, Any]) -> str:
    return " ".join([facts["sentence"], *facts["notes"]])


def answers(work: toy.Work, **labels: Any) -> None:
    """What the recorded judge says of every row; `label` maps a row to its answer."""
    say = labels["label"]
    rows = [{"id": f"i{row}", "label": say(row), "rationale": "so it is"} for row in
            range(toy.ROWS)]  # fmt: skip
    work.write_lines("recorded.jsonl", rows)


# Figures


def test_measures_equal_a_recount_from_the_files(work: toy.Work) -> None:
    lr.relabel(work.job)
    facts, _, _ = forms(work.run_folder)
    after = work.labels()
    truth = [toy.truth(row) for row in range(toy.ROWS)]
    given = [toy.given(row) for row in range(toy.ROWS)]
    found = facts["measures"]
    rows = list(zip(given, after, truth, strict=True))
    assert found["labels_before"]["value"] == sum(g == t for g, _, t in rows) / toy.ROWS
    assert found["labels_after"]["value"] == sum(a == t for _, a, t in rows) / toy.ROWS
    assert found["fixed"] == sum(g != t == a for g, a, t in rows) > 0
    assert found["broken"] == sum(g == t != a for g, a, t in rows)
    assert found["missed"] == sum(g == a != t for g, a, t in rows)
    assert found["missed"] == found["missed_unflagged"] + found["missed_kept"]
    flagged = {line["id"] for line in work.lines("round-1/issues.jsonl")}
    wrong = {f"i{row}" for row in range(toy.ROWS) if given[row] != truth[row]}
    flagging = found["flagging"]
    assert flagging["precision"]["value"] == len(flagged & wrong) / len(flagged)
    assert flagging["recall"]["value"] == len(flagged & wrong) / len(wrong)
    for figure in (found["labels_after"], flagging["precision"], flagging["average_precision"]):
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert sum(entry["after"] - entry["before"] for entry in facts["by_class"]) == 0
    assert sum(entry["count"] for entry in facts["sets"]) == facts["changes_in_all"]


def test_filled_and_repaired_rows_are_told_apart(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row in rows[:9]:
        row["label"] = None
    work.write_rows(rows)
    lr.relabel(work.job)
    facts, page, markdown = forms(work.run_folder)
    after, truth = work.labels(), [toy.truth(row) for row in range(toy.ROWS)]
    apart = facts["measures"]["by_origin"]
    assert apart["filled"]["rows"] == 9
    filled = sum(a == t for a, t in zip(after[:9], truth[:9], strict=True)) / 9
    assert apart["filled"]["labels_after"]["value"] == filled
    before = sum(toy.given(row) == truth[row] for row in range(9, toy.ROWS)) / (toy.ROWS - 9)
    assert apart["repaired"]["labels_before"]["value"] == before
    assert "Of 9 that had none, now filled" in markdown
    assert "Of these, filled" in page
    # The judge is always right, the labels are not: the stratum is told beside its figures.
    known = facts["judges"][0]["against_gold"]
    assert known["given_labels"]["value"] < known["accuracy"]["answered_only"]["value"] == 1
    assert known["against_labels"] == "better than the labels"
    assert "better than the labels" in markdown
    assert "better than the labels" in page


def test_the_curve_starts_before_and_ends_after(work: toy.Work) -> None:
    lr.relabel(work.job)
    facts, _, _ = forms(work.run_folder)
    curve, found = facts["measures"]["curve"], facts["measures"]
    assert (curve[0]["calls"], curve[0]["labels"]) == (0, found["labels_before"]["value"])
    assert curve[-1]["labels"] == pytest.approx(found["labels_after"]["value"])
    calls = [point["calls"] for point in curve]
    assert calls == sorted(calls)
    asked = sum(len(work.lines(f"round-{r['round']}/asks.jsonl")) for r in facts["rounds"])
    assert calls[-1] == asked == facts["saved"]["calls"]


def test_all_three_forms_show_the_same_figures(work: toy.Work) -> None:
    lr.relabel(work.job)
    facts, page, markdown = forms(work.run_folder)
    assert len(facts["headline"]) >= 8
    for card in facts["headline"]:
        assert card["value"] in page
        assert f"| {card['value']} |" in markdown
        assert card["interval"] in page
    assert facts["provenance"]["settings"]["seed"] == 0
    assert facts["provenance"]["hashes"]["definitions"] in page
    assert facts["provenance"]["hashes"]["definitions"] in markdown
    assert lr.Run(work.run_folder).summary["gold"]["fixed"] == facts["measures"]["fixed"]


def test_the_report_is_the_same_again_without_the_data(work: toy.Work) -> None:
    lr.relabel(work.job)
    names = ("report.html", "report.md", "report.json")
    before = [(work.run_folder / name).read_bytes() for name in names]
    work.data.unlink()
    run = RunFolder(work.run_folder)
    write_report(run, run.summary())
    assert [(work.run_folder / name).read_bytes() for name in names] == before


def test_changed_definitions_are_not_shown_as_the_run_s(work: toy.Work) -> None:
    lr.relabel(work.job)
    facts, page, _ = forms(work.run_folder)
    assert facts["confusable"][0]["definitions"][0].startswith("The text is about")
    labels = work.folder / "labels.yaml"
    labels.write_text(labels.read_text().replace("is about", "may be about"))
    run = RunFolder(work.run_folder)
    write_report(run, run.summary())
    facts, page, _ = forms(work.run_folder)
    assert facts["confusable"][0]["definitions"][0].startswith("The text is about")
    (work.run_folder / "labels.yaml").unlink()  # as in runs that kept none
    write_report(run, run.summary())
    facts, page, _ = forms(work.run_folder)
    assert facts["confusable"][0]["definitions"] == ["", ""]
    assert "changed since the run" in page


def test_rolled_back_changes_leave_the_figures(work: toy.Work) -> None:
    run = lr.relabel(work.job)
    before, _, _ = forms(work.run_folder)
    run.rollback(ids=[run.changes()[0]["id"]])
    after, page, _ = forms(work.run_folder)
    assert after["changes_in_all"] == before["changes_in_all"] - 1
    assert after["totals"]["rolled_back"] == 1
    assert "rolled back by people" in page


# Edge cases, said in words


def test_nothing_changed(work: toy.Work) -> None:
    answers(work, label=toy.given)
    lr.relabel(work.job)
    facts, page, _ = forms(work.run_folder)
    assert "Nothing was changed: after the judge's answers all of the" in told(facts)
    assert facts["changes"] == facts["sets"] == []
    assert facts["measures"]["fixed_of_changed"]["value"] is None
    assert 'id="changes"' not in page


def test_everything_changed_to_one_class(work: toy.Work) -> None:
    row_of = [(f"i{row}", toy.NAMES[1 + row % 2]) for row in range(toy.ROWS)]
    work.write_rows([{"id": i, "text": f"fruit {i}", "label": label} for i, label in row_of])
    work.write_lines(
        "predictions.jsonl", [{"id": i, "pred_probs": [0.9, 0.05, 0.05]} for i, _ in row_of]
    )
    answers(work, label=lambda row: "fruit")
    # Asked for outright: by itself a run follows no judge that says one thing to all.
    work.write_job(
        data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
        decide={"policy": "replace"},
    )
    lr.relabel(work.job)
    facts, _, markdown = forms(work.run_folder)
    for words in ("Every label was changed", "Only one class is left, 'fruit'",
                  "No trusted labels were given", "no LLM was called"):  # fmt: skip
        assert words in told(facts)
    assert facts["measures"] is None
    assert "Every label was changed" in markdown
    assert facts["by_class"][0] == {
        "label": "fruit", "before": 0, "left": 0, "came": toy.ROWS, "after": toy.ROWS,
    }  # fmt: skip


def test_nothing_flagged(work: toy.Work) -> None:
    sure = [
        {"id": f"i{row}", "pred_probs": [0.9 if n == toy.given(row) else 0.05 for n in toy.NAMES]}
        for row in range(toy.ROWS)
    ]
    work.write_lines("predictions.jsonl", sure)
    lr.relabel(work.job)
    facts, _, _ = forms(work.run_folder)
    assert "the small model doubts no label" in told(facts)
    assert facts["saved"]["saved"] is None


def test_multi_label(work: toy.Work) -> None:
    sets = [["fruit"], ["fruit", "tool"], [], ["animal"]]
    rows = [
        {"id": f"i{row}", "text": toy.text(row), "label": sets[row % 4],
         "gold": sets[(row + (row % 5 == 0)) % 4]}
        for row in range(toy.ROWS)
    ]  # fmt: skip
    work.write_rows(rows)
    work.write_lines("predictions.jsonl", [
        {"id": r["id"], "pred_probs": [0.9 if n in r["gold"] else 0.1 for n in toy.NAMES]}
        for r in rows
    ])  # fmt: skip
    answers(work, label=lambda row: rows[row]["gold"])
    lr.relabel(work.job)
    facts, page, _ = forms(work.run_folder)
    assert "may have several labels" in told(facts)
    assert facts["measures"]["labels_after"]["value"] == 1
    assert facts["confusions"] == []
    units = {(entry["old"], entry["new"]) for entry in facts["sets"]}
    assert ("without tool", "with tool") in units
    assert all(entry["against_gold"] == {"fixed": entry["count"]} for entry in facts["sets"])
    assert "with tool" in page


def test_a_paused_run_and_one_that_never_began(work: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        job = load_job(work.llm(server.openai_url, prices={"input": 1, "output": 2},
                                max_cost="none"))  # fmt: skip
        with pytest.raises(Paused):
            engine.run_job(job, pilot_size=4)
    facts, page, _ = forms(work.run_folder)
    assert "The run is paused and not at its end" in told(facts)
    assert "same command" in page
    assert facts["judges"][0]["questions"] == 4
    (work.run_folder / "summary.json").unlink()
    run = RunFolder(work.run_folder)
    write_report(run, run.summary())
    facts, page, _ = forms(work.run_folder)
    assert facts["status"] == "interrupted"
    assert "No round has come far enough" in page


def test_controls_reasons_and_costs_of_an_llm(work: toy.Work) -> None:
    def answer(received: Any) -> dict[str, Any]:
        said = right_answer(received)
        number = int(re.search(r"number (\d+)", received.user)[1])
        return {**said, "label": "NONE_OF_THESE"} if number % 10 == 5 else said

    with LoopbackServer(answer) as server:
        work.write_job(
            judge={"model": "openai/toy", "base_url": server.openai_url, "controls": 0.5,
                   "prices": {"input": 1, "output": 2}, "max_cost": "none"},
        )  # fmt: skip
        summary = lr.relabel(work.job).summary
    facts, page, markdown = forms(work.run_folder)
    judge = facts["judges"][0]
    assert judge["cost"] == summary["cost"] > 0
    assert judge["tokens"]["input"] > 0
    assert judge["seconds"]["p50"] <= judge["seconds"]["p95"]
    reason = next(entry for entry in judge["reasons"] if entry["reason"] == "none_fits")
    assert reason["count"] == judge["abstained"] > 0
    assert reason["low"] < reason["rate"] < reason["high"]
    assert "abstained: none fits" in page
    assert judge["answered"] + judge["abstained"] + judge["failed"] == judge["questions"]
    assert facts["controls"][0]["repeat_consistency"]["rate"] == 1
    assert "the same answer when asked again" in page
    assert "the same answer when asked again: 100.0%" in markdown


# Size


def test_many_classes_are_cut_with_a_note(tmp_path: Path) -> None:
    work = large(tmp_path, 1500, 150)
    lr.relabel(work.job)
    facts, page, _ = forms(work.run_folder)
    assert len(facts["by_class"]) == 150
    assert len(facts["confusions"][0]["labels"]) + facts["confusions"][0]["left_out"] == 150
    assert f"The 20 of {len(facts['by_class'])} classes that changed most" in page
    assert len(facts["changes"]) == 400 < facts["changes_in_all"]
    assert f"400 of {facts['changes_in_all']:,} changes" in page


# The page


def test_hostile_labels_and_texts_stay_text(work: toy.Work) -> None:
    names = list(HOSTILE_DEFINITIONS)
    size = len(names)
    (work.folder / "labels.yaml").write_text(json.dumps({"labels": HOSTILE_DEFINITIONS}))
    families = ("markup", "templates", "bidi", "controls", "unicode", "mixed")
    texts = [item.text for item in corpus() if item.family in families and item.text.strip()]
    work.write_rows([
        {"id": f"i{row}", "text": f"{row} {text[:2000]}", "label": names[row % size]}
        for row, text in enumerate(texts)
    ])  # fmt: skip
    work.write_lines("predictions.jsonl", [
        {"id": f"i{row}", "pred_probs": [0.3 if k == (row + 1) % size else 0.05 for k in
                                         range(size)]}
        for row in range(len(texts))
    ])  # fmt: skip
    work.write_lines("recorded.jsonl", [
        {"id": f"i{row}", "label": names[(row + 1) % size], "rationale": text[:2000]}
        for row, text in enumerate(texts)
    ])  # fmt: skip
    work.write_job(data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"})
    assert lr.relabel(work.job).summary["changed"] == len(texts)
    _, page, _ = forms(work.run_folder)
    assert page.count("<script") == page.count("</script") == 1
    assert page.count("<style") == page.count("</style") == 1
    assert "<img" not in page
    assert " style=" not in re.sub(r">[^<]*<", "><", page)
