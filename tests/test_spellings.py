"""Spellings of one label: told with counts, joined by aliases, never repaired, always visible."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import toy
import yaml
from data_files import jsonl, read

from llm_relabel.config.definitions import load_definitions
from llm_relabel.errors import DefinitionsError

NFD = unicodedata.normalize("NFD", "café")


def spelled(work: toy.Work, fruit: tuple[str, ...] = ("fruit", "Fruit", "fruit ")) -> list[str]:
    """The toy's data, no label wrong, its fruit spelled in turn as told; gives the labels."""
    labels = [
        fruit[row // 3 % len(fruit)] if toy.truth(row) == "fruit" else toy.truth(row)
        for row in range(toy.ROWS)
    ]
    work.write_rows(
        [{"id": f"i{row}", "text": toy.text(row), "label": labels[row], "gold": toy.truth(row)}
         for row in range(toy.ROWS)]
    )  # fmt: skip
    return labels


def joined(work: toy.Work) -> None:
    labels = {name: {"definition": f"A kind of {name}."} for name in toy.NAMES}
    labels["fruit"]["aliases"] = ["Fruit", "fruit "]
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))


def test_a_changed_spelling_is_no_repair(work: toy.Work) -> None:
    labels = spelled(work)
    joined(work)
    recorded = [{"id": f"i{row}", "label": labels[(row + 3) % 60]} for row in range(60)]
    work.write_lines("recorded.jsonl", recorded)
    work.write_job(judge={"model": "recorded/recorded.jsonl"}, decide={"policy": "replace"})
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert work.summary["changed"] == 0
    assert (work.run_folder / "dataset.jsonl").read_bytes() == work.data.read_bytes()
    assert work.summary["gold"]["labels_before"] == 1


