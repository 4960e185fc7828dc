"""Spot-checks on the command line: drawn, written out blind, read back whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_review_sampling import write_beliefs

import llm_relabel as lr
from llm_relabel.cli import main
from llm_relabel.job import load_job
from llm_relabel.preparation import prepare
from llm_relabel.review import (
    EXPORTS,
    Review,
    draw_sample,
    export_items,
    import_answers,
    read_answers,
    reviewers_agreement,
)
from llm_relabel.runs import RunFolder
from llm_relabel.sheets import read_sheet, write_sheet

SETS = ((), ("fruit",), ("tool",), ("fruit", "animal"))


def reviewable(work: toy.Work, size: int = 30, **job: Any) -> Review:
    """The toy job run to its end, and `size` items drawn."""
    lr.relabel(work.write_job(rounds=1, **job))
    rows = range(toy.ROWS)
    write_beliefs(
        work.run_folder, [row % 5 == 0 for row in rows], [0.5 + row % 6 / 10 for row in rows],
        [row % 4 == 1 for row in rows],
    )  # fmt: skip
    review = Review(work.run_folder)
    draw_sample(review, size)
    return review


def begun(work: toy.Work) -> None:
    """The run folder of a job that was started and has no round yet."""
    job = load_job(work.write_job(rounds=1))
    folder = RunFolder(job.output_path)
    folder.path.mkdir()
    folder.start(job, prepare(job).identity())


def work_of(
    folder: Path, classes: list[str], labels: list[Any] | None = None, texts: Any = "abcdef"
) -> toy.Work:
    """A job of six items with these classes."""
    work = toy.Work(folder)
    labels = labels or [classes[row % 2] for row in range(6)]
    work.write_rows(
        [{"id": f"i{row}", "text": text + " .", "label": labels[row], "gold": labels[row]}
         for row, text in enumerate(texts)]
    )  # fmt: skip
    probs = [1 / len(classes)] * len(classes)
    work.write_lines("predictions.jsonl", [{"id": f"i{r}", "pred_probs": probs} for r in range(6)])
    (work.folder / "labels.yaml").write_text(
        yaml.safe_dump({"labels": dict.fromkeys(classes, "A class.")}, sort_keys=False)
    )
    return work


def many(work: toy.Work, size: int = 30) -> Review:
    """The same with sets of labels."""
    rows = range(toy.ROWS)
    work.write_rows(
        [{"id": f"i{row}", "text": toy.text(row), "label": SETS[row % 4]} for row in rows]
    )
    work.write_lines(
        "predictions.jsonl", [{"id": f"i{row}", "pred_probs": [0.9, 0.2, 0.3]} for row in rows]
    )
    work.write_lines("recorded.jsonl", [{"id": f"i{row}", "label": ["fruit"]} for row in rows])
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    return reviewable(work, size, data=data)


def fill(path: Path, answers: dict[str, str]) -> Path:
    """A sheet of ours as a person fills it in."""
    rows = read_sheet(path)
    for row in rows:
        row["answer"] = answers.get(row["id"], "")
    write_sheet(path, list(rows[0]), [list(row.values()) for row in rows])
    return path


def answered(review: Review) -> dict[str, Any]:
    return {check.id: check.answer for check in read_answers(review.run, review.task)}


def test_sample_export_fill_import(work: toy.Work) -> None:
    """By the beliefs that the run itself wrote; then with items at odds put in."""
    lr.relabel(work.write_job(rounds=1))
    told = work.run("review", "sample", "run", "--size", "20")
    assert told.returncode == 0, told.stderr
    assert "20 items drawn by the beliefs of round 1:" in told.stdout
    rows = range(toy.ROWS)
    write_beliefs(work.run_folder, [True] * 60, [0.5] * 60, [row % 4 == 1 for row in rows])
    told = work.run("review", "sample", "run", "--size", "0", "--effort", "3")
    assert "3 more, of up to 3, need attention: their judge abstained" in told.stdout
    # As the design writes it, RUN may come first.
    told = work.run("review", "run", "export", "-o", "sheets/mine.csv")
    assert told.returncode == 0, told.stderr
    assert "23 items written to sheets/mine.csv; fill in `answer`" in told.stdout
    sheet = work.folder / "sheets" / "mine.csv"
    ids = [row["id"] for row in read_sheet(sheet)]
    said = {item: toy.truth(int(item[1:])) for item in ids[:10]} | {ids[10]: "?"}
    fill(sheet, said)
    told = work.run("review", "import", "run", str(sheet), "--reviewer", "Zoë")
    assert told.returncode == 0, told.stderr
    assert "11 answers of Zoë taken over; 0 were there already; 12 items are not" in told.stdout
    lines = work.lines("review/answers.jsonl")
    asked = {line["id"]: line for line in work.lines("review/sample.jsonl")}
    attention = [line["id"] for line in asked.values() if line["purpose"] == "attention"]
    assert len(attention) == 3
    assert all(int(item[1:]) % 4 == 1 for item in attention)
    for line in lines:
        design = asked[line["id"]]
        for name in ("unit", "stratum", "inclusion_probability", "round"):
            assert line[name] == design[name]
        assert line["blind"] is True
        assert ("answer" in line) != (line.get("unsure") is True)
    checks = read_answers(RunFolder(work.run_folder), Review(work.run_folder).task)
    assert {c.id: c.answer for c in checks} == {i: None if w == "?" else w for i, w in said.items()}
    told = work.run("review", "import", "run", str(sheet), "--reviewer", "Zoë")
    assert "0 answers of Zoë taken over; 11 were there already" in told.stdout
    assert work.lines("review/answers.jsonl") == lines
    told = work.run("review", "export", "run", "-o", "rest.jsonl", "--reviewer", "Zoë")
    rest = [json.loads(line) for line in (work.folder / "rest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rest] == ids[11:]


def test_nothing_that_is_written_shows_a_label_or_a_verdict(work: toy.Work) -> None:
    """The files hold the same with other labels, predictions and verdicts, and name no class."""
    found = []
    for shift in (0, 1):
        home = work.folder / str(shift)
        home.mkdir()
        each = toy.Work(home)
        names = [toy.NAMES[(row + shift) % 3] for row in range(toy.ROWS)]
        each.write_rows(
            [{"id": f"i{row}", "text": toy.text(row), "label": name, "gold": name}
             for row, name in enumerate(names)]
        )  # fmt: skip
        each.write_lines(
            "recorded.jsonl",
            [{"id": f"i{row}", "label": names[-row], "rationale": "secret"} for row in range(60)],
        )
        each.write_lines(
            "predictions.jsonl",
            [{"id": f"i{row}", "pred_probs": [0.2 + (row + shift) % 2 / 2, 0.2, 0.1]}
             for row in range(60)],
        )  # fmt: skip
        review = reviewable(each)
        draw_sample(review, 0, 4)
        parts = {}
        for kind in EXPORTS:
            path = home / f"out.{kind}"
            export_items(review, path, kind)
            parts[kind] = path.read_text(encoding="utf-8-sig")
        found.append(parts)
    assert found[0] == found[1]
    for kind, text in found[0].items():
        assert text.count("number") == 34, kind
        for word in (*toy.NAMES, "secret", "gold", "judged", "stratum", "belief", "attention"):
            assert word not in text, (kind, word)


def test_an_example_that_is_an_item_is_not_shown(work: toy.Work) -> None:
    """`init` takes examples from the data, with the labels they have."""
    labels = {name: {"definition": f"A {name}.", "examples": []} for name in toy.NAMES}
    labels["tool"]["examples"] = [toy.text(row) for row in range(toy.ROWS)] + ["a spade"]
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}, sort_keys=False))
    review = reviewable(work, 30)
    items = review.shown(review.asked_ids())
    examples = review.definitions(items)[1]["examples"]
    assert len(examples) == toy.ROWS - 30 + 1
    assert not {item.fields["text"] for item in items} & set(examples)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_import_names_every_problem_and_takes_nothing(work: toy.Work, kind: str) -> None:
    review = reviewable(work)
    path = work.folder / f"bad.{kind}"
    ids = review.asked_ids()
    other = next(f"i{row}" for row in range(toy.ROWS) if f"i{row}" not in ids)
    rows = [(ids[0], "fruit"), (ids[1], "friut"), ("nobody", "tool"), (other, "tool"),
            (ids[2], "tool"), (ids[2], "animal"), (ids[3], "Tool")]  # fmt: skip
    if kind == "csv":
        write_sheet(path, ["id", "answer"], rows)
    else:
        work.write_lines(path.name, [{"id": i, "answer": a} for i, a in rows])
    done = work.run("review", "import", "run", str(path), "--reviewer", "me")
    assert done.returncode == 2
    for told in ("nothing of it counts", "2 answers that cannot be used", "did you mean 'fruit'?",
                 "'Tool'", "1 ids not in the data", "'nobody'", "1 ids that are not under review",
                 repr(other), "1 items that were answered twice, differently",
                 "allowed: 'fruit', 'tool', 'animal', or ? for unsure"):  # fmt: skip
        assert told in done.stderr, told
    assert "Traceback" not in done.stderr
    assert not review.folder.answers_path.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sample", "nowhere"), "is no run folder"),
        (("sample", "run", "--size", "-1"), "is not in the range"),
        (("export", "run", "-o", "x.csv", "--format", "xml"), "is not one of"),
        (("export", "run", "-o", "x.json"), "add --format label-studio or"),
        (("export", "run", "-o", "x.csv"), "draw some with `llm-relabel review sample"),
        (("serve", "run"), "draw some with `llm-relabel review sample"),
        (("import", "run", "none.csv", "--reviewer", "a"), "cannot be read"),
        (("import", "run", "data.jsonl", "--reviewer", "a"), "is none of the formats"),
        (("import", "run", "labels.yaml", "--reviewer", "a"), "is not valid JSON"),
        (("import", "run", "data.jsonl", "--reviewer", " "), "a reviewer is called ' '"),
    ],
)
def test_bad_input_exits_2_and_says_the_fix(
    work: toy.Work, words: tuple[str, ...], told: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begun(work)
    monkeypatch.chdir(work.folder)
    monkeypatch.setattr(sys, "argv", ["llm-relabel", "review", *words])
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        main()
    signal.signal(signal.SIGTERM, terminate)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '[{"annotations": 3}]', "has not the form of its export"),
        ("a.json", '[{"data": {}, "annotations": ["x"]}]', "has not the form of its export"),
        ("a.json", '[{"fields": {}, "responses": {"answer": 3}}]', "has not the form"),
        ("a.json", '[{"id": "\\ud800", "answer": "tool"}]', "1 ids not in the data"),
        ("a.json", '[{"id": "i0", "answer": {"x": 1}}]', "i0"),
        ("a.json", '["x"]', "must hold objects"),
        ("a.json", "[]", "must hold objects"),
        ("a.json", "[" * 60_000, "is not valid JSON"),
        ("a.jsonl", '{"id": "i0"}', "is none of the formats"),
        ("a.csv", "id,label\ni0,tool\n", "has no column answer"),
        ("a.csv", "", "is empty"),
        ("a.csv", "id,answer\nnobody," + "x" * 200_000, "1 ids not in the data"),
    ],
)
def test_damaged_files_are_refused_in_words(
    work: toy.Work, name: str, text: str, told: str
) -> None:
    review = reviewable(work, 16)
    (work.folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(lr.DataError) as refused:
        import_answers(review, work.folder / name, "me")
    assert told in str(refused.value)
    assert len(str(refused.value)) < 2_000
    assert not review.folder.answers_path.exists()


def test_a_sheet_without_a_reviewer_is_refused(work: toy.Work) -> None:
    review = reviewable(work)
    path = work.folder / "out.csv"
    export_items(review, path, "csv")
    fill(path, {review.asked_ids()[0]: "tool"})
    with pytest.raises(lr.DataError, match="name the person with --reviewer"):
        import_answers(review, path)


def test_data_that_changed_is_refused(work: toy.Work) -> None:
    reviewable(work)
    work.data.write_text(work.data.read_text().replace("hammer", "hamster"))
    done = work.run("review", "export", "run", "-o", "x.csv")
    assert done.returncode == 2
    assert "was started with something else" in done.stderr


def test_several_reviewers_count_by_majority(work: toy.Work) -> None:
    review = reviewable(work)
    ids = review.asked_ids()
    said = {
        "ann": ["fruit", "fruit", "fruit", "?", "fruit", "?", "fruit"],
        "bob": ["fruit", "fruit", "tool", "fruit", "tool", "?", "?"],
        "cyd": ["fruit", "tool", "animal", "fruit", "", "", "?"],
    }
    for name, words in said.items():
        path = work.folder / f"{name}.csv"
        export_items(review, path, "csv")
        fill(path, dict(zip(ids, words, strict=False)))
        last = import_answers(review, path, name)
    checks = {check.id: check for check in read_answers(review.run, review.task)}
    found = [(checks[i].answer, checks[i].reviewers, checks[i].agreed) for i in ids[:7]]
    assert found == [
        ("fruit", 3, True), ("fruit", 3, False), (None, 3, False), ("fruit", 3, False),
        (None, 2, False), (None, 2, False), (None, 3, False),
    ]  # fmt: skip
    # Sure pairs: 3 equal of 3; 1 of 3; 0 of 3; 1 of 1; 0 of 1.
    agreement = reviewers_agreement(review.run, review.task)
    assert agreement["items"] == 5
    assert agreement["pairwise"] == pytest.approx(5 / 11)
    assert agreement["alpha"]["value"] == pytest.approx(_alpha(
        [["fruit"] * 3, ["fruit", "fruit", "tool"], ["fruit", "tool", "animal"],
         ["fruit"] * 2, ["fruit", "tool"]]
    ))  # fmt: skip
    assert "3 reviewers on 5 items with two answers or more: 45.5% of the pairs" in last.told()


def _alpha(units: list[list[str]]) -> float:
    """Krippendorff's alpha by its coincidences, pair by pair."""
    pairs: dict[tuple[str, str], float] = {}
    for unit in units:
        for place, one in enumerate(unit):
            for other in unit[:place] + unit[place + 1 :]:
                pairs[one, other] = pairs.get((one, other), 0) + 1 / (len(unit) - 1)
    total = sum(pairs.values())
    sums = {n: sum(c for (one, _), c in pairs.items() if one == n) for n in toy.NAMES}
    differ = sum(count for (one, other), count in pairs.items() if one != other)
    chance = sum(sums[a] * sums[b] for a in sums for b in sums if a != b) / (total - 1)
    return 1 - differ / chance


