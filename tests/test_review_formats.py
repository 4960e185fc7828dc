"""Spot-checks through Label Studio's and Argilla's own packages, there and back."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_review import answered, begun, many, reviewable, work_of
from test_review_sampling import write_beliefs

import llm_relabel as lr
from llm_relabel.review import Review, draw_sample, export_items, import_answers, read_answers

interface = pytest.importorskip("label_studio_sdk.label_interface")
converter = pytest.importorskip("label_studio_sdk.converter")

EXPORTS = ("JSON", "JSON_MIN", "CSV", "TSV")
# The sdk calls a deprecated method of its own dependency.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")
SAID = {"unsure": {"otherwise": "unsure"}, "none": {"otherwise": "no label applies"}}


class Project:
    """A Label Studio project on disk: its own SDK reads the config, makes results, exports."""

    def __init__(self, review: Review, folder: Path) -> None:
        self.folder = folder
        path = folder / "tasks.json"
        export_items(review, path, "label-studio")
        self.config = (folder / "tasks.config.xml").read_text(encoding="utf-8")
        self.interface = interface.LabelInterface(self.config)
        self.interface.validate()
        self.tasks = json.loads(path.read_text())
        assert all(self.interface.validate_task(task) for task in self.tasks)
        for number, task in enumerate(self.tasks, start=1):
            task |= {"id": number, "annotations": []}

    def say(self, item: str, by: Any, said: dict[str, Any], *, at: int = 0, **more: Any) -> None:
        """An annotation: `said` maps a control of the config to what was chosen or written."""
        task = next(task for task in self.tasks if task["data"]["item_id"] == item)
        regions = [region._dict() for region in self.interface.create_regions(said)]
        task["annotations"].append(
            {"id": len(task["annotations"]), "result": regions, "completed_by": by,
             "was_cancelled": False, "lead_time": 2.5,
             "created_at": f"2026-01-01T00:00:{at:02}Z", **more}
        )  # fmt: skip

    def export(self, kind: str) -> Path:
        source = self.folder / "project.json"
        source.write_text(json.dumps(self.tasks), encoding="utf-8")
        out = self.folder / kind
        made = converter.Converter(self.config, project_dir=str(self.folder))
        made.convert(str(source), str(out), kind, is_dir=False)
        found = next(out.iterdir())
        return found.rename(found.with_suffix(".tsv")) if kind == "TSV" else found


@pytest.mark.parametrize("kind", EXPORTS)
def test_label_studio_and_back(work: toy.Work, kind: str) -> None:
    review = reviewable(work)
    project = Project(review, work.folder)
    assert project.interface.get_control("answer").labels == list(toy.NAMES)
    ids = review.asked_ids()
    for item in ids[:5]:
        project.say(item, 7, {"answer": toy.truth(int(item[1:]))})
    project.say(ids[5], 7, {"otherwise": "unsure", "note": "which?\nboth"})
    project.say(ids[6], 7, {"answer": "tool"}, was_cancelled=True)
    project.say(ids[7], 7, {})
    told = import_answers(review, project.export(kind), "Zoë").told()
    assert "6 answers of Zoë taken over" in told
    expected = {item: toy.truth(int(item[1:])) for item in ids[:5]} | {ids[5]: None}
    assert answered(review) == expected
    notes = [line["note"] for line in review.folder.lines() if "note" in line]
    assert notes == ["which?\nboth"]
    before = review.folder.answers_path.read_bytes()
    assert import_answers(review, project.export(kind), "Zoë").new == 0
    assert review.folder.answers_path.read_bytes() == before


@pytest.mark.parametrize("kind", EXPORTS)
def test_label_studio_with_sets_of_labels(work: toy.Work, kind: str) -> None:
    review = many(work)
    project = Project(review, work.folder)
    ids = review.asked_ids()
    for item, said in zip(
        ids,
        [{"answer": ["fruit"]}, {"answer": ["animal", "fruit"]}, SAID["none"], SAID["unsure"], {}],
        strict=False,
    ):
        project.say(item, {"email": "zoe@example.org", "id": 3}, said)
    import_answers(review, project.export(kind))
    assert answered(review) == dict(
        zip(ids, [("fruit",), ("fruit", "animal"), (), None], strict=False)
    )
    assert {line["reviewer"] for line in review.folder.lines()} == {"zoe@example.org"}


@pytest.mark.parametrize("kind", EXPORTS)
def test_annotators_of_one_project_count_each(work: toy.Work, kind: str) -> None:
    review = reviewable(work)
    project = Project(review, work.folder)
    ids = review.asked_ids()
    for by, name in ((1, "tool"), (2, "tool"), (3, "fruit")):
        project.say(ids[0], by, {"answer": name}, at=by)
    project.say(ids[1], 1, {"answer": "fruit"}, at=9)  # thought again: the later one counts
    project.say(ids[1], 1, {"answer": "animal"}, at=5)
    path = project.export(kind)
    with pytest.raises(lr.DataError, match=r"answered twice, differently.*leave out --reviewer"):
        import_answers(review, path, "me")
    assert not review.folder.answers_path.exists()
    assert import_answers(review, path).reviewers == ("1", "2", "3")
    checks = {check.id: check for check in read_answers(review.run, review.task)}
    assert (checks[ids[0]].answer, checks[ids[0]].reviewers) == ("tool", 3)
    assert checks[ids[1]].answer == "fruit"


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_label_studio_export_with_faults_is_refused_whole(work: toy.Work, kind: str) -> None:
    review = reviewable(work)
    project = Project(review, work.folder)
    ids = review.asked_ids()
    project.say(ids[0], 1, {"answer": "tool"})
    project.say(ids[1], 1, {"answer": "tool", "otherwise": "unsure"})
    project.say(ids[2], 1, {"answer": "tool"})
    project.tasks[2]["annotations"][0]["result"][0]["value"]["choices"] = ["spade"]
    project.say(ids[3], 1, {"answer": "tool"})
    project.tasks[3]["data"]["item_id"] = "nobody"
    with pytest.raises(lr.DataError) as told:
        import_answers(review, project.export(kind))
    for words in ("1 answers that say two things", "1 answers that cannot be used", "'spade'",
                  "1 ids not in the data", "'nobody'"):  # fmt: skip
        assert words in str(told.value)
    assert not review.folder.answers_path.exists()


# What XML cannot hold is no character of a labeling config; the rest of Unicode is.
_text = st.text(
    st.characters(
        blacklist_categories=["Cs", "Cc", "Cn"], whitelist_characters="\n\t", max_codepoint=0xFFFD
    ),
    min_size=1, max_size=10,
)  # fmt: skip
class_names = st.lists(
    _text.filter(lambda name: name.strip() == name), min_size=2, max_size=5, unique=True
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), classes=class_names, sets=st.booleans(), kind=st.sampled_from(EXPORTS))
def test_label_studio_keeps_whatever_labels_there_are(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, classes: list[str], sets: bool,
    kind: str,
) -> None:  # fmt: skip
    work = work_of(tmp_path_factory.mktemp("trip"), classes, [classes[:1]] * 6 if sets else None)
    begun(work)
    write_beliefs(work.run_folder, [True] * 6, [0.5] * 6)
    review = Review(work.run_folder)
    draw_sample(review, 6)
    project = Project(review, work.folder)
    answer: Any = st.sampled_from(classes)
    if sets:
        answer = st.lists(st.sampled_from(classes), min_size=1, unique=True)
    said = {item: data.draw(answer) for item in review.asked_ids()}
    for item, label in said.items():
        project.say(item, 1, {"answer": label})
    import_answers(review, project.export(kind), "me")
    if sets:
        said = {item: tuple(n for n in classes if n in names) for item, names in said.items()}
    assert answered(review) == said


def test_argilla_and_back(work: toy.Work) -> None:
    argilla = pytest.importorskip("argilla")
    review = reviewable(work)
    path = work.folder / "records.json"
    export_items(review, path, "argilla")
    records = [argilla.Record.from_dict(each) for each in json.loads(path.read_text())]
    ids = review.asked_ids()
    assert [record.id for record in records] == ids
    assert all(not list(record.suggestions) for record in records)
    one, other = uuid.uuid4(), uuid.uuid4()
    said = [(0, one, "answer", "tool"), (0, other, "answer", "tool"), (1, one, "answer", "fruit"),
            (2, one, "otherwise", "unsure"), (2, one, "note", "which?"),
            (3, one, "otherwise", "later")]  # fmt: skip
    filled = []
    for place, record in enumerate(records):
        responses = [argilla.Response(name, value, user_id=user)
                     for at, user, name, value in said if at == place]  # fmt: skip
        filled.append(argilla.Record(id=record.id, fields=record.fields, responses=responses))
    back = work.folder / "back.json"
    # What `Dataset.records.to_json` writes.
    back.write_text(json.dumps([record.to_dict() for record in filled]))
    assert import_answers(review, back).reviewers == tuple(sorted((str(one), str(other))))
    checks = {check.id: (check.answer, check.reviewers) for check in
              read_answers(review.run, review.task)}  # fmt: skip
    assert checks == {ids[0]: ("tool", 2), ids[1]: ("fruit", 1), ids[2]: (None, 1)}
    assert import_answers(review, back).new == 0


def test_argilla_takes_the_settings(work: toy.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    argilla = pytest.importorskip("argilla")
    # Settings belong to a client of a server; these are only read, and no server is asked.
    client = argilla.Argilla.__new__(argilla.Argilla)
    client.api = SimpleNamespace(datasets=None, fields=None, questions=None)
    monkeypatch.setattr(argilla.Argilla, "_default_client", client)
    review = many(work)
    path = work.folder / "records.json"
    export_items(review, path, "argilla")
    found = argilla.Settings.from_json(work.folder / "records.settings.json")
    assert [field.name for field in found.fields] == ["field_1"]
    assert [(each.name, each.required) for each in found.questions] == [
        ("answer", False), ("otherwise", False), ("note", False)
    ]  # fmt: skip
    assert isinstance(found.questions[0], argilla.MultiLabelQuestion)
    assert list(found.questions[0].labels) == list(toy.NAMES)
    assert "**tool**: The text is about a kind of tool." in found.guidelines
    found.validate()
    lines = [{"id": review.asked_ids()[0], "fields": {}, "responses":
              {"otherwise": [{"value": "no label applies", "user_id": "u"}]}}]  # fmt: skip
    back = work.folder / "back.json"
    back.write_text(json.dumps(lines))
    import_answers(review, back)
    assert answered(review) == {review.asked_ids()[0]: ()}
