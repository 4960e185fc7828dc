"""The classification task, and what every task type must keep (`test_contract_*`)."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_relabel.config.definitions import load_definitions
from llm_relabel.models.targets import ClassLabels
from llm_relabel.models.text_classifier import class_predictions
from llm_relabel.tasks import InvalidAnswer, assembled, units_between, whole_item
from llm_relabel.tasks.classification import ENUM_LIMIT, Classification
from llm_relabel.units import belief_in

NAMES = ("a", "b", "c")
ONE = Classification(load_definitions(dict.fromkeys(NAMES, "x")), pa.string())
MANY = Classification(load_definitions(dict.fromkeys(NAMES, "x")), pa.list_(pa.string()))
ONE_LABEL = st.sampled_from([None, *NAMES])
SOME_LABELS = st.none() | st.sets(st.sampled_from(NAMES)).map(lambda s: tuple(sorted(s)))


def say(**answer: object) -> str:
    return json.dumps({"rationale": "r", "confidence": 0.7, **answer})


def cells(labels: list, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(labels, kind)])


ONE_CELLS, MANY_CELLS = pa.string(), pa.list_(pa.string())


@given(ONE_LABEL, ONE_LABEL.filter(bool), ONE_LABEL.filter(bool))
def test_contract_units_assemble_to_the_answer_one_label(old, answered, predicted) -> None:
    units = units_between(ONE, old, old, answered, predicted)
    assert assembled(ONE, old, {unit.key: unit.answered for unit in units}) == answered
    assert assembled(ONE, old, {unit.key: unit.old for unit in units}) == old


@given(SOME_LABELS, SOME_LABELS.filter(lambda v: v is not None), SOME_LABELS.filter(lambda v: v))
def test_contract_units_assemble_to_the_answer_many_labels(old, answered, predicted) -> None:
    units = units_between(MANY, old, old, answered, predicted)
    assert units
    assert assembled(MANY, old, {unit.key: unit.answered for unit in units}) == answered
    assert assembled(MANY, old, {unit.key: unit.old for unit in units}) == old


@given(st.lists(ONE_LABEL, min_size=1))
def test_contract_columns_round_trip_one_label(labels: list[str | None]) -> None:
    found = ONE.read(cells(labels, ONE_CELLS))
    assert found.tolist() == labels
    assert ONE.to_arrow(found).to_pylist() == labels
    units = ONE.units({"given": found})
    assert ONE.labels(units, ONE.codes(units, found)).tolist() == labels


@given(st.lists(SOME_LABELS, min_size=1))
def test_contract_columns_round_trip_many_labels(labels: list) -> None:
    found = MANY.read(cells(labels, MANY_CELLS))
    assert found.tolist() == labels
    back = [tuple(v) if v is not None else None for v in MANY.to_arrow(found).to_pylist()]
    assert back == labels
    units = MANY.units({"given": found})
    codes = MANY.codes(units, found)
    assert MANY.labels(units, codes).tolist() == labels
    for row, label in enumerate(labels):
        place = units.of_row(row)
        said = zip(units.key[place], units.kind[place], codes[place], strict=True)
        by_code = {key: units.kinds[kind].values[code] for key, kind, code in said if code >= 0}
        assert MANY.values(label, label) == by_code


def test_label_quality_is_lower_for_worse_labels() -> None:
    labels = ONE.read(cells(["a", "a", None], ONE_CELLS))
    probs = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]], dtype=np.float32)
    units = ONE.units({"given": labels})
    quality = belief_in(units, probs, ONE.codes(units, labels))
    assert quality.tolist() == pytest.approx([0.9, 0.1, 0.0])
    worst = MANY.read(cells([["a"]], MANY_CELLS))
    units = MANY.units({"given": worst})
    found = class_predictions(
        ClassLabels(NAMES, exclusive=False), np.array([[0.9, 0.7, 0.1]], dtype=np.float32)
    )
    quality = belief_in(units, MANY.beliefs(units, found), MANY.codes(units, worst))
    assert quality.tolist() == pytest.approx([0.3])  # `b` is absent and believed at 0.7


def test_a_class_may_be_called_as_the_units_are() -> None:
    names = ("label", "item", "class:label")
    task = Classification(load_definitions(dict.fromkeys(names, "x")), MANY_CELLS)
    assert whole_item(task) not in [kind.name for kind in task.kinds]
    assert len({kind.name for kind in task.kinds}) == 3
    units = units_between(task, ("label",), ("label",), ("item",), ("label",))
    assert task.assemble(("label",), {unit.key: unit.answered for unit in units}) == ("item",)


def test_answers_are_read_and_never_guessed() -> None:
    assert ONE.parse(say(label="b")).label == "b"
    assert ONE.parse("```json\n" + say(label="b") + "\n```").label == "b"
    assert ONE.parse("<think>hm {</think>" + say(label="b")).label == "b"
    assert ONE.parse(say(label="NONE_OF_THESE")).abstained == "none_fits"
    assert ONE.parse(say(label="CANNOT_TELL")).abstained == "unsure"
    assert MANY.parse(say(verdict="decided", labels=["c", "a"])).label == ("a", "c")
    assert MANY.parse(say(verdict="CANNOT_TELL", labels=[])).abstained == "unsure"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (say(label="B!"), "the label 'B!' is not one of the defined labels"),
        (say(label=None), "label: "),
        (say(), "label: Field required"),
        ("", "Invalid JSON"),
        ("the label is a", "is not one of the defined labels"),
        ('{"label": "a"', "Invalid JSON"),
        (say(label=["a", "b"]), "label: "),
        ("[1]", ""),
    ],
)
def test_invalid_answers_say_why(text: str, told: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        ONE.parse(text)
    assert told in str(caught.value)


@given(st.text() | st.builds(json.dumps, st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(
        ["label", "labels", "confidence", "rationale", "x"]), inner))))  # fmt: skip
def test_any_text_is_an_answer_or_invalid(text: str) -> None:
    for task in (ONE, MANY):
        try:
            answer = task.parse(text)
        except InvalidAnswer:
            continue
        assert answer.abstained or set(np.atleast_1d(answer.label or ())) <= set(NAMES)


def test_words_for_abstaining_never_collide_with_a_label() -> None:
    names = ("NONE_OF_THESE", "CANNOT_TELL", "x")
    task = Classification(load_definitions(dict.fromkeys(names, "d")), pa.string())
    assert task.parse(say(label="NONE_OF_THESE")).label == "NONE_OF_THESE"
    enum = task.answer_schema()["properties"]["label"]["enum"]
    assert len(set(enum)) == len(enum) == 5


def test_very_many_labels_go_without_an_enum() -> None:
    names = [f"label {n}" for n in range(ENUM_LIMIT + 1)]
    task = Classification(load_definitions(dict.fromkeys(names, "d")), pa.string())
    assert "enum" not in task.answer_schema()["properties"]["label"]
    assert task.parse(say(label="label 100")).label == "label 100"
    with pytest.raises(InvalidAnswer):
        task.parse(say(label="label 101"))