def test_a_second_draw_raises_the_chances_of_answers_given_before(work: toy.Work) -> None:
    review = reviewable(work, 20)
    path = work.folder / "out.csv"
    export_items(review, path, "csv")
    fill(path, dict.fromkeys(review.asked_ids(), "tool"))
    import_answers(review, path, "me")
    before = {c.id: c.inclusion_probability for c in read_answers(review.run, review.task)}
    draw_sample(review, 25)
    after = {c.id: c.inclusion_probability for c in read_answers(review.run, review.task)}
    assert before.keys() == after.keys()
    assert all(after[item] >= before[item] for item in after)
    assert after != before
    export_items(review, path, "csv", reviewer="me")
    assert len(read_sheet(path)) == 25


def test_sets_of_labels(work: toy.Work) -> None:
    review = many(work)
    ids = review.asked_ids()
    path = work.folder / "out.csv"
    export_items(review, path, "csv")
    cells = ["fruit", " animal ; fruit ", '["tool", "fruit"]', "[]", "?", "animal;tool;fruit"]
    fill(path, dict(zip(ids, cells, strict=False)))
    import_answers(review, path, "me")
    assert answered(review) == dict(zip(ids, [
        ("fruit",), ("fruit", "animal"), ("fruit", "tool"), (), None, ("fruit", "tool", "animal")
    ], strict=False))  # fmt: skip
    lines = [{"id": ids[6], "answer": []}, {"id": ids[7], "answer": ["tool"]},
             {"id": ids[8], "answer": None, "unsure": True},
             {"id": ids[9], "answer": None}]  # fmt: skip
    import_answers(review, work.write_lines("more.jsonl", lines), "me")
    found = answered(review)
    assert [found.get(item, "open") for item in ids[6:10]] == [(), ("tool",), None, "open"]


