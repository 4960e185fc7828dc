"""Tags and spans in every form that tools write: read, refused with the place, written back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_relabel.config.job import DataSection
from llm_relabel.data import Dataset, read_dataset
from llm_relabel.data.span_cells import span_cells
from llm_relabel.data.tags import SCHEMES, Scheme, spans_of, tags_of
from llm_relabel.errors import DataError


def read(path: Path, **data: Any) -> Dataset:
    section = DataSection(**{"path": str(path), "text": "text", "label": "label", **data})
    return read_dataset(section, Path, cells_of=span_cells)


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def places(data: Dataset) -> list[Any]:
    return [
        None if spans is None else [(s["start"], s["end"], s["type"]) for s in spans]
        for spans in data.labels.to_pylist()
    ]


def span(text: str, start: int, end: int, kind: str) -> dict[str, Any]:
    return {"start": start, "end": end, "type": kind, "text": text[start:end]}


# Tags


@st.composite
def tagged(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, str]]]:
    words, at, spans = draw(st.integers(1, 12)), 0, list[tuple[int, int, str]]()
    while at < words:
        if draw(st.booleans()):
            end = draw(st.integers(at + 1, words))
            spans.append((at, end, draw(st.sampled_from(["PER", "B-x", "O"]))))
            at = end
        else:
            at += 1
    return words, spans


@given(tagged(), st.sampled_from(["bio", "iob1", "bioes", "bilou"]))
def test_spans_come_back_out_of_the_tags_of_every_scheme(
    case: tuple[int, list[tuple[int, int, str]]], scheme: str
) -> None:
    words, spans = case
    assert list(spans_of(tags_of(spans, words, scheme))) == spans


@pytest.mark.parametrize(
    ("tags", "scheme", "spans"),
    [
        ("B-A I-A O B-A", "bio", [(0, 2), (3, 4)]),
        ("I-A I-A O I-A B-A", "iob1", [(0, 2), (3, 4), (4, 5)]),
        ("B-A E-A S-A O B-A I-A E-A", "bioes", [(0, 2), (2, 3), (4, 7)]),
        ("B-A L-A U-A O B-A I-A L-A", "bilou", [(0, 2), (2, 3), (4, 7)]),
        ("A A O A", "io", [(0, 2), (3, 4)]),
        ("O I-A I-A B-A", "iob1", [(1, 3), (3, 4)]),
    ],
)
def test_the_scheme_shows_and_is_written_again(
    tags: str, scheme: str, spans: list[tuple[int, int]]
) -> None:
    found = Scheme()
    found.see(tags.split(), 1)
    assert found.name == scheme
    assert scheme in SCHEMES
    assert [each[:2] for each in spans_of(tags.split())] == spans
    assert tags_of(spans_of(tags.split()), len(tags.split()), scheme) == tags.split()


def test_only_the_changed_sentence_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    before = (
        '{"text":["Ann","Lee","met","Bo"],  "label" : ["B-PER","E-PER","O","S-PER"], "x":1.50}\n'
        '{"text":["It","rains"],"label":["O","O"]}\n'
    )
    path.write_text(before)
    data = read(path)
    assert places(data) == [[(0, 7, "PER"), (12, 14, "PER")], []]
    new = [span("Ann Lee met Bo", 0, 14, "LOC")]
    written = data.write(tmp_path / "out", "new", {0: new}).read_text()
    old, tags = '["B-PER","E-PER","O","S-PER"]', '["B-LOC","I-LOC","I-LOC","E-LOC"]'
    assert written == before.replace(old, tags)


def test_words_with_spaces_inside_stay_words(tmp_path: Path) -> None:
    words = ["New York", "", "is\tbig"]
    data = read(lines(tmp_path / "a.jsonl", {"text": words, "label": ["B-LOC", "I-LOC", "O"]}))
    item = data.item(0)
    assert item.words is not None
    assert len(item.words) == 3
    assert places(data) == [[(0, item.words[1][1], "LOC")]]
    found = data.write(tmp_path / "out", "new", {0: []})
    assert json.loads(found.read_text()) == {"text": words, "label": ["O", "O", "O"]}


def test_numbers_of_a_class_label(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    features = datasets.Features(
        {"text": datasets.Sequence(datasets.Value("string")),
         "label": datasets.Sequence(datasets.ClassLabel(names=names))}
    )  # fmt: skip
    rows = {"text": [["Ann", "Lee"], ["in", "Rome"]], "label": [[1, 2], [0, 3]]}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    made.save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "a.parquet", tmp_path / "saved"):
        data = read(path)
        assert data.class_names == ("PER", "LOC")
        assert places(data) == [[(0, 7, "PER")], [(3, 7, "LOC")]]
        out = data.write(tmp_path / "out", path.stem, {1: [span("in Rome", 0, 7, "PER")]})
        assert places(read(out)) == [[(0, 7, "PER")], [(0, 7, "PER")]]
    with pytest.raises(DataError, match="the tag 'B-ORG' cannot be written"):
        data.write(tmp_path / "out", "no", {1: [span("in Rome", 3, 7, "ORG")]})
    plain = lines(tmp_path / "b.jsonl", {"text": ["Ann"], "label": [1]})
    with pytest.raises(DataError, match=r"set data\.tag_names"):
        read(plain)
    assert places(read(plain, tag_names=names)) == [[(0, 3, "PER")]]
    with pytest.raises(DataError, match=r"1 is not in 0\.\.0"):
        read(plain, tag_names=["O"])


def test_a_parquet_file_of_text_tags(tmp_path: Path) -> None:
    table = pa.table({"text": [["Ann", "Lee"]], "label": [["B-PER", "I-PER"]], "z": [1]})
    pq.write_table(table, tmp_path / "a.parquet")
    out = read(tmp_path / "a.parquet").write(tmp_path / "out", "new", {0: []})
    assert pq.read_table(out).to_pylist() == [{"text": ["Ann", "Lee"], "label": ["O", "O"], "z": 1}]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": ["a", "b"], "label": ["O"]}, "1 tags for 2 words"),
        (
            {"text": "a b c", "label": ["O"]},
            "needs a text that is a list of words",
        ),
        ({"text": ["a"], "label": "O"}, "holds no list of tags or spans"),
        ({"text": ["a"], "label": [True]}, "neither [start, end, type] nor a mapping"),
    ],
)
def test_what_are_no_tags_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, Any], told: str
) -> None:
    good = {"text": ["a", "b"], "label": ["O", "O"]}
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        read(lines(tmp_path / "a.jsonl", good, row))
    assert "line" in str(caught.value)
    assert "2" in str(caught.value)


def test_schemes_that_are_mixed_or_another_than_told(tmp_path: Path) -> None:
    rows = [{"text": ["a", "b"], "label": tags.split()} for tags in ("B-A I-A", "B-A L-A")]
    path = lines(tmp_path / "a.jsonl", *rows)
    assert len(places(read(path, scheme="bilou"))) == 2
    with pytest.raises(DataError, match=r"holds tags of bilou, and data\.scheme is bio"):
        read(path, scheme="bio")
    mixed = lines(tmp_path / "b.jsonl", *rows, {"text": ["a", "b"], "label": ["S-A", "O"]})
    with pytest.raises(DataError, match="beside tags of BILOU"):
        read(mixed)
    bare = lines(tmp_path / "c.jsonl", {"text": ["a", "b"], "label": ["A", "B-A"]})
    with pytest.raises(DataError, match="some are bare types"):
        read(bare)
    stray = [{"text": ["a", "b"], "label": tags.split()} for tags in ("B-A O", "O I-A")]
    found = read(lines(tmp_path / "d.jsonl", *stray))
    assert "1 tags I- that follow nothing of their type" in found.notes[0]
    both = lines(tmp_path / "e.jsonl", rows[0], {"text": ["a"], "label": [[0, 1, "A"]]})
    with pytest.raises(DataError, match="mixes tags and spans"):
        read(both)


# CoNLL

CONLL = (
    "-DOCSTART- -X- -X- O\r\n\r\nEU NNP B-NP B-ORG\r\nrejects VBZ B-VP O\r\n\r\n\r\n"
    "# NN B-NP O\r\nPeter NNP B-NP B-PER\r\n-DOCSTART- -X- -X- O\r\nRome NNP B-NP B-LOC"
)


def test_conll_of_four_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_bytes(CONLL.encode())
    data = read(path, text="tokens", label="ner_tags", group="document")
    assert data.text.to_pylist() == ["EU rejects", "# Peter", "Rome"]
    assert places(data) == [[(0, 2, "ORG")], [(2, 7, "PER")], [(0, 4, "LOC")]]
    assert data.groups[0] == data.groups[1] != data.groups[2]
    assert data.write(tmp_path / "out", "same", {}).read_bytes() == path.read_bytes()
    out = data.write(tmp_path / "out", "new", {1: [span("# Peter", 0, 7, "PER")], 2: []})
    wanted = CONLL.replace("# NN B-NP O", "# NN B-NP B-PER")
    wanted = wanted.replace("B-NP B-PER\r\n-D", "B-NP I-PER\r\n-D")
    assert out.read_bytes().decode() == wanted.replace("B-LOC", "O")
    assert "column_2" in data.source.columns()


@pytest.mark.parametrize("join", ["\t", " ", "  "])
def test_conll_of_two_columns_with_comments(tmp_path: Path, join: str) -> None:
    path = tmp_path / "a.bio"
    text = f"# id = 1\nAnn{join}B-PER\nslept{join}O\n\n# id = 2\n\nIt{join}O\n"
    path.write_text(text)
    data = read(path, text="tokens", label="ner_tags")
    assert (data.text.to_pylist(), places(data)) == (["Ann slept", "It"], [[(0, 3, "PER")], []])
    out = data.write(tmp_path / "out", "new", {0: []})
    assert out.read_text() == text.replace("B-PER", "O")
    path.write_text(text + f"x{join}y{join}O\n")
    with pytest.raises(DataError, match=r"3 instead of 2|has another number of columns"):
        read(path, text="tokens", label="ner_tags")
    path.write_text("word\n\nother\n")
    with pytest.raises(DataError, match="a word and its tag are needed"):
        read(path, text="tokens", label="ner_tags")


# spaCy


def docbin(
    path: Path, *docs: tuple[str, list[tuple[int, int, str]] | None], **options: Any
) -> Path:
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    blank = spacy.blank("en")
    found = spacy.tokens.DocBin(store_user_data=True, **options)
    for text, ents in docs:
        doc = blank(text)
        if ents is not None:
            doc.set_ents([doc.char_span(*each) for each in ents])
        doc.user_data["seen"] = text[:3]
        doc.spans["parts"] = [doc[0:1]] if len(doc) else []
        found.add(doc)
    found.to_disk(path)
    return path


def opened(path: Path) -> list[Any]:
    import spacy

    return list(spacy.tokens.DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_a_docbin_is_read_and_written_back(tmp_path: Path) -> None:
    first = "Ann didn't  see \U0001f600 Bob in New York.\nOk"
    path = docbin(
        tmp_path / "a.spacy", (first, [(0, 3, "PER"), (25, 33, "LOC")]), ("nobody looked", None),
        ("", None), ("It rains in Rome", []),
    )  # fmt: skip
    data = read(path, text="tokens", label="ner_tags")
    assert data.text.to_pylist()[1:] == ["nobody looked", "", "It rains in Rome"]
    words = data.text[0].as_py()
    assert [words[a:b] for a, b, _ in places(data)[0]] == ["Ann", "New York"]
    assert places(data)[1:] == [None, None, []]
    assert data.write(tmp_path / "out", "same", {}).read_bytes() == path.read_bytes()
    at = words.index("Bob")
    new = [span(words, 0, 3, "PER"), span(words, at, at + 3, "PER")]
    out = data.write(
        tmp_path / "out", "new", {0: new, 3: [span("It rains in Rome", 12, 16, "LOC")]}
    )
    docs, before = opened(out), opened(path)
    assert [[(e.text, e.label_) for e in doc.ents] for doc in docs] == [
        [("Ann", "PER"), ("Bob", "PER")], [], [], [("Rome", "LOC")],
    ]  # fmt: skip
    for doc, old in zip(docs, before, strict=True):
        assert (doc.text, doc.user_data, list(doc.spans)) == (old.text, old.user_data, ["parts"])
    assert not any(token.ent_iob for token in docs[1])


def test_a_docbin_without_entities_or_that_is_none(tmp_path: Path) -> None:
    path = docbin(tmp_path / "a.spacy", ("Ann", []), attrs=["LEMMA"])
    with pytest.raises(DataError, match="keeps no entities"):
        read(path, text="tokens", label="ner_tags")
    path.write_bytes(b"no such thing")
    with pytest.raises(DataError, match="no DocBin of spaCy"):
        read(path, text="tokens", label="ner_tags")


# Offsets

SMILE = "Hi \U0001f600 Zoë from Köln"
FORMS = {
    "doccano": ([[5, 8, "PER"], [14, 18, "LOC"]], [[5, 8, "LOC"]]),
    "spacy": (
        [{"start": 5, "end": 8, "label": "PER"}, {"start": 14, "end": 18, "label": "LOC"}],
        [{"start": 5, "end": 8, "label": "LOC"}],
    ),
    "prodigy": (
        [{"start": 5, "end": 8, "token_start": 2, "token_end": 2, "label": "PER"},
         {"start": 14, "end": 18, "label": "LOC", "token_start": 4, "token_end": 4}],
        [{"start": 5, "end": 8, "token_start": 2, "token_end": 2, "label": "LOC"}],
    ),
    "label studio": (
        [{"start": 6, "end": 9, "text": "Zoë", "labels": ["PER"]},
         {"start": 15, "end": 19, "text": "Köln", "labels": ["LOC"]}],
        [{"start": 6, "end": 9, "text": "Zoë", "labels": ["LOC"]}],
    ),
    "transformers": (
        [{"entity_group": "PER", "word": "Zoë", "start": 5, "end": 8},
         {"entity_group": "LOC", "word": "Köln", "start": 14, "end": 18}],
        [{"entity_group": "LOC", "word": "Zoë", "start": 5, "end": 8}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_spans_as_tools_write_them(tmp_path: Path, form: str) -> None:
    old, new = FORMS[form]
    path = lines(tmp_path / "a.jsonl", {"text": SMILE, "label": old}, {"text": "x", "label": []},
                 {"text": "y", "label": None})  # fmt: skip
    data = read(path)
    assert places(data) == [[(5, 8, "PER"), (14, 18, "LOC")], [], None]
    assert [s["text"] for s in data.labels[0].as_py()] == ["Zoë", "Köln"]
    out = data.write(tmp_path / "out", "new", {0: [span(SMILE, 5, 8, "LOC")]})
    first, *rest = out.read_text().splitlines()
    assert json.loads(first) == {"text": SMILE, "label": new}
    assert rest == path.read_text().splitlines()[1:]
    # A place that nobody had marked is written as its neighbours are.
    out = data.write(tmp_path / "out", "new", {1: [{**span("x", 0, 1, "PER")}]})
    assert places(read(out))[1] == [(0, 1, "PER")]


def test_utf16_offsets_without_words_are_told(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": SMILE, "label": [[6, 9, "PER"]]})
    data = read(path, offsets="utf16")
    assert places(data) == [[(5, 8, "PER")]]
    out = data.write(tmp_path / "out", "new", {0: [span(SMILE, 14, 18, "LOC")]})
    assert json.loads(out.read_text())["label"] == [[15, 19, "LOC"]]


@pytest.mark.parametrize(
    ("text", "label", "told"),
    [
        ("Ann Lee", [[0, 7, "PER"], [0, 3, "PER"]], "overlap or are nested"),
        ("Ann", [[0, 4, "PER"]], "outside of the text of 3 characters"),
        ("Ann", [[2, 2, "PER"]], "outside of the text"),
        ("Ann", [["0", "3", "PER"]], "no whole numbers"),
        ("Ann", [[0, 3, ""]], "has no type"),
        ("Ann", [[0, 3]], "neither [start, end, type] nor a mapping"),
        ("Ann", [{"start": 0, "label": "x"}], "has no end"),
        ("Ann", [{"start": 0, "end": 3, "labels": ["a", "b"]}], "it has 2 types"),
        ("e\u0301a", [[0, 1, "X"]], "cuts a character"),
        ("a\r\nBo", [{"start": 2, "end": 4, "text": "Bo", "label": "X"}], "line ends or other"),
    ],
)
def test_spans_that_cannot_be_are_refused(tmp_path: Path, text: str, label: Any, told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        read(
            lines(tmp_path / "a.jsonl", {"text": "b", "label": []}, {"text": text, "label": label})
        )
    assert "2" in str(caught.value)


def test_a_span_inside_a_word_is_told_and_kept(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "cats", "label": [[0, 3, "X"]]},
                 {"text": "東京都", "label": [[0, 2, "X"]]})  # fmt: skip
    data = read(path)
    assert places(data) == [[(0, 3, "X")], [(0, 2, "X")]]
    assert ["ends inside a word" in note for note in data.notes] == [True]
    assert "line 1" in data.notes[0] or "(line 1)" in data.notes[0]


def test_aliases_join_types_and_the_file_keeps_its_own(tmp_path: Path) -> None:
    rows = [{"text": ["a", "b"], "label": ["B-Person", "B-PER"]}]
    path = lines(tmp_path / "a.jsonl", *rows)
    section = DataSection(path=str(path), text="text", label="label")
    data = read_dataset(section, Path, {"Person": "PER"}, span_cells)
    assert data.label_counts() == {"PER": 2}
    assert data.write(tmp_path / "out", "same", {}).read_bytes() == path.read_bytes()
