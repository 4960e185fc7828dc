"""The classification task, and what every task type must keep (`test_contract_*`)."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_relabel.definitions import load_definitions
from llm_relabel.tasks import InvalidAnswer
from llm_relabel.tasks.classification import ENUM_LIMIT, Classification

NAMES = ("a", "b", "c")
ONE = Classification(load_definitions(dict.fromkeys(NAMES, "x")), multi_label=False)
MANY = Classification(load_definitions(dict.fromkeys(NAMES, "x")), multi_label=True)
ONE_LABEL = st.sampled_from([None, *NAMES])
SOME_LABELS = st.none() | st.sets(st.sampled_from(NAMES)).map(lambda s: tuple(sorted(s)))


def say(**answer: object) -> str:
    return json.dumps({"rationale": "r", "confidence": 0.7, **answer})


@given(st.lists(st.tuples(ONE_LABEL, ONE_LABEL, ONE_LABEL), min_size=1))
def test_contract_units_assemble_to_the_answer_one_label(rows: list[tuple]) -> None:
    for old, answered, predicted in rows:
        units = ONE.units(old, answered, predicted)
        assert ONE.assemble(old, {unit.name: unit.answered for unit in units}) == answered
        assert ONE.assemble(old, {unit.name: unit.old for unit in units}) == old


@given(SOME_LABELS, SOME_LABELS.filter(lambda v: v is not None), SOME_LABELS)
def test_contract_units_assemble_to_the_answer_many_labels(old, answered, predicted) -> None:
    units = MANY.units(old, answered, predicted)
    assert units
    assert MANY.assemble(old, {unit.name: unit.answered for unit in units}) == answered
    if old is not None:
        assert MANY.assemble(old, {unit.name: unit.old for unit in units}) == old


@given(st.lists(ONE_LABEL, min_size=1))
def test_contract_columns_round_trip_one_label(labels: list[str | None]) -> None:
    targets = ONE.encode(pa.chunked_array([pa.array(labels, pa.string())]))
    assert [ONE.decode(targets, row) for row in range(len(labels))] == labels
    assert ONE.to_arrow(targets).to_pylist() == labels


@given(st.lists(SOME_LABELS, min_size=1))
def test_contract_columns_round_trip_many_labels(labels: list) -> None:
    column = pa.chunked_array([pa.array(labels, pa.list_(pa.string()))])
    targets = MANY.encode(column)
    assert [MANY.decode(targets, row) for row in range(len(labels))] == labels
    back = [tuple(v) if v is not None else None for v in MANY.to_arrow(targets).to_pylist()]
    assert back == labels


def test_label_quality_is_lower_for_worse_labels() -> None:
    targets = ONE.encode(pa.chunked_array([pa.array(["a", "a", None])]))
    probs = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]], dtype=np.float32)
    quality = ONE.label_quality(targets, probs)
    assert quality.tolist() == pytest.approx([0.9, 0.1, 0.0])
    worst = MANY.label_quality(
        MANY.encode(pa.chunked_array([pa.array([["a"]], pa.list_(pa.string()))])),
        np.array([[0.9, 0.7, 0.1]], dtype=np.float32),
    )
    assert worst.tolist() == pytest.approx([0.3])  # `b` is absent and believed at 0.7


def test_answers_are_read_and_never_guessed() -> None:
    assert ONE.parse_answer(say(label="b")).label == "b"
    assert ONE.parse_answer("```json\n" + say(label="b") + "\n```").label == "b"
    assert ONE.parse_answer("<think>hm {</think>" + say(label="b")).label == "b"
    assert ONE.parse_answer(say(label="NONE_OF_THESE")).abstained == "none_fits"
    assert ONE.parse_answer(say(label="CANNOT_TELL")).abstained == "unsure"
    assert MANY.parse_answer(say(verdict="decided", labels=["c", "a"])).label == ("a", "c")
    assert MANY.parse_answer(say(verdict="CANNOT_TELL", labels=[])).abstained == "unsure"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (say(label="B"), "the label 'B' is not one of the defined labels"),
        (say(label="b "), "'b ' is not one of the defined"),
        (say(label=None), "label: "),
        (say(label="a", confidence=7), "confidence: "),
        (say(), "label: Field required"),
        ("", "Invalid JSON"),
        ("the label is a", "Invalid JSON"),
        ('{"label": "a"', "Invalid JSON"),
        (say(label=["a"]), "label: "),
        ("[1]", ""),
    ],
)
def test_invalid_answers_say_why(text: str, told: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        ONE.parse_answer(text)
    assert told in str(caught.value)


@given(st.text() | st.builds(json.dumps, st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(
        ["label", "labels", "confidence", "rationale", "x"]), inner))))  # fmt: skip
def test_any_text_is_an_answer_or_invalid(text: str) -> None:
    for task in (ONE, MANY):
        try:
            answer = task.parse_answer(text)
        except InvalidAnswer:
            continue
        assert answer.abstained or set(np.atleast_1d(answer.label or ())) <= set(NAMES)


def test_words_for_abstaining_never_collide_with_a_label() -> None:
    names = ("NONE_OF_THESE", "CANNOT_TELL", "x")
    task = Classification(load_definitions(dict.fromkeys(names, "d")), multi_label=False)
    assert task.parse_answer(say(label="NONE_OF_THESE")).label == "NONE_OF_THESE"
    enum = task.answer_schema()["properties"]["label"]["enum"]
    assert len(set(enum)) == len(enum) == 5


def test_very_many_labels_go_without_an_enum() -> None:
    names = [f"label {n}" for n in range(ENUM_LIMIT + 1)]
    task = Classification(load_definitions(dict.fromkeys(names, "d")), multi_label=False)
    assert "enum" not in task.answer_schema()["properties"]["label"]
    assert task.parse_answer(say(label="label 100")).label == "label 100"
    with pytest.raises(InvalidAnswer):
        task.parse_answer(say(label="label 101"))
