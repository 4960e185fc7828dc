"""Hostile items stay inside: of their fence, of the schema, of a cell, of a page, of a terminal.

`evals/hostile.py` puts the whole corpus through everything; here whatever is slow sees a part.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hostile import FAMILIES, PICKLE, HostileItem, corpus
from hostile_checks import (
    BROKEN_BODIES,
    WIRES,
    Found,
    RogueServer,
    ask_all,
    asks_of,
    check_batch_lines,
    check_payloads,
)
from hostile_runs import NAMES, call, check_run, hostile_rows, write_job
from loopback import LoopbackServer

from llm_relabel.judge.cache import CachedAnswer, VerdictCache
from llm_relabel.prompts.fit import cut_to
from llm_relabel.records import Tokens


def some(step: int) -> tuple[HostileItem, ...]:
    """Every `step`th item, and the first of each family."""
    firsts = {item.family: item for item in reversed(corpus())}
    chosen = {item.id: item for item in (*firsts.values(), *corpus()[::step])}
    return tuple(chosen.values())


def expect_clean(found: Found) -> None:
    assert found.escapes == []
    assert found.leaks == []
    assert found.crashes == []


def test_the_corpus_has_every_family_and_each_item_once() -> None:
    assert {item.family for item in corpus()} == {*FAMILIES, "mixed"}
    assert len({item.id for item in corpus()}) == len(corpus()) >= 250


@pytest.mark.parametrize("wire", WIRES)
def test_payloads_and_rogue_answers(wire: str, tmp_path: Path) -> None:
    # litellm takes 20 times as long: its own redaction of errors reads every request.
    attacks = some(60 if wire == "litellm" else 3)
    found = check_payloads(wire, tmp_path, attacks)
    expect_clean(found)
    assert found.outcomes["answer"] > 0
    assert found.outcomes["failed"] > 0
    assert found.requests > 4 * len(attacks), "no answer was asked again"


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_batch_lines(wire: str, tmp_path: Path) -> None:
    found = check_batch_lines(wire, tmp_path)
    expect_clean(found)
    assert found.requests == 4 * len(corpus())


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_broken_bodies_take_no_place_of_a_call(wire: str, tmp_path: Path) -> None:
    # More questions than may be in flight: a call that kept its place would stop the run for ever.
    for body in (body for body in BROKEN_BODIES[wire] if body.raw is not None):
        with LoopbackServer(lambda _, body=body: body) as server:
            asks = asks_of([(f"i{number}", f"text {number}") for number in range(2)])
            ended = ask_all(wire, server, asks, tmp_path, concurrency=2)
        assert {verdict.outcome for _, verdict in ended} <= {"answer", "failed"}, body.raw[:80]


def test_a_megabyte_is_cut_where_everybody_sees_it() -> None:
    words = "".join(f"word{number} " for number in range(120_000))
    (shown,) = cut_to([words], 8000)
    assert len(words) > 1_000_000
    head, _, rest = shown.partition("\n[... ")
    told, _, tail = rest.partition(" characters are left out here ...]\n")
    assert words.startswith(head)
    assert words.endswith(tail)
    assert int(told.replace(",", "")) == len(words) - len(head) - len(tail)
    assert len(head) > 15_000
    assert len(tail) > 7_000


def test_a_whole_run(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url}
        found = check_run(tmp_path, some(8), judge, form="csv")
    expect_clean(found)
    assert found.outcomes["changed"] > 9


def test_a_rogue_judge_changes_nothing_but_to_defined_labels(tmp_path: Path) -> None:
    items = some(15)
    demands = {item.text: item.demands for item in items}
    with RogueServer("openai", demands, broken=False) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url}
        found = check_run(tmp_path, items, {**judge, "breakers": {
            "failures_in_a_row": None, "failed": None, "invalid": None}})  # fmt: skip
    expect_clean(found)
    verdicts = [
        json.loads(line)
        for line in (tmp_path / "run/round-1/verdicts.jsonl").open(encoding="utf-8")
    ]
    assert {verdict["answer"] for verdict in verdicts} <= {None, *NAMES}
    assert {verdict["outcome"] for verdict in verdicts} >= {"answer", "failed"}


def test_what_nobody_changed_stays_byte_for_byte(tmp_path: Path) -> None:
    rows = hostile_rows(corpus(), "jsonl")
    write_job(tmp_path, rows, "jsonl", {"model": "recorded/recorded.jsonl"})
    # As other programs write them: raw control characters and escapes side by side.
    path = tmp_path / "data.jsonl"
    odd = b'{"id": "odd", "text": "\\u0041\\ud800 \xe2\x80\xa8\\/", "label": "NUM" , "n": 1.0}\r\n'
    path.write_bytes(odd + path.read_bytes())
    with (tmp_path / "predictions.jsonl").open("a", encoding="utf-8") as file:
        probs = [1.0] + [0.0] * (len(NAMES) - 1)
        file.write(json.dumps({"id": "odd", "pred_probs": probs}) + "\n")
    (tmp_path / "recorded.jsonl").write_text(
        "".join(json.dumps({"id": row["id"], "label": row["label"]}) + "\n" for row in rows[:9])
    )
    done = call(tmp_path, "run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/dataset.jsonl").read_bytes() == path.read_bytes()


def test_the_cache_opens_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CachedAnswer('{"label": "NUM"}', Tokens(1, 1), 0.0)
    cache = VerdictCache(tmp_path)
    cache.put("a" * 64, answer)
    cache.put("b" * 64, answer)
    cache.close()
    plant_pickle(tmp_path / "verdicts")
    cache = VerdictCache(tmp_path)
    assert cache.get("a" * 64) is None
    assert cache.get("b" * 64) == answer
    assert len(cache) == 3
    cache.put("a" * 64, answer)
    cache.close()
    cache = VerdictCache(tmp_path)
    assert cache.get("a" * 64) == answer
    cache.clear()
    cache.close()
    assert list(tmp_path.glob("hostile-canary*")) == []


def plant_pickle(folder: Path) -> None:
    """As somebody who can write the cache's file: a value, and a key, that run when opened."""
    import sqlite3

    import diskcache

    base = sqlite3.connect(folder / "cache.db")
    found = base.execute(
        "UPDATE Cache SET mode = ?, value = ? WHERE key = ?",
        (diskcache.core.MODE_PICKLE, sqlite3.Binary(PICKLE), "a" * 64),
    )
    assert found.rowcount == 1
    base.execute(
        "INSERT INTO Cache (key, raw, store_time, access_time, access_count, size, mode, value)"
        " VALUES (?, 0, 0, 0, 0, 0, ?, ?)",
        (sqlite3.Binary(PICKLE), diskcache.core.MODE_PICKLE, sqlite3.Binary(PICKLE)),
    )
    base.commit()
    base.close()
