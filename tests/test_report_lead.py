"""What a report and an evaluation say first and last: to people who read nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import toy
from report_forms import forms

import llm_relabel as lr
from llm_relabel.evaluation.conclusion import conclusion
from llm_relabel.report.lead import TOO_HIGH

# Words that need the manual, and settings' names, have no place in a sentence for people.
JARGON = ("ungated", "policy `", "evidence believes", "out of fold", "posterior", "kappa", "prior ")


def without_gold(work: toy.Work, **changes: Any) -> dict[str, Any]:
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    work.write_job(data=data, **changes)
    lr.relabel(work.job)
    return forms(work.run_folder)[0]


def test_without_gold_it_leads_with_doubt_changes_belief_and_what_a_look_would_add(
    work: toy.Work,
) -> None:
    facts = without_gold(work)
    titles = [card["title"] for card in facts["headline"]]
    assert titles[:4] == [
        "Doubtful labels", "Labels changed", "Believed right now", "60 spot-checks would add",
    ]  # fmt: skip
    doubtful, changed, believed, look = facts["headline"][:4]
    flagged = len(work.lines("round-1/issues.jsonl"))
    assert doubtful["value"] == str(flagged)
    assert changed["value"] == str(work.summary["changed"])
    assert believed["value"] == f"{work.summary['believed']['after']:.1%}"
    assert believed["interval"] == f"{work.summary['believed']['before']:.1%} before"
    assert "not a measurement" in believed["said"]
    assert "known to be right or wrong" in look["said"]
    assert titles.index("Questions answered") > 3


def test_filled_labels_are_said_to_be_filled(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    for row in rows[:5]:
        row["label"] = None
    work.write_rows(rows)
    facts = without_gold(work)
    changed = next(card for card in facts["headline"] if card["title"] == "Labels changed")
    assert changed["said"] == "5 of them had no label and were filled"


@pytest.mark.parametrize("policy", ["auto", "agree", "replace"])
def test_no_sentence_needs_the_manual(work: toy.Work, policy: str) -> None:
    facts = without_gold(work, decide={"policy": policy})
    _, page, markdown = forms(work.run_folder)
    prose = markdown.split("## Provenance")[0] + " ".join(facts["notes"])
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL)
    for text in (prose.lower(), shown.split('id="provenance"')[0].lower()):
        for word in JARGON:
            assert word not in text, word


def test_what_is_said_of_beliefs_was_measured() -> None:
    folder = Path(__file__).parent.parent / "evals" / "results"
    found = json.loads((folder / "relabeling.json").read_text())["believed_too_high"]
    assert {
        "judges": found["judges"], "middle": round(100 * found["middle"]),
        "p90": round(100 * found["p90"]),
    } == TOO_HIGH  # fmt: skip


def test_of_many_labels_the_flows_are_told_instead_of_sets_of_one(work: toy.Work) -> None:
    names = [f"intent {n:02d}" for n in range(60)]
    rows = [
        {"id": f"i{n}", "text": f"question {n}", "label": names[n % 60]} for n in range(120)
    ]  # fmt: skip
    work.write_rows(rows)
    answers = [{"id": f"i{n}", "label": names[(n * 7 + 3) % 60]} for n in range(120)]
    work.write_lines("recorded.jsonl", answers)
    probs = [
        {"id": f"i{n}", "pred_probs": [0.9 if c == (n * 7 + 3) % 60 else 0.1 / 59
                                       for c in range(60)]}
        for n in range(120)
    ]  # fmt: skip
    work.write_lines("predictions.jsonl", probs)
    facts = without_gold(
        work, labels=dict.fromkeys(names, "an intent"), decide={"policy": "replace"}
    )
    _, page, markdown = forms(work.run_folder)
    assert facts["sets_in_all"] > 20
    assert len(facts["flows"]) == 20
    for entry in facts["flows"]:
        assert entry["after"] == entry["before"] - entry["left"] + entry["came"]
    sizes = [entry["left"] + entry["came"] for entry in facts["flows"]]
    assert sizes == sorted(sizes, reverse=True)
    for text in (page, markdown):
        assert "The labels that most rows left or came to" in text
        assert "The largest sets of changes" not in text


def compared(*shares: tuple[str, float], items: int = 500, p: float = 0.001) -> dict[str, Any]:
    """Figures as `conclusion` reads them; each is right in a share of the items."""
    pairs = []
    for place, (one, first) in enumerate(shares):
        for other, second in shares[place + 1 :]:
            gap = first - second
            pairs.append({
                "judges": [one, other], "p_corrected": p,
                "difference": {"value": gap, "low": gap - 0.04, "high": gap + 0.04},
            })  # fmt: skip
    judges = {name: {"accuracy": {"abstained_wrong": {"value": v}}} for name, v in shares}
    return {"items": items, "judges": judges, "pairs": pairs}


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            compared(("given labels", 0.64), ("openai/x", 0.712)),
            "The winner is openai/x: 71.2% of 500 items are right with it, 7.2 points more than "
            "with the given labels (95% interval +3.2 to +11.2), and that is proved (p 0.001).",
        ),
        (
            compared(("small model", 0.7), ("openai/x", 0.71), ("b", 0.5), p=0.6),
            "No winner is proved: 71.0% of 500 items are right with openai/x, 1.0 points more "
            "than with the small model (95% interval -3.0 to +5.0), which may be chance (p 0.600).",
        ),
        (
            compared(("a", 0.5), ("b", 0.5), p=1.0),
            "There is no winner: 50.0% of 500 items are right with a and as many with b "
            "(95% interval -4.0 to +4.0).",
        ),
        (
            compared(("a", 0.9), ("b", 0.1), items=10),
            "No winner is proved: 90.0% of 10 items are right with a, 80.0 points more than with b "
            "(95% interval +76.0 to +84.0), and 10 items are too few to tell.",
        ),
        (
            compared(("a", 0.9)),
            "With a 90.0% of 500 items are right; there is nothing to hold it against.",
        ),
        (compared(items=0), "Nothing can be concluded: no item has gold."),
    ],
)
def test_an_evaluation_ends_with_who_wins(figures: dict[str, Any], said: str) -> None:
    assert conclusion(figures) == said


def test_the_command_ends_with_it(work: toy.Work) -> None:
    found = work.run("eval", str(work.job), "--no-model", "--set", "judge.evidence=blind")
    assert found.returncode == 0, found.stderr
    last = found.stdout.strip().splitlines()[-1]
    assert last.startswith("The winner is recorded/")
    assert "and that is proved" in last
