"""Texts that are longer than the encoder reads at once: the tail counts, short ones are as ever."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from llm_relabel.models.parts.encoder import MOST_WINDOWS, Encoder

FILLER = "The chair opened the session and the minutes were read. " * 60


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder("embedded", cache=None)


def test_the_tail_of_a_long_text_counts(encoder: Encoder) -> None:
    yes, no, alike = encoder.embed(
        [FILLER + "The motion carries.", FILLER + "The motion fails.", FILLER + "The motion fails."]
    )
    assert float(yes @ no) < 0.9999
    assert np.array_equal(no, alike)
    assert np.linalg.norm([yes, no], axis=1) == pytest.approx(1)


def test_short_texts_are_read_as_they_always_were(encoder: Encoder) -> None:
    short = ["a short one", "and another, somewhat longer than the first"]
    alone, among = encoder.embed(short), encoder.embed([*short, FILLER, FILLER * 2])
    np.testing.assert_allclose(alone, among[:2], atol=1e-5)  # of another batch


def test_a_very_long_text_costs_so_many_windows(encoder: Encoder) -> None:
    heard: list[tuple[int, int]] = []
    vectors = encoder.embed(
        [FILLER * 20 + "The end.", "b", FILLER], lambda done, total: heard.append((done, total))
    )
    assert heard[-1] == (3, 3)
    assert np.isfinite(vectors).all()
    assert MOST_WINDOWS == 8


def test_cached_vectors_are_the_same(tmp_path: object) -> None:
    texts = [FILLER, "short", FILLER + "tail"]
    first = Encoder("embedded", cache=tmp_path).embed(texts)
    assert np.array_equal(Encoder("embedded", cache=tmp_path).embed(texts), first)


def test_plan_counts_long_texts(work: toy.Work) -> None:
    rows = [
        {"id": f"i{n}", "text": f"{toy.text(n)} {n} {FILLER if n < 7 else ''}",
         "label": toy.truth(n)}
        for n in range(60)
    ]  # fmt: skip
    work.write_rows(rows)
    work.write_job(
        data={"path": "data.jsonl", "text": "text", "label": "label", "id": "id"},
        model={}, judge={"model": "embedded"},
    )  # fmt: skip
    done = work.run("plan", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert "About 7 texts are longer than the 256 tokens" in done.stdout
