"""What every task type must keep, over all that `registry.TASKS` names, and a sixth of the tests'.

A new type needs one thing here: a line in SAMPLES. All else is asked of the seam alone.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llm_relabel import registry
from llm_relabel.config.definitions import load_definitions
from llm_relabel.config.job import make_job
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.prompts.builder import PromptBuilder
from llm_relabel.records import Item
from llm_relabel.report.facts import Facts
from llm_relabel.report.markdown import as_markdown
from llm_relabel.report.page import as_page
from llm_relabel.tasks import (
    InvalidAnswer,
    Task,
    assembled,
    by_name,
    from_name,
    open_task,
    task_type,
    units_between,
    whole_item,
)
from llm_relabel.units import (
    SILENT,
    Labels,
    column,
    differs,
    has_label,
    label_json,
    labels_sha256,
    names_of,
)

HOSTILE = '<script>x</script> | `a` ``b`` [l](http://e)\n\n# head\n"&\u2028end'
RATINGS = "ratings_task:Ratings"


@dataclass(frozen=True)
class Sample:
    """What a task type says of itself here.

    `rows` are lines of a data set whose label column is `label`, at least four, one of them
    without a label and two different ones with; `data` names what else a job's `data` needs.
    `answers` are judges' texts with the label (as JSON) that they give to the first row, `abstains`
    texts that give none, `impossible` such as are of the right form and name what cannot be.
    `predictions` has the lines of a `model.predictions` file without their ids. `hostile` is a
    label column, with its definitions, that holds HOSTILE; None where labels hold no text. Where a
    judge answers by number, `candidates` (as JSON) are what the first row's question is made from.
    `files` lie beside the data.
    """

    labels: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    answers: Sequence[tuple[Mapping[str, Any], Any]]
    abstains: Sequence[Mapping[str, Any]]
    impossible: Sequence[Mapping[str, Any]]
    predictions: Sequence[Mapping[str, Any]]
    hostile: tuple[Mapping[str, str], Sequence[Any]] | None
    data: Mapping[str, Any]
    candidates: Sequence[Any] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def rows_of(labels: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"text": f"item {row}", "label": label} for row, label in enumerate(labels)]


TEXT = {"text": "text"}
ABC = {"a": "First.", "b": "Second.", "c": "Third."}
PROBS = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25], [0.3, 0.4, 0.3]]

# One text, so that any row's spans could be any other's.
WORDS = ["Ann", "Lee", "met", "Ann", "in", "Rome"]
TAGS = [
    "B-PER I-PER O O O B-LOC", "O O O O O O", None, "B-LOC B-PER O B-PER O O", "O O O O O B-LOC",
]  # fmt: skip
OFFSETS: list[Any] = [[[0, 3, "PER"], [10, 12, "PER"]], [], None, [[10, 12, "PER"]], []]

BOXES: list[Any] = [
    [("disc", [1, 2, 30, 40])], [], None, [("disc", [1, 2, 30, 40]), ("square", [50, 5, 80, 44.5])],
    [("disc", [5, 5, 20, 20])],
]  # fmt: skip


def _picture() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (90, 60), "white").save(held, "PNG")
    return held.getvalue()


PICTURE = _picture()

SAMPLES: dict[str, list[Sample]] = {
    "classification": [
        Sample(
            labels=ABC,
            rows=rows_of(["a", "c", None, "b", "a"]),
            answers=[({"label": "b"}, "b"), ({"label": "a"}, "a")],
            abstains=[{"label": "NONE_OF_THESE"}, {"label": "CANNOT_TELL"}],
            impossible=[{"label": "A!"}, {"label": ["a", "b"]}, {"label": None}, {}],
            predictions=[{"pred_probs": probs} for probs in PROBS],
            hostile=({HOSTILE: "x", "b": "y"}, [HOSTILE, "b", HOSTILE, "b"]),
            data=TEXT,
        ),
        Sample(
            labels=ABC,
            rows=rows_of([["a", "c"], [], None, ["b"], ["a", "b", "c"]]),
            answers=[({"verdict": "decided", "labels": ["c", "a"]}, ["a", "c"]),
                     ({"verdict": "decided", "labels": []}, [])],
            abstains=[{"verdict": "CANNOT_TELL", "labels": ["a"]}],
            impossible=[{"labels": ["x"]}, {"labels": "a, b"}, {"verdict": "no", "labels": []}, {}],
            predictions=[{"pred_probs": probs} for probs in PROBS],
            hostile=({HOSTILE: "x", "b": "y"}, [[HOSTILE, "b"], ["b"], [HOSTILE], []]),
            data=TEXT,
        ),
    ],
    "tagging": [
        Sample(
            labels={"PER": "A person.", "LOC": "A place."},
            rows=[{"text": WORDS, "label": tags and tags.split()} for tags in TAGS],
            answers=[
                ({"verdict": "decided", "entities": [
                    {"text": "Ann Lee", "occurrence": 1, "type": "PER"},
                    {"text": "Ann", "occurrence": 2, "type": "LOC"}]},
                 [{"start": 0, "end": 7, "type": "PER", "text": "Ann Lee"},
                  {"start": 12, "end": 15, "type": "LOC", "text": "Ann"}]),
                ({"verdict": "decided", "entities": []}, []),
            ],
            abstains=[{"verdict": "CANNOT_TELL", "entities": []}],
            impossible=[
                {"verdict": "decided", "entities": [{"text": t, "occurrence": n, "type": kind}]}
                for t, n, kind in [("An", 1, "PER"), ("Ann", 3, "PER"), ("Ann", 1, "X"),
                                   ("nobody", 1, "PER"), ("", 1, "PER"), ("Ann", 0, "LOC")]
            ] + [{"verdict": "maybe", "entities": []}, {"entities": "Ann"}, {},
                 {"verdict": "decided", "entities": [
                     {"text": "Ann Lee", "occurrence": 1, "type": "PER"},
                     {"text": "Lee met", "occurrence": 1, "type": "LOC"}]}],
            predictions=[
                {"spans": [{"start": 0, "end": 2, "type": "PER", "prob": p},
                           {"start": 0, "end": 2, "type": "LOC", "prob": 0.3}]}
                for p in (0.9, 0.2, 0.6, 0.1, 0.7)
            ],
            hostile=({HOSTILE: "x", "b": "y"},
                     [[f"B-{name}", "O", "O", "O", "O", "O"] for name in (HOSTILE, "b")]),
            data=TEXT,
        ),
        Sample(
            labels={"PER": "A person."},
            rows=[{"text": "Zoë \U0001f600 met Al", "label": label} for label in OFFSETS],
            answers=[({"verdict": "decided", "entities": [{"text": "Zoë", "occurrence": 1,
                                                           "type": "PER"}]},
                      [{"start": 0, "end": 3, "type": "PER", "text": "Zoë"}])],
            abstains=[{"verdict": "CANNOT_TELL", "entities": []}],
            impossible=[{"verdict": "decided", "entities": [{"text": "Zo", "occurrence": 9,
                                                             "type": "PER"}]}],
            predictions=[{"spans": []}] * 5,
            hostile=None,
            data=TEXT,
        ),
    ],
    "detection": [
        Sample(
            labels={"disc": "Round.", "square": "With corners."},
            rows=[{"image": "a.png", "label": boxes and [
                {"cls": name, "box": box} for name, box in boxes
            ]} for boxes in BOXES],
            answers=[
                ({"places": [{"number": 1, "verdict": "square", "better": "ONE"}]},
                 [{"label": "disc", "box": [1, 2, 30, 40], "fixed": False},
                  {"label": "square", "box": [50, 5, 80, 44.5], "fixed": False}]),
                ({"places": [{"number": 1, "verdict": "NO_OBJECT", "better": "ONE"}]},
                 [{"label": "disc", "box": [1, 2, 30, 40], "fixed": False}]),
            ],
            abstains=[],
            impossible=[
                {"places": [{"number": n, "verdict": name, "better": "ONE"}]}
                for n, name in [(2, "disc"), (0, "disc"), (1, "cat"), (1, "A")]
            ] + [{"places": []}, {"places": 3}, {},
                 {"places": [{"number": 1, "verdict": "disc"}] * 2}],
            predictions=[{"boxes": [{"label": "disc", "box": [1, 2, 30, 41], "score": score}]}
                         for score in (0.9, 0.2, 0.6, 0.1, 0.7)],
            hostile=({HOSTILE: "x", "b": "y"},
                     [[{"cls": name, "box": [1, 2, 30, 40]}] for name in (HOSTILE, "b")]),
            data={"image": "image", "boxes": "xyxy"},
            candidates=[[{"label": "disc", "box": [1, 2, 30, 40]}],
                        [{"label": "disc", "box": [1, 2, 30, 40]},
                         {"label": "disc", "box": [50, 5, 80, 44.5]}]],
            files={"a.png": PICTURE},
        ),
    ],
    "ratings": [
        Sample(
            labels={"1": "Bad.", "3": "Good."},
            rows=rows_of([1, 3, None, 2, 1]),
            answers=[({"rating": 2}, 2), ({"rating": 3}, 3)],
            abstains=[{"rating": 0}],
            impossible=[{"rating": 4}, {"rating": -1}, {"rating": 2.5}, {"rating": "x"}, {}],
            predictions=[{"pred_probs": probs} for probs in PROBS],
            hostile=None,
            data=TEXT,
        ),
    ],
}  # fmt: skip


class Case:
    """A sample of a task, opened as a job would open it."""

    def __init__(self, name: str, sample: Sample, folder: Path) -> None:
        self.name, self.sample, self.folder = name, sample, folder

    def dataset(self, path: Path) -> Dataset:
        raw = {"task": self.name, "labels": dict(self.sample.labels), "output": "run"}
        data = {**self.sample.data, "path": str(path), "label": "label"}
        job = make_job({**raw, "data": data}, folder=self.folder)
        return read_dataset(job.data, job.resolve, cells_of=task_type(self.name).cells)

    @cached_property
    def data(self) -> Dataset:
        path = self.folder / "data.jsonl"
        for name, content in self.sample.files.items():
            (self.folder / name).write_bytes(content)
        # Spaces, an escape and a float that no writer would choose: they must come back.
        lines = [
            "{" + ",  ".join(f"{json.dumps(k)} : {json.dumps(v)}" for k, v in line.items())
            + ', "x":1.50, "é":"\\u00e9" }'
            for line in self.sample.rows
        ]  # fmt: skip
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self.dataset(path)

    @cached_property
    def task(self) -> Task:
        definitions = load_definitions(self.sample.labels)
        return open_task(self.name, definitions, self.data.labels.type)

    @cached_property
    def given(self) -> Labels:
        return self.task.read(self.data.labels)

    @property
    def distinct(self) -> list[Any]:
        """The labels of the sample, each once, None left out."""
        return list(dict.fromkeys(label for label in self.given.tolist() if label is not None))

    @property
    def first(self) -> Item:
        candidates = [self.task.check(label) for label in self.sample.candidates]
        return self.task.posed(self.data.item(0), candidates)


def cases() -> list[Any]:
    names = dict.fromkeys([*registry.TASKS, "ratings"])
    return [
        pytest.param((name, number), id=f"{name}-{number}")
        for name in names
        for number in range(len(SAMPLES.get(name, [None])))
    ]


@pytest.fixture(params=cases())
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    name, number = request.param
    if name not in SAMPLES:
        pytest.fail(f"the task {name!r} has no line in SAMPLES of {Path(__file__).name}: add one")
    monkeypatch.setitem(registry.TASKS, "ratings", RATINGS)
    return Case(name, SAMPLES[name][number], tmp_path)


def said(answer: Mapping[str, Any]) -> str:
    return json.dumps({"rationale": "r", "confidence": 0.7, **answer})


def test_the_sample_is_good_data(case: Case) -> None:
    found = case.task.findings(case.data)
    assert found.problems == []
    assert found.untrainable is None
    assert len(case.distinct) > 1
    assert not has_label(case.given).all()


def test_cells_become_labels_and_the_same_bytes_again(case: Case) -> None:
    data, task = case.data, case.task
    assert task.to_arrow(case.given).to_pylist() == data.labels.to_pylist()
    assert task.to_arrow(case.given).type == data.labels.type
    before = (case.folder / "data.jsonl").read_bytes()
    cells = dict(enumerate(task.to_arrow(case.given).to_pylist()))
    for changes in ({}, cells):
        assert data.write(case.folder, "same", changes).read_bytes() == before
    # All labels moved on by a row, and back again.
    moved = np.roll(case.given, 1)
    path = data.write(case.folder, "moved", dict(enumerate(task.to_arrow(moved).to_pylist())))
    other = case.dataset(path)
    assert not differs(task.read(other.labels), moved)[has_label(moved)].any()
    assert other.write(case.folder, "back", cells).read_bytes() == before


def test_a_label_is_json_and_a_name_and_comes_back(case: Case) -> None:
    for label in case.distinct:
        hash(label)
        assert case.task.check(json.loads(json.dumps(label_json(label)))) == label
        assert (
            case.task.check(label_json(label), case.first) == label or label not in case.given[:1]
        )
        assert from_name(case.task, json.loads(json.dumps(by_name(case.task, label)))) == label
        assert from_name(case.task, label_json(label)) == label


def test_units_hold_what_every_source_said(case: Case) -> None:
    task, given = case.task, case.given
    columns = {"given": given, "other": np.roll(given, 1), "none": column([None] * len(given))}
    units = task.units(columns)
    assert task.names == names_of(task.kinds)
    assert units.rows == len(given)
    places = list(zip(units.row.tolist(), units.kind.tolist(), units.key.tolist(), strict=True))
    assert places == sorted(set(places))
    assert np.array_equal(task.units(columns).key, units.key)
    assert len(units.unseen) == len(task.kinds)
    for labels in columns.values():
        codes = task.codes(units, labels)
        assert codes.dtype == np.int32
        assert task.labels(units, codes).tolist() == labels.tolist()
        for row, label in enumerate(labels.tolist()):
            place = units.of_row(row)
            known = codes[place] != SILENT
            assert known.all() if label is not None else not known.any()
            by_key = {
                key: units.kinds[kind].values[code]
                for key, kind, code in zip(
                    units.key[place], units.kind[place], codes[place], strict=True
                )
                if code != SILENT
            }
            own = task.values(label, given[row])
            # What a label does not name, another source did, and it says `none` of that.
            nothing = {kind.values[kind.none] for kind in task.kinds if kind.none is not None}
            assert own.items() <= by_key.items()
            assert {by_key[key] for key in by_key.keys() - own.keys()} <= nothing
    digests = {labels_sha256(units, task.codes(units, each)) for each in columns.values()}
    assert len(digests) == 3


def test_units_assemble_to_what_was_decided(case: Case) -> None:
    task, labels = case.task, case.distinct
    for old, answered, predicted in product([None, *labels], labels, labels):
        units = units_between(task, old, old, answered, predicted)
        assert units
        assert assembled(task, old, {unit.key: unit.answered for unit in units}) == answered
        assert assembled(task, old, {unit.key: unit.old for unit in units}) == old
        for unit in units:
            assert json.loads(json.dumps(unit.answered)) == unit.answered
            assert isinstance(task.show_unit(unit.key, unit.answered), str)
        # One unit after the other comes to the same.
        step = old
        for unit in units:
            step = assembled(task, step, {unit.key: unit.answered})
        assert step == answered
    assert assembled(task, labels[0], {}) == labels[0]
    assert whole_item(task)


def test_answers_are_read(case: Case) -> None:
    for answer, label in case.sample.answers:
        found = case.task.parse(said(answer), case.first)
        assert (label_json(found.label), found.abstained) == (label, None)
        assert (found.confidence, found.rationale) == (0.7, "r")
        # A useless confidence is dropped, not the answer.
        found = case.task.parse(said({**answer, "confidence": 7}), case.first)
        assert (label_json(found.label), found.confidence) == (label, None)
    for answer in case.sample.abstains:
        found = case.task.parse(said(answer), case.first)
        assert found.label is None
        assert found.abstained in ("none_fits", "unsure")


def test_impossible_answers_are_refused_with_the_reason(case: Case) -> None:
    broken = ["", "none", "[1]", "null", "{}", '{"rationale": "r"}', said({})[:-3]]
    for text in [*map(said, case.sample.impossible), *broken]:
        with pytest.raises(InvalidAnswer) as caught:
            case.task.parse(text, case.first)
        assert str(caught.value)
        assert len(str(caught.value)) < 1000
    for value in (object(), float("nan"), {"no": "label"}, HOSTILE * 50):
        with pytest.raises(InvalidAnswer) as caught:
            case.task.check(value)
        assert len(str(caught.value)) < 1000  # it goes back to the judge


def test_the_schema_is_one_that_providers_take(case: Case) -> None:
    for full in (False, True):
        schema = case.task.answer_schema(full=full)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
        assert next(iter(schema["properties"])) == "rationale"  # written before the answer
        json.dumps(schema)
    for answer, _ in case.sample.answers:
        assert answer.keys() <= schema["properties"].keys()


def test_a_decoy_is_a_label_and_none_of_the_true_ones(case: Case) -> None:
    for label, other in product(case.distinct, [None, *case.distinct]):
        decoy = case.task.decoy((label, other), random.Random(1))
        assert decoy == case.task.decoy((label, other), random.Random(1))
        if decoy is not None:
            assert decoy not in (label, other)
            assert case.task.check(label_json(decoy)) == decoy
    found = {case.task.decoy((case.distinct[0],), random.Random(seed)) for seed in range(20)}
    assert found - {None}


def test_the_measure_of_parts_adds_up_to_that_of_the_whole(case: Case) -> None:
    measure, gold = case.task.measure, case.given
    labels = np.roll(gold, 1)
    counts = measure.counts(labels, gold)
    assert counts.shape[0] == len(gold)
    assert not counts[~has_label(gold)].any()
    for cut in range(len(gold) + 1):
        parts = [
            measure.counts(labels[part], gold[part]) for part in (slice(cut), slice(cut, None))
        ]
        assert np.allclose(np.concatenate(parts), counts)
    whole = measure.value(counts.sum(axis=0))
    assert np.allclose(measure.value(np.stack([counts.sum(axis=0)] * 2)), whole)
    best, missing = (
        measure.value(measure.counts(each, gold).sum(axis=0))
        for each in (gold, column([None] * len(gold)))
    )
    assert best >= whole  # HIGHER is better
    assert best > missing
    assert np.isnan(measure.value(np.zeros(counts.shape[1])))
    assert measure.name
    if measure.proportion:
        assert measure.percent
        assert np.allclose(best, 1)


def test_beliefs_are_of_the_units_and_of_the_values(case: Case) -> None:
    task, path = case.task, case.folder / "own.jsonl"
    ids = case.data.ids.to_pylist()
    lines = [{"id": i, **each} for i, each in zip(ids, case.sample.predictions, strict=True)]
    path.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    found = task.own_predictions(path, case.data)
    assert len(found.labels) == len(ids)
    assert all(task.check(label_json(label)) == label for label in found.labels.tolist())
    assert {len(scores) for scores in found.scores.values()} == {len(ids)}
    units = task.units({"given": case.given, "predicted": found.labels})
    beliefs = task.beliefs(units, found)
    assert beliefs.shape == (len(units), units.width)
    assert beliefs.dtype == np.float32
    assert ((beliefs >= 0) & (beliefs <= 1)).all()
    assert np.allclose(beliefs.sum(axis=1), 1, atol=1e-5)


def test_the_template_asks_the_question(case: Case) -> None:
    builder = PromptBuilder(case.task, schema_in_words=False)
    labels = case.distinct[:2]
    system, user = builder.build(case.first, labels)
    assert case.task.question()["instruction"] in system.text
    assert all(text in user.text for text in case.first.fields.values())
    if case.task.inputs == "image":
        assert len(user.images) == 2
        return
    assert all(case.task.show(label) in user.text for label in labels)
    blind = builder.build(case.first, ())[1]
    assert "andidate" not in blind.text


def test_labels_in_words_neither_run_nor_break_a_line(case: Case, tmp_path: Path) -> None:
    labels = case.distinct
    task = case.task
    if case.sample.hostile is not None:
        definitions, cells = case.sample.hostile
        rows = [{**case.sample.rows[0], "label": cell} for cell in cells]
        attacked = Case(case.name, Sample(**{**vars(case.sample), "labels": definitions,
                                             "rows": rows}), tmp_path)  # fmt: skip
        labels, task = attacked.distinct, attacked.task
    words = [task.show(label) for label in labels] + [task.show(None)]
    for old in labels:
        for unit in units_between(task, old, old, labels[0], labels[1]):
            words += [task.show_unit(unit.key, value) for value in (unit.old, unit.answered)]
    assert all(words)
    assert task.show(labels[0]) != task.show(labels[1])
    sets = [{"old": word, "new": words[0], "count": 1} for word in words]
    changes = [
        {"id": "i", "round": 1, "text": "t", "why": word, "old": word, "new": words[0]}
        for word in words
    ]
    facts = Facts(
        name="run", sentence="s", notes=words, status="done", reason="", warnings=[],
        provenance={"versions": {}, "hashes": {}, "settings": {},
                    "commands": {"undo one change": "c"}},
        totals={"rows": 9, "changed": 1, "calls": 0, "cached": 0, "cost": 0.0, "seconds": 1.0,
                "cost_unaccounted": 0.0, "rolled_back": 0,
                "judge": {"is_llm": True, "model": "m"}},
        sets=sets, sets_in_all=len(sets), changes=changes, changes_in_all=len(changes),
        by_class=[{"label": word, "before": 1, "left": 0, "came": 1, "after": 2}
                  for word in words],
    )  # fmt: skip
    shown = as_markdown(facts)
    assert "\n# head" not in shown
    assert "\u2028" not in shown
    table = shown.split("## Labels before and after")[1].split("\n##")[0]
    assert sum(line.startswith("|") for line in table.splitlines()) == len(words) + 2
    page = as_page(facts)
    assert "<script>x" not in page
    if case.sample.hostile is not None:
        assert "&lt;script&gt;x" in page.replace("<wbr>", "")
