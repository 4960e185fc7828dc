"""What units once broke: classes called as the item's unit, first labels of several classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
import yaml

import llm_relabel as lr
from llm_relabel.evidence.fusion import SourceCodes, fuse
from llm_relabel.models.parts import encoder


def many_labels(work: toy.Work, names: tuple[str, ...], rows: list[Any], said: list[Any]) -> None:
    """A multi-label job: the given labels, and what the small model and the judge say alike."""
    (work.folder / "labels.yaml").write_text(
        yaml.safe_dump({"labels": {name: f"About {name}." for name in names}}, sort_keys=False)
    )
    work.write_rows(
        [{"id": str(n), "text": f"text {n}", "label": label} for n, label in enumerate(rows)]
    )
    work.write_lines(
        "predictions.jsonl",
        [{"id": str(n), "pred_probs": [0.9 if name in label else 0.1 for name in names]}
         for n, label in enumerate(said)],
    )  # fmt: skip
    work.write_lines(
        "recorded.jsonl", [{"id": str(n), "label": label} for n, label in enumerate(said)]
    )
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id"}
    work.write_job(
        data=data, model={"predictions": "predictions.jsonl"}, decide={"policy": "agree"}
    )


def test_a_class_called_label_is_a_class_like_any_other(work: toy.Work) -> None:
    rows = [["label"], ["item"], [], ["label", "item"], ["label"]]
    said = [["item"], ["item"], ["label"], ["label", "item"], []]
    many_labels(work, ("label", "item"), rows, said)
    assert lr.relabel(work.job).summary["status"] == "done"
    assert work.labels() == said
    units = {(c["id"], c["unit"]): c["new"] for c in lr.Run(work.run_folder).changes()}
    assert units == {("0", "class:label"): False, ("0", "class:item"): True,
                     ("2", "class:label"): True, ("4", "class:label"): False}  # fmt: skip


def test_a_first_label_goes_with_all_that_was_made_of_it(work: toy.Work) -> None:
    rows: list[Any] = [["a"], ["b"], None, ["a", "b"], []]
    said = [["a"], ["b"], ["a"], ["a", "b"], []]
    many_labels(work, ("a", "b"), rows, said)
    lr.relabel(work.job)
    run = lr.Run(work.run_folder)
    [first] = run.changes()
    assert (first["unit"], first["old"], first["new"]) == ("item", None, ["a"])
    # A later round adds a class to the label that the first one gave.
    later = {**first, "unit": "class:b", "round": 2, "old": False, "new": True}
    run._folder.append_changes([later])
    run.rollback(rounds=[1])
    assert run.changes() == []
    assert work.labels() == rows


def test_a_rollback_by_label_finds_first_labels_that_are_sets(work: toy.Work) -> None:
    rows: list[Any] = [["a"], None, None, ["b"], None]
    said = [["a", "b"], ["a", "b"], ["c"], ["b"], []]
    many_labels(work, ("a", "b", "c"), rows, said)
    run = lr.relabel(work.job)
    assert work.labels() == said
    assert run.rollback(labels=["b"]) == 2
    assert work.labels() == [["a"], None, ["c"], ["b"], []]


def test_a_run_that_needs_no_encoder_asks_for_none(
    work: toy.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "BUNDLED_PACKAGE", "a_package_that_is_not_there")
    assert lr.relabel(work.job).summary["status"] == "done"
    work.write_job(model={}, output="trained")
    with pytest.raises(lr.JobError):
        lr.relabel(work.job)
    assert not (work.folder / "trained" / "job.yaml").exists()


def test_units_that_nobody_named_teach_what_none_means() -> None:
    """Spans exist because somebody named them: without the unseen ones nobody's `none` is right."""
    rng = np.random.default_rng(0)
    true = rng.random(3000) < 0.15  # of the places where a span might be
    said = [np.where(rng.random(3000) < 0.9, true, rng.random(3000) < 0.15) for _ in range(3)]
    named = said[0] | said[1] | said[2]
    sources = [SourceCodes(str(n), each[named].astype(np.int32)) for n, each in enumerate(said)]
    flat = np.full((int(named.sum()), 2), 0.5, dtype=np.float32)
    unseen = float((~named).sum())
    told = {
        count: fuse(sources, flat, none=0, unseen=count).confusion["0"][0, 0]
        for count in (0.0, unseen)
    }
    real = float((~said[0][~true]).mean())
    assert abs(told[unseen] - real) < abs(told[0.0] - real)