def test_without_aliases_plan_tells_the_counts(work: toy.Work) -> None:
    spelled(work)
    labels = {name: f"A kind of {name}." for name in (*toy.NAMES, "Fruit", "fruit ")}
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    work.write_job(model={})
    done = work.run("plan", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert (
        "Warning: labels that look alike are different labels: 'Fruit' (7), 'fruit' (7), "
        "'fruit␣' (6); where they are one, `aliases: [...]` under it in the label definitions "
        "joins them"
    ) in done.stdout


def test_spellings_without_definition_are_told_to_be_aliases(work: toy.Work) -> None:
    spelled(work)
    done = work.run("plan", "job.yaml")
    assert done.returncode == 2
    assert "2 label values have no definition" in done.stderr
    assert "'Fruit' (7), 'fruit' (7), 'fruit␣' (6); where they are one, `aliases" in done.stderr


def test_init_joins_them_and_says_so(work: toy.Work) -> None:
    spelled(work, ("fruit", "fruit", "Fruit", "fruit "))
    done = work.run("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    assert done.returncode == 0, done.stderr
    assert "'fruit' (10), 'Fruit' (5), 'fruit␣' (5)" in done.stdout
    assert "60 rows, 3 labels" in done.stdout
    labels = yaml.safe_load((work.folder / "new" / "labels.yaml").read_text())["labels"]
    assert labels["fruit"]["aliases"] == ["Fruit", "fruit "]
    assert set(labels) == set(toy.NAMES)


@pytest.mark.parametrize(
    "spellings",
    [
        ("a b", "A B", "a  b", " a b", "a b ", "a\u00a0b", "a\u200bb".replace("b", " b"), "a_b"),
        ("café", NFD, "CAFÉ"),
        ("not spam", "not-spam", "Not–Spam", "not_spam"),
        ("ﬁne", "fine", "ＦＩＮＥ"),
        ("1", "1.0", "01", "１"),
        ("it's", "it’s"),
        ("straße", "STRASSE"),
        ("true", "True", "TRUE"),
    ],
)
def test_what_looks_alike(work: toy.Work, spellings: tuple[str, ...]) -> None:
    spelled(work, spellings)
    done = work.run("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new")
    assert done.returncode == 0, done.stderr
    assert "60 rows, 3 labels" in done.stdout
    labels = yaml.safe_load((work.folder / "new" / "labels.yaml").read_text("utf-8"))["labels"]
    (group,) = [{name, *each["aliases"]} for name, each in labels.items() if "aliases" in each]
    assert group == set(spellings)


@pytest.mark.parametrize(
    "names", [("c", "c++", "c#"), ("1", "-1", "10"), ("+", "-", "?"), ("", "x")]
)
def test_what_does_not_look_alike(work: toy.Work, names: tuple[str, ...]) -> None:
    spelled(work, names)
    done = work.run("init", "data.jsonl", "--text", "text", "--label", "label", "-o", "new",
                    "--missing", "")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "look alike" not in done.stdout


def test_lists_and_class_numbers_have_aliases_too(tmp_path: Path) -> None:
    from llm_relabel.config.job import DataSection
    from llm_relabel.data import read_dataset

    path = jsonl(tmp_path / "d.jsonl", [{"text": "a", "label": ["X", "x ", "y"]}])
    section = DataSection(path=str(path), text="text", label="label")
    data = read_dataset(section, Path, {"X": "x", "x ": "x"})
    assert data.labels.to_pylist() == [["x", "y"]]
    assert data.write(tmp_path, "out", {}).read_bytes() == path.read_bytes()
    assert read(path).labels.to_pylist() == [["X", "x ", "y"]]


def test_aliases_that_contradict_each_other() -> None:
    with pytest.raises(DefinitionsError) as caught:
        load_definitions(
            {"a": {"definition": "d", "aliases": ["b", "c"]},
             "b": {"definition": "d", "aliases": ["c"]}}
        )  # fmt: skip
    assert str(caught.value).endswith(
        "'b' is an alias of 'a' and a class of its own; remove one of them; "
        "'c' is an alias of 'a' and of 'b'"
    )


def test_aliases_at_the_top_are_told_their_place(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("labels: {a: x, b: y}\naliases: {A: a}\n")
    with pytest.raises(DefinitionsError, match="aliases stand under their label"):
        load_definitions(path)


def test_definitions_without_aliases_keep_their_hash() -> None:
    plain = load_definitions({"a": "x", "b": "y"})
    assert plain.sha256() == "2e8ad3d31c56b2860f2d8bfd7421b2f3c174944d1f916a9f828db978748f4ff4"
    other = load_definitions({"a": {"definition": "x", "aliases": ["A"]}, "b": "y"})
    assert other.sha256() != plain.sha256()


def test_a_trailing_space_is_seen_wherever_labels_are_shown(work: toy.Work) -> None:
    spelled(work, ("fruit ",))
    labels = {name: f"A kind of {name}." for name in ("fruit ", "tool", "animal")}
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    shown = ("fruit ", "fruit␣")  # as it is, and as prompts and pages show it
    recorded = [{"id": f"i{row}", "label": shown[row % 2]} for row in range(60)]
    work.write_lines("recorded.jsonl", recorded)
    rows = [
        {"id": f"i{row}", "fruit ": 0.98, "tool": 0.01, "animal": 0.01} for row in range(toy.ROWS)
    ]
    work.write_lines("predictions.jsonl", rows)
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    work.write_job(data=data, decide={"policy": "replace"}, rounds=1)
    done = work.run("plan", "job.yaml")
    assert "tool -> fruit␣" in done.stdout
    done = work.run("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert work.summary["changed"] == 40
    assert "`fruit␣`" in work.run("report", "run").stdout
    assert "fruit␣" in (work.run_folder / "report.html").read_text("utf-8")
    assert '"fruit␣"' in (work.run_folder / "changes.csv").read_text("utf-8-sig")
    assert {json.loads(line)["label"] for line in (work.run_folder / "dataset.jsonl").open()} == {
        "fruit "
    }
