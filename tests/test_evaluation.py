"""`llm-relabel eval`: judges, prompts and definitions against gold, through the public surface."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from loopback import Fault, LoopbackServer, Received

import llm_relabel as lr


def row_of(user: str) -> int:
    found = re.search(r"number (\d+)", user)
    assert found is not None
    return int(found[1])


def answer(label: str, confidence: float = 0.9) -> dict[str, Any]:
    return {"rationale": "as scripted", "label": label, "confidence": confidence}


def candidates_of(user: str) -> list[str]:
    return re.findall(r"^- (\w+)$", user, re.MULTILINE)


def truthful(received: Received) -> dict[str, Any]:
    """Right on nine of ten items, and sure of those."""
    row = row_of(received.user)
    if row % 10 == 3:
        return answer(toy.truth(row + 1), 0.4)
    return answer(toy.truth(row))


@pytest.fixture
def gold(work: toy.Work) -> Path:
    rows = [{"id": f"i{row}", "gold": toy.truth(row)} for row in reversed(range(toy.ROWS))]
    return work.write_lines("gold.jsonl", rows)


def figures_of(work: toy.Work) -> dict[str, Any]:
    path = work.folder / "run-eval" / "agreement.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def right_of(found: dict[str, Any], name: str) -> float:
    return float(found["judges"][name]["accuracy"]["abstained_wrong"]["value"])


def test_judges_labels_and_model_are_held_against_gold_by_id(work: toy.Work, gold: Path) -> None:
    with LoopbackServer(answer=truthful) as server:
        work.llm(server.openai_url, panel=[{"model": "recorded/recorded.jsonl"}])
        done = work.run("eval", str(work.job), "--gold", str(gold))
        assert done.returncode == 0, done.stderr
        asked = len(server.requests)
        again = work.run("eval", str(work.job), "--gold", str(gold))
        assert again.returncode == 0, again.stderr
        assert len(server.requests) == asked, "verdicts are cached"
    found = figures_of(work)
    assert asked == found["items"] == toy.ROWS
    assert right_of(found, "openai/toy") == pytest.approx(0.9)
    assert right_of(found, "recorded/recorded.jsonl") == 1.0
    given_right = sum(toy.given(row) == toy.truth(row) for row in range(toy.ROWS)) / toy.ROWS
    assert right_of(found, "given labels") == pytest.approx(given_right)
    assert right_of(found, "small model") == pytest.approx(0.9)
    own = found["judges"]["openai/toy"]
    assert own["confidence"]["auroc"]["value"] == 1.0
    assert own["took"]["answered"] == toy.ROWS
    pair = next(p for p in found["pairs"] if p["judges"] == ["given labels", "openai/toy"])
    assert pair["only_first"] + pair["only_second"] > 0
    assert 0 < pair["p_corrected"] <= 1
    assert "| openai/toy | 90.0% [" in done.stdout
    lines = (work.folder / "run-eval" / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 2 * toy.ROWS
    assert not json.loads(lines[toy.ROWS - 57])["right"]  # i3
    assert not (work.folder / "run").exists(), "an evaluation is no run"


def test_answers_are_those_of_the_run_they_are_evaluated_in(work: toy.Work, gold: Path) -> None:
    """What `eval` wrote can be evaluated again as answers collected elsewhere."""
    agreement = lr.evaluate(work.job, gold)
    answers = agreement.path / "answers.jsonl"
    again = lr.evaluate(work.job, gold, recorded=[answers], output=work.folder / "again")
    ours = agreement.figures["judges"]["recorded/recorded.jsonl"]
    theirs = again.figures["judges"]["recorded/run-eval/answers.jsonl"]
    assert ours["confusion"] == theirs["confusion"]
    assert "recorded/recorded.jsonl" not in again.figures["judges"]


def test_abstained_and_failed_stand_beside_both_readings(work: toy.Work, gold: Path) -> None:
    def mixed(received: Received) -> Any:
        row = row_of(received.user)
        if row % 10 == 0:
            return answer("CANNOT_TELL")
        return Fault(text="nonsense") if row % 10 == 1 else answer(toy.truth(row))

    with LoopbackServer(answer=mixed) as server:
        work.llm(server.openai_url, breakers={"invalid": None, "failed": None})
        found = lr.evaluate(work.job, gold).figures["judges"]["openai/toy"]
    assert (found["took"]["abstained"], found["took"]["failed"]) == (6, 6)
    assert found["took"]["reasons"] == {"unsure": 6, "invalid": 6}
    assert found["coverage"]["value"] == pytest.approx(0.8)
    assert found["accuracy"]["abstained_wrong"]["value"] == pytest.approx(0.8)
    assert found["accuracy"]["answered_only"]["value"] == 1.0


def test_a_judge_that_says_one_thing_is_told(work: toy.Work, gold: Path) -> None:
    def dull(received: Received) -> dict[str, Any]:
        return answer("tool" if row_of(received.user) % 29 else "fruit")

    with LoopbackServer(answer=dull) as server:
        work.llm(server.openai_url)
        done = work.run("eval", str(work.job), "--gold", str(gold))
        assert done.returncode == 0, done.stderr
        assert re.search(r"says tool for \d+ of the \d+ items .*it hardly looks", done.stdout)
    with LoopbackServer(answer=lambda received: answer(toy.truth(row_of(received.user)))) as server:
        work.llm(server.openai_url)
        assert "hardly looks" not in work.run("eval", str(work.job), "--gold", str(gold)).stdout


def test_a_judge_may_be_kept_from_saying_that_no_label_fits(work: toy.Work, gold: Path) -> None:
    def told(received: Received) -> dict[str, Any]:
        assert received.schema is not None
        assert "NONE_OF_THESE" not in json.dumps([received.schema, received.body["messages"]])
        assert "CANNOT_TELL" in json.dumps(received.schema)
        return answer(toy.truth(row_of(received.user)))

    with LoopbackServer(answer=told) as server:
        work.llm(server.openai_url, none=False)
        assert work.run("eval", str(work.job), "--gold", str(gold)).returncode == 0
        assert server.requests


def test_a_bundled_form_of_the_prompt_is_tried_by_its_name(work: toy.Work, gold: Path) -> None:
    def short_only(received: Received) -> dict[str, Any]:
        assert received.schema is not None
        row = row_of(received.user)
        if "rationale" in received.schema["properties"]:
            return answer(toy.truth(row + row % 2))
        return {"label": toy.truth(row), "confidence": 0.9}

    with LoopbackServer(answer=short_only) as server:
        work.llm(server.openai_url)
        done = work.run("eval", str(work.job), "--gold", str(gold), "--prompt", "short")
        assert done.returncode == 0, done.stderr
        assert right_of(figures_of(work), "openai/toy, short") == 1.0
        refused = work.run("eval", str(work.job), "--gold", str(gold), "--prompt", "shart")
    assert refused.returncode == 2
    assert "bundled form short" in refused.stderr
    assert "did you mean 'short'" in refused.stderr


def test_a_template_may_ask_for_the_label_first(work: toy.Work, gold: Path) -> None:
    source = (Path(lr.__file__).parent.parent / "prompts" / "classification.jinja").read_text()
    first = work.folder / "first.jinja"
    first.write_text('{% set answer = "label_first" %}' + source)

    def said(received: Received) -> dict[str, Any]:
        assert received.schema is not None
        assert list(received.schema["properties"]) == ["label", "confidence", "rationale"]
        return answer(toy.truth(row_of(received.user)))

    with LoopbackServer(answer=said) as server:
        work.llm(server.openai_url, template=str(first))
        assert work.run("eval", str(work.job), "--gold", str(gold)).returncode == 0
        first.write_text('{% set answer = "essay" %}' + source)
        done = work.run("eval", str(work.job), "--gold", str(gold))
    assert done.returncode == 2
    assert "knows label_first, label_only" in done.stderr


def test_prompts_and_definitions_are_compared(work: toy.Work, gold: Path) -> None:
    template = (Path(lr.__file__).parent.parent / "prompts" / "classification.jinja").read_text()
    (work.folder / "terse.jinja").write_text(template.replace("You check", "TERSE. You check"))
    labels = {name: f"BETTER words for {name}." for name in reversed(toy.NAMES)}
    (work.folder / "better.yaml").write_text(yaml.safe_dump({"labels": labels}, sort_keys=False))

    def by_prompt(received: Received) -> dict[str, Any]:
        system = received.body["messages"][0]["content"]
        row = row_of(received.user)
        if "BETTER" in system:
            return answer(toy.truth(row))
        return answer(toy.truth(row + (row % 5 == 0 if "TERSE" in system else row % 2)))

    with LoopbackServer(answer=by_prompt) as server:
        work.llm(server.openai_url)
        done = work.run(
            "eval", str(work.job), "--gold", str(gold), "--prompt", "terse.jinja",
            "--prompt", "better.yaml",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = figures_of(work)
    assert right_of(found, "openai/toy, the job's own") == pytest.approx(0.5)
    assert right_of(found, "openai/toy, terse.jinja") == pytest.approx(0.8)
    assert right_of(found, "openai/toy, better.yaml") == 1.0


def lean(received: Received) -> dict[str, Any]:
    """Right when it sees no label; else it takes a shown label other than the truth."""
    row = row_of(received.user)
    shown = [label for label in candidates_of(received.user) if label != toy.truth(row)]
    return answer(shown[0] if shown else toy.truth(row))


@pytest.mark.parametrize(("judge", "says"), [(lean, "Use blind"), (truthful, "Use referenced")])
def test_anchoring(work: toy.Work, gold: Path, judge: Any, says: str) -> None:
    with LoopbackServer(answer=judge) as server:
        work.llm(server.openai_url)
        agreement = lr.evaluate(work.job, gold, anchoring=50)
    rates = agreement.figures["anchoring"]["the job's own"]["judges"]["openai/toy"]
    assert rates["advice"].startswith(says)
    assert says in agreement.markdown
    assert rates["repeat_flips"]["value"] == 0.0
    assert 200 < rates["took"]["calls"] + rates["took"]["cached"] <= 250
    assert rates["accuracy"]["blind"]["of"] == 50
    if judge is lean:
        assert rates["pull_to_old"]["value"] == 1.0
        assert "-100.0% right with the labels shown" in rates["advice"]
        assert rates["planted_kept"]["value"] > 0.5 > rates["planted_given_blind"]["value"]
    else:
        assert rates["pull_to_old"]["value"] == 0.0
        assert rates["planted_kept"]["value"] < 0.2


def test_several_raters_stand_beside_the_judge(work: toy.Work) -> None:
    rows = [
        {
            "id": f"i{row}",
            "gold": toy.truth(row),
            "annotators": {
                f"p{person}": toy.truth(row + ((row + person) % 7 == 0)) for person in range(4)
            },
        }
        for row in range(toy.ROWS)
    ]
    # The first row tells neither: columns are those of any row.
    del rows[0]["gold"], rows[0]["annotators"]
    gold = work.write_lines("people.jsonl", rows)
    agreement = lr.evaluate(work.job, gold)
    people = agreement.figures["people"]
    assert people["raters"] == 4
    assert 0.5 < people["alpha"]["value"] < 1
    assert people["judges"]["recorded/recorded.jsonl"]["passed"]
    assert not people["judges"]["given labels"]["passed"]
    assert "alternative annotator" in agreement.markdown


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"id": "x1", "gold": "tool"}], "none of its 1 ids is in data.path"),
        ([{"id": "i1", "truth": "tool"}], "no label column; it has id, truth"),
        ([{"id": "i1", "gold": "toool"}], "labels that are not defined: row 1"),
        ([{"id": "i1", "gold": "tool"}, {"id": "i1", "gold": "fruit"}], "ids that occur twice"),
        ([{"idd": "i1", "gold": "tool"}], "did you mean"),
        ([{"id": "i1", "gold": ""}], "no row has a gold label"),
        ([{"id": "i1", "gold": "tool"}, ["a"]], "1 rows are no objects with columns: row 2"),
        ([{"id": "i1", "gold": "tool", "raters": ["tool"]}], "a mapping of person to label"),
        ([{"id": "i1", "gold": "tool", "raters": {"ann": "Tool"}}], "which is no defined label"),
        ([{"id": "i1", "gold": "tool", "raters": {"ann": ["tool"]}}], "which is no defined label"),
    ],
)
def test_bad_gold_is_told_before_anything_is_asked(
    work: toy.Work, rows: list[Any], says: str
) -> None:
    gold = work.write_lines("bad.jsonl", rows)
    with LoopbackServer() as server:
        work.llm(server.openai_url)
        done = work.run("eval", str(work.job), "--gold", str(gold))
        assert server.requests == []
    assert done.returncode == 2, done.stderr
    assert says in done.stderr, done.stderr


def test_bad_prompts_and_judges_are_told(work: toy.Work, gold: Path) -> None:
    (work.folder / "open.jinja").write_text(
        "{% macro system(instruction, labels, multi_label, none_word, unsure_word, schema) %}s"
        "{% endmacro %}{% macro user(fields, fence, candidates, multi_label) %}"
        "{{ fields[0].text }}{% endmacro %}"
    )
    (work.folder / "half.jinja").write_text("{% macro system() %}{% endmacro %}")
    (work.folder / "fewer.yaml").write_text("labels: {fruit: F., tool: T.}\n")
    for words, says in (
        (["--prompt", "open.jinja"], "between two lines with `fence`"),
        (["--prompt", "half.jinja"], "lacks the macro 'user'"),
        (["--prompt", "fewer.yaml"], "'animal'"),
        (["--prompt", "none.txt"], "expected a template"),
        (["--judge", "gpt-4"], "must be `embedded`, `people`, or PROVIDER/NAME"),
        (["--anchoring", "5", "--no-model"], "leave the small model in"),
    ):
        done = work.run("eval", str(work.job), "--gold", str(gold), *words)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr, done.stderr


def test_no_gold_at_all_says_what_to_name(work: toy.Work) -> None:
    work.write_job(data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"})
    done = work.run("eval", str(work.job))
    assert done.returncode == 2
    assert "--gold" in done.stderr


def test_the_cap_holds_for_evaluations_too(work: toy.Work, gold: Path) -> None:
    prices = {"input": 1000.0, "output": 1000.0}
    with LoopbackServer(answer=truthful) as server:
        work.llm(server.openai_url, prices=prices, max_cost=8.0, concurrency=1,
                 max_output_tokens=100)  # fmt: skip
        done = work.run("eval", str(work.job), "--gold", str(gold))
        assert done.returncode == 3, done.stderr
        assert "raise judge.max_cost" in done.stderr, done.stderr
        first = len(server.requests)
        assert 0 < first < toy.ROWS
        done = work.run("eval", str(work.job), "--gold", str(gold))
        assert done.returncode == 3, done.stderr
        assert len(server.requests) == first, "what was paid counts"
        raised = ["--set", "judge.max_cost=none"]
        done = work.run("eval", str(work.job), "--gold", str(gold), *raised)
        assert done.returncode == 0
        assert len(server.requests) == toy.ROWS


def test_a_stopped_evaluation_goes_on_also_without_the_cache(work: toy.Work, gold: Path) -> None:
    prices = {"input": 1000.0, "output": 1000.0}
    with LoopbackServer(answer=truthful) as server:
        work.llm(server.openai_url, prices=prices, max_cost=8.0, concurrency=1,
                 max_output_tokens=100, cache=False)  # fmt: skip
        assert work.run("eval", str(work.job), "--gold", str(gold)).returncode == 3
        assert 0 < len(server.requests) < toy.ROWS
        raised = ["--set", "judge.max_cost=none"]
        assert work.run("eval", str(work.job), "--gold", str(gold), *raised).returncode == 0
        assert len(server.requests) == toy.ROWS
        # Another prompt is another question.
        (work.folder / "labels.yaml").write_text("labels: {fruit: F., tool: T., animal: A.}\n")
        assert work.run("eval", str(work.job), "--gold", str(gold), *raised).returncode == 0
        assert len(server.requests) == 2 * toy.ROWS


def test_one_class_and_everything_right_still_work(work: toy.Work) -> None:
    rows = [{"id": f"i{row}", "gold": "fruit"} for row in range(0, toy.ROWS, 3)]
    agreement = lr.evaluate(work.job, work.write_lines("one.jsonl", rows))
    assert agreement.figures["judges"]["recorded/recorded.jsonl"]["kappa"]["answered_only"] == {
        "value": None, "low": None, "high": None, "of": 20,
    }  # fmt: skip
    assert "Gold holds one label only" in agreement.markdown


def test_multi_label_gold(work: toy.Work) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    many = [{**row, "label": [row["label"]], "gold": [row["gold"]]} for row in rows]
    work.write_rows(many)
    work.write_lines("recorded.jsonl", [{"id": r["id"], "label": r["gold"]} for r in many])
    agreement = lr.evaluate(work.job)
    found = agreement.figures["judges"]
    assert right_of(dict(agreement.figures), "recorded/recorded.jsonl") == 1.0
    assert found["given labels"]["macro_f1"]["abstained_wrong"]["value"] < 1


@pytest.mark.parametrize("labels", [["fruit"], [None]])
def test_data_that_no_model_can_learn_from_is_evaluated_without_one(
    work: toy.Work, gold: Path, labels: list[str | None]
) -> None:
    rows = [json.loads(line) for line in work.data.read_text().splitlines()]
    work.write_rows([{**row, "label": labels[0]} for row in rows])
    words = ["eval", str(work.job), "--gold", str(gold), "--no-model"]
    work.write_job(model={})
    done = work.run(*words)
    assert done.returncode == 0, done.stderr
    assert right_of(figures_of(work), "recorded/recorded.jsonl") == 1.0
    done = work.run(*words[:-1])
    assert done.returncode == 2
    assert "--no-model" in done.stderr


def test_two_items_are_few_and_no_crash(work: toy.Work) -> None:
    rows = [{"id": "i0", "gold": toy.truth(0)}, {"id": "i1", "gold": toy.truth(1)}]
    agreement = lr.evaluate(work.job, work.write_lines("two.jsonl", rows))
    assert agreement.figures["items"] == 2
    assert "too few" in agreement.markdown


def test_same_named_prompts_are_told_apart(work: toy.Work, gold: Path) -> None:
    names = []
    for folder in ("one", "two"):
        (work.folder / folder).mkdir()
        path = work.folder / folder / "l.yaml"
        path.write_text(f"labels: {{fruit: F {folder}., tool: T., animal: A.}}\n")
        names.append(path)
    agreement = lr.evaluate(work.job, gold, prompts=names)
    judged = [name for name in agreement.figures["judges"] if name.startswith("recorded/")]
    assert len(judged) == 3