names = st.lists(
    st.text(
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"),
        min_size=1, max_size=12,
    ).filter(lambda name: name.strip() and name == name.strip()),
    min_size=2, max_size=5, unique=True,
)  # fmt: skip


@settings(max_examples=40)
@given(data=st.data(), classes=names, kind=st.sampled_from(["csv", "jsonl"]))
def test_whatever_the_labels_and_texts_are_answers_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, classes: list[str], kind: str
) -> None:
    texts = data.draw(st.lists(st.text(min_size=1, max_size=20), min_size=6, max_size=6))
    work = work_of(tmp_path_factory.mktemp("trip"), classes, texts=texts)
    begun(work)
    write_beliefs(work.run_folder, [True] * 6, [0.5] * 6)
    review = Review(work.run_folder)
    draw_sample(review, 6)
    path = work.folder / f"out.{kind}"
    export_items(review, path, kind)
    said = {item: data.draw(st.sampled_from([*classes, None])) for item in review.asked_ids()}
    notes = {item: data.draw(st.text(max_size=10)).strip() for item in said}
    if kind == "csv":
        rows = read_sheet(path)
        assert [row["text"] for row in rows] == [texts[int(r["id"][1:])] + " ." for r in rows]
        unsure = "?"
        while unsure in classes:
            unsure += "?"
        for row in rows:
            row["answer"] = said[row["id"]] or unsure
            row["note"] = notes[row["id"]]
        write_sheet(path, list(rows[0]), [list(row.values()) for row in rows])
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line |= {"answer": said[line["id"]], "unsure": said[line["id"]] is None,
                     "note": notes[line["id"]]}  # fmt: skip
        work.write_lines(path.name, lines)
    import_answers(review, path, "me")
    assert answered(review) == said
    kept = {line["id"]: line.get("note", "") for line in review.folder.lines()}
    assert kept == notes


def _import(folder: Path, path: Path, name: str) -> None:
    import_answers(Review(folder), path, name)


def test_imports_at_the_same_time_lose_nothing(work: toy.Work) -> None:
    review = reviewable(work)
    ids = review.asked_ids()
    context = multiprocessing.get_context("spawn")
    started = []
    for name in ("ann", "bob", "cyd"):
        path = work.write_lines(f"{name}.jsonl", [{"id": i, "answer": "tool"} for i in ids])
        started.append(context.Process(target=_import, args=(work.run_folder, path, name)))
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    checks = read_answers(review.run, review.task)
    assert [(c.answer, c.reviewers) for c in checks] == [("tool", 3)] * len(ids)


def test_a_damaged_answer_is_named(work: toy.Work) -> None:
    review = reviewable(work)
    item = review.asked_ids()[0]
    path = work.write_lines("mine.jsonl", [{"id": item, "answer": "tool"}])
    import_answers(review, path, "me")
    text = review.folder.answers_path.read_text()
    review.folder.answers_path.write_text(text.replace('"tool"', '"toll"'))
    with pytest.raises(lr.RunError, match=rf"the answer of 'me' to '{item}' cannot be used"):
        read_answers(review.run, review.task)
