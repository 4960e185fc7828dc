"""Where the calls go under a budget, what a call may cost, and when it is enough."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import toy
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kills import killed_after
from loopback import LoopbackServer
from toy_judge import right_answer

import llm_relabel as lr
from llm_relabel.config.definitions import load_definitions
from llm_relabel.evidence import views
from llm_relabel.evidence.beliefs import Beliefs
from llm_relabel.evidence.fusion import FusedUnits
from llm_relabel.evidence.gains import expected_gains, severities
from llm_relabel.tasks.classification import Classification
from llm_relabel.units import Labels, Units, column

ROWS = 400
PRICES = {"input": 1.0, "output": 1.0}


@pytest.fixture
def uneven(work: toy.Work) -> toy.Work:
    """400 rows, a third of them wrong; the small model is right as often as it says."""
    rng = np.random.default_rng(5)
    rows, probs = [], []
    for row in range(ROWS):
        label = toy.truth(row) if rng.random() > 0.33 else toy.NAMES[int(rng.integers(3))]
        rows.append({"id": f"i{row}", "text": toy.text(row), "label": label,
                     "gold": toy.truth(row)})  # fmt: skip
        sure = float(rng.uniform(0.36, 0.98))
        others = [name for name in toy.NAMES if name != toy.truth(row)]
        guess = toy.truth(row) if rng.random() < sure else others[int(rng.integers(2))]
        probs.append({
            "id": f"i{row}",
            "pred_probs": [sure if name == guess else (1 - sure) / 2 for name in toy.NAMES],
        })  # fmt: skip
    work.write_rows(rows)
    work.write_lines("predictions.jsonl", probs)
    work.write_lines("recorded.jsonl", [{"id": row["id"], "label": row["gold"]} for row in rows])
    work.write_job()
    return work


def asked(work: toy.Work, number: int = 1) -> list[str]:
    return [line["id"] for line in work.lines(f"round-{number}/asks.jsonl")]


def test_a_budget_goes_where_most_is_mended(uneven: toy.Work) -> None:
    uneven.write_job(rounds=1)
    lr.relabel(uneven.job)
    everything = uneven.summary["gold"]["fixed"]
    flagged = len(uneven.lines("round-1/issues.jsonl"))
    uneven.write_job(rounds=1, detect={"budget": 60}, output="some")
    uneven.run_folder = uneven.folder / "some"
    lr.relabel(uneven.job)
    summary = uneven.summary
    assert summary["rounds"][0]["judged"] == 60
    assert summary["rounds"][0]["deferred"] == flagged - 60
    # By chance it would be the budget's share of what asking about everything fixes.
    assert summary["gold"]["fixed"] > 1.2 * everything * 60 / flagged


def test_a_raised_budget_goes_on_in_the_same_order(uneven: toy.Work) -> None:
    uneven.write_job(rounds=1, detect={"budget": 30})
    lr.relabel(uneven.job)
    before = asked(uneven)
    uneven.write_job(rounds=1, detect={"budget": 130})
    lr.relabel(uneven.job)
    assert len(before) == 30
    assert asked(uneven)[:30] == before
    assert uneven.summary["rounds"][0]["judged"] == len(asked(uneven)) == 130


def test_a_missing_label_comes_first(uneven: toy.Work) -> None:
    rows = [json.loads(line) for line in uneven.data.read_text().splitlines()]
    for row in rows[7:9]:
        row["label"] = None
    uneven.write_rows(rows)
    uneven.write_job(rounds=1, detect={"budget": 2}, decide={"policy": "replace"})
    lr.relabel(uneven.job)
    assert set(asked(uneven)) == {"i7", "i8"}


def test_parts_and_kills_make_no_difference(uneven: toy.Work) -> None:
    with LoopbackServer(right_answer, latency=0.01) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url, "concurrency": 8}
        detect = {"budget": 170, "quality": 0.9}
        uneven.write_job(judge=judge, detect=detect)
        kills = sum(killed_after(uneven, server, requests) for requests in (50, 90))
        assert kills == 2
        assert uneven.run("run", str(uneven.job)).returncode == 0
        resumed = (uneven.run_folder / "dataset.jsonl").read_bytes()
        order = asked(uneven)
        uneven.write_job(judge=judge, detect=detect, output="undisturbed")
        assert uneven.run("run", str(uneven.job)).returncode == 0
    uneven.run_folder = uneven.folder / "undisturbed"
    assert asked(uneven) == order
    assert len(order) == 170
    assert (uneven.run_folder / "dataset.jsonl").read_bytes() == resumed


@pytest.mark.parametrize(("budget", "parts"), [(390, 4), (170, 2), (100, 1)])
def test_the_evidence_is_fitted_once_a_part_and_once_to_decide(
    uneven: toy.Work, monkeypatch: pytest.MonkeyPatch, budget: int, parts: int
) -> None:
    fits: list[int] = []
    really = views.fuse_units

    def counted(units: Units, *rest: Any) -> FusedUnits:
        fits.append(len(units))
        return really(units, *rest)

    monkeypatch.setattr(views, "fuse_units", counted)
    uneven.write_job(rounds=1, detect={"budget": budget, "quality": 0.99})
    lr.relabel(uneven.job)
    assert len(asked(uneven)) == budget
    assert fits == [ROWS] * (parts + 1)


def test_people_are_asked_all_at_once(uneven: toy.Work) -> None:
    uneven.write_job(judge={"model": "people"}, detect={"budget": 250, "quality": 0.99})
    with pytest.raises(lr.Paused, match="250 questions wait"):
        lr.relabel(uneven.job)
    assert len(uneven.lines("people/questions.jsonl")) == 250


def priced(work: toy.Work, server: LoopbackServer, value: float, **detect: Any) -> dict[str, Any]:
    judge = {"model": "openai/toy", "base_url": server.openai_url, "prices": PRICES,
             "max_cost": 5.0}  # fmt: skip
    work.write_job(
        judge=judge, detect={"value_per_fix": value, **detect}, rounds=1, output=f"worth-{value}"
    )
    work.run_folder = work.folder / f"worth-{value}"
    lr.relabel(work.job)
    first: dict[str, Any] = work.summary["rounds"][0]
    return first


def test_a_call_that_costs_more_than_it_mends_is_not_made(uneven: toy.Work) -> None:
    with LoopbackServer(right_answer) as server:
        # A call costs some $0.0003.
        everything = priced(uneven, server, 100.0, quality=0.99)
        some = priced(uneven, server, 0.001, quality=0.99)
        none = priced(uneven, server, 0.0001, quality=0.99)
    assert 0 < some["judged"] < everything["judged"]
    assert none["judged"] == 0
    # Nor is one that could change no label, whatever was answered.
    assert everything["judged"] < ROWS
    assert "0.0000 labels" in everything["stopped"]["why"]
    assert "value_per_fix" in some["stopped"]["why"]
    assert some["stopped"]["expected_fixes"] * 0.001 <= some["stopped"]["price"]
    report = (uneven.run_folder / "report.md").read_text(encoding="utf-8")
    assert "no call pays any more" in report


def test_enough_is_enough(uneven: toy.Work) -> None:
    uneven.write_job(rounds=1, detect={"quality": 0.99})
    lr.relabel(uneven.job)
    all_asked = uneven.summary["rounds"][0]["judged"]
    uneven.write_job(rounds=1, detect={"quality": 0.99, "residual_noise": "15%"}, output="enough")
    uneven.run_folder = uneven.folder / "enough"
    lr.relabel(uneven.job)
    tally = uneven.summary["rounds"][0]
    assert 0 < tally["judged"] < all_asked
    assert tally["stopped"]["believed_noise"] <= 0.15
    assert "spot-checks" in tally["stopped"]["why"]


def test_plan_foresees_the_stop(uneven: toy.Work) -> None:
    judge = {"model": "openai/toy", "base_url": "http://127.0.0.1:9/v1", "prices": PRICES,
             "max_cost": 5.0}  # fmt: skip
    uneven.write_job(judge=judge, detect={"value_per_fix": 0.0001, "quality": 0.99})
    planned = uneven.run("plan", str(uneven.job))
    assert planned.returncode == 0, planned.stderr
    assert "about 0 items" in planned.stdout
    assert "no call pays any more" in planned.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detect": {"value_per_fix": 1.0}}, "is free"),
        ({"detect": {"value_per_fix": 0}}, "detect.value_per_fix"),
        ({"detect": {"residual_noise": 3}}, "must be a share of the labels"),
        ({"detect": {"residual_noise": "5%"}, "decide": {"policy": "replace"}}, "policy fuse"),
        ({"detect": {"severity": "parent"}}, "no label"),
    ],
)
def test_a_rule_that_could_do_nothing_is_refused(
    work: toy.Work, changes: dict[str, Any], words: str
) -> None:
    work.write_job(**changes)
    with pytest.raises(lr.JobError, match=words):
        lr.relabel(work.job)
    assert not work.run_folder.exists()


def test_near_labels_are_asked_about_later(uneven: toy.Work) -> None:
    """With `severity: parent` a mix-up of siblings waits behind one of strangers."""
    labels = {name: {"definition": f"A {name}.", "parent": "thing" if name != "animal" else None}
              for name in toy.NAMES}  # fmt: skip
    (uneven.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))

    def strangers(severity: str) -> float:
        uneven.write_job(rounds=1, detect={"budget": 40, "severity": severity}, output=severity)
        uneven.run_folder = uneven.folder / severity
        lr.relabel(uneven.job)
        issues = {line["id"]: line for line in uneven.lines("round-1/issues.jsonl")}
        pairs = [{issues[i]["current_label"], issues[i]["predicted_label"]} for i in asked(uneven)]
        return sum("animal" in pair for pair in pairs) / len(pairs)

    assert strangers("parent") > strangers("equal")


def test_severity_is_how_little_two_labels_share() -> None:
    parents = {"cat": "animal", "dog": "animal", "oak": "plant", "animal": "thing",
               "plant": "thing", "odd": None}  # fmt: skip
    names = ["cat", "dog", "oak", "animal", "odd"]
    found = severities(names, parents)
    assert np.array_equal(found, found.T)
    assert np.diag(found).tolist() == [0] * 5
    cat = dict(zip(names, found[0].tolist(), strict=True))
    assert cat["animal"] < cat["dog"] < cat["oak"] < cat["odd"] == 1


def test_a_circle_of_parents_ends() -> None:
    assert severities(["a", "b"], {"a": "b", "b": "a"}).tolist() == [[0, 0], [0, 0]]


@given(
    st.integers(2, 5).flatmap(
        lambda classes: st.tuples(
            arrays(np.float64, (classes,), elements=st.floats(0.01, 1)),
            arrays(np.float64, (classes, classes), elements=st.floats(0.01, 1)),
            st.integers(-1, classes - 1),
            st.integers(0, classes - 1),
            st.sampled_from(["fuse", "agree", "replace"]),
        )
    )
)
def test_the_gain_is_what_would_be_mended_on_average(case: Any) -> None:
    q, matrix, now, predicted, policy = case
    q, matrix = q / q.sum(), matrix / matrix.sum(axis=1, keepdims=True)
    classes = len(q)

    names = [str(code) for code in range(classes)]
    task = Classification(load_definitions(dict.fromkeys(names, "x")), pa.string())

    def one(code: int) -> Labels:
        return column([names[code] if code >= 0 else None])

    silent = np.zeros(1, dtype=bool)
    beliefs = Beliefs(
        task, task.units({"given": one(now)}), one(int(q.argmax())), one(int(q.argmax())),
        q[None].astype(np.float32), silent, silent, (), {},
        ({"j, blind": (matrix, 3.0)},), 1.0, (),
    )  # fmt: skip
    found = expected_gains(
        beliefs, one(now), one(predicted), np.array([0]), judge="j", policy=policy
    )
    after = 0.0
    for true in range(classes):
        for said in range(classes):
            label = {
                "replace": said,
                "agree": said if said == predicted else now,
                "fuse": int((q.astype(np.float32) * matrix[:, said]).argmax()),
            }[policy]
            after += q[true] * matrix[true, said] * (label == true)
    before = q[now] if now >= 0 else q.max() if policy == "fuse" else 0
    assert found[0] == pytest.approx(after - before, abs=1e-5)
    if policy == "fuse":
        assert found[0] >= -1e-6
