"""`tune`: from vague definitions to proved ones, over real servers, with every guard tried."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tuned
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import wait_for
from loopback import Fault, LoopbackServer, Received
from tuned import NAMES, Tuned, answer, by_the_book, row_of, text, truth

from llm_relabel import tune
from llm_relabel.config.definitions import as_yaml, load_definitions
from llm_relabel.errors import DataError, DefinitionsError, JobError
from llm_relabel.tune import proof
from llm_relabel.tune.guideline import shingles
from llm_relabel.tune.split import dealt
from llm_relabel.tune.yaml_edits import edited


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuned:
    monkeypatch.chdir(tmp_path)
    return Tuned(tmp_path)


def settled(work: Tuned, server: LoopbackServer, *words: str) -> dict[str, Any]:
    work.llm(server.openai_url)
    done = work.tune(*words)
    assert done.returncode == 0, done.stderr
    return work.result()


def test_vague_definitions_become_proved_ones(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        found = settled(work, server)
        asked = list(server.requests)
        assert found["status"] == "proved"
        test = found["test"]
        assert (test["items"], test["look"], test["alpha"]) == (100, 1, 0.025)
        assert test["right_after"] > test["right_before"] + 30
        assert test["fixed"] - test["broken"] == test["right_after"] - test["right_before"]
        assert found["calls"]["calls"] == len(asked) <= 1200
        again = settled(work, server)
        assert len(server.requests) == len(asked)  # all answers are kept, and it is the same look
        assert again["test"] == test
    parts = {line["id"]: line["part"] for line in work.left("split.jsonl")}
    assert sorted(set(parts.values())) == ["propose", "select", "test"]
    # Nothing of a test item is in any prompt before the test.
    tested = [row_of(each) for each in asked if parts[f"i{row_of(each)}"] == "test"]
    assert len(tested) == 200
    assert [row_of(each) for each in asked[-200:]] == tested
    unseen = shingles(text(row) for row in set(tested))
    for each in asked[:-200]:
        assert shingles([each.body["messages"][0]["content"]]).isdisjoint(unseen)
    # Gold is copied nowhere.
    gold = {text(int(item_id[1:])) for item_id in parts}
    new = load_definitions(work.tune_folder / "labels.tuned.yaml")
    assert not gold & {example for each in new.labels.values() for example in each.examples}
    assert new.names == NAMES
    assert "# a person's example" in (work.tune_folder / "labels.tuned.yaml").read_text()
    lines = work.left("proposals.jsonl")
    assert {line["label"] for line in lines} <= set(NAMES)
    assert all(line["status"] == "proved" and line["old"] != line["new"] for line in lines)
    assert "+++ labels.tuned.yaml" in (work.tune_folder / "labels.diff").read_text()
    told = (work.tune_folder / "tune.md").read_text()
    assert "proved on gold that it had not seen" in told
    assert "tokens of guideline stand before each item" in told


def test_gold_of_the_test_decides_no_candidate(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        settled(work, server)
        tried = (work.tune_folder / "candidates.jsonl").read_bytes()
        parts = {line["id"]: line["part"] for line in work.left("split.jsonl")}
        rows = [json.loads(line) for line in Path("gold.jsonl").read_text().splitlines()]
        for row in rows:
            if parts[row["id"]] == "test":
                row["gold"] = NAMES[(NAMES.index(row["gold"]) + 1) % 4]
        work.write_lines("gold.jsonl", rows)
        found = settled(work, server, "-o", "other")
    assert (work.folder / "other" / "candidates.jsonl").read_bytes() == tried
    assert found["status"] == "proved"  # of the first folder; the other one is below
    other = json.loads((work.folder / "other" / "tune.json").read_text())
    assert other["status"] == "not proved"
    assert "(look 2 at this gold" not in other["told"]  # the same test of the same items


def test_a_look_with_another_seed_pays_for_the_first(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        settled(work, server)
        found = settled(work, server, "--seed", "5", "--change", "examples")
    assert (found["test"]["look"], found["test"]["alpha"]) == (2, pytest.approx(0.05 / 6))
    looks = Path("gold.jsonl.looks.jsonl").read_text().splitlines()
    assert [json.loads(line)["look"] for line in looks] == [1, 2]
    assert {line["field"] for line in work.left("proposals.jsonl")} == {"examples"}


def test_what_is_accepted_is_written_label_by_label(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        settled(work, server)
        lines = work.left("proposals.jsonl")
        first, second = sorted({line["label"] for line in lines})[:2]
        refused = work.run("tune", str(work.job), "--accept", "fruits")
        assert refused.returncode == 2
        assert "did you mean 'fruit'" in refused.stderr
        done = work.run("tune", str(work.job), "--accept", first, "--reject", second)
        assert done.returncode == 0, done.stderr
        assert "is another guideline than the one that was tested" in done.stdout
        now = load_definitions(work.folder / "labels.yaml")
        before = load_definitions(work.folder / "labels.yaml.before")
        wanted = load_definitions(work.tune_folder / "labels.tuned.yaml")
        assert now.labels[first] == wanted.labels[first] != before.labels[first]
        assert now.labels[second] == before.labels[second]
        source = (work.folder / "labels.yaml").read_text()
        assert source.startswith("# What the four kinds are.\n")
        assert source.endswith("# the end\n")
        status = {line["label"]: line["status"] for line in work.left("proposals.jsonl")}
        assert (status[first], status[second]) == ("accepted", "rejected")
        assert work.run("tune", str(work.job), "--accept", "all").returncode == 0
        assert load_definitions(work.folder / "labels.yaml").labels == wanted.labels
        # A file that somebody else changed meanwhile is left alone.
        (work.folder / "labels.yaml").write_text(tuned.LABELS.replace("first", "primary"))
        changed = work.run("tune", str(work.job), "--accept", "fruit")
        assert changed.returncode == 2
        assert "no longer what the tuning began with" in changed.stderr


def test_no_call_over_the_cap_whatever_the_judge_does(work: Tuned) -> None:
    rng = np.random.default_rng(1)

    def faulty(received: Received) -> Any:
        kind = rng.random()
        if kind < 0.2:
            return "nonsense"
        return Fault(status=500) if kind < 0.3 else by_the_book(received)

    for most in (320, 420, 700):
        with LoopbackServer(faulty) as server:
            work.llm(server.openai_url, cache=False, breakers={"invalid": None, "failed": None})
            done = work.tune("--max-calls", str(most), "-o", f"t{most}")
            assert done.returncode in (0, 3), done.stderr
            assert len(server.requests) <= most
    few = work.tune("--max-calls", "210")
    assert few.returncode == 2
    assert "leaves 10 calls for the search" in few.stderr


def test_the_money_cap_holds(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        prices = {"input": 50.0, "output": 50.0}
        work.llm(server.openai_url, prices=prices, max_cost=2.0)
        done = work.tune()
        assert done.returncode == 3
        assert "raise judge.max_cost" in done.stderr
        asked = len(server.requests)
        work.llm(server.openai_url, prices=prices, max_cost="none")
        assert work.tune().returncode == 0
        assert work.result()["status"] == "proved"
        assert len(server.requests) <= work.result()["calls"]["questions"] + asked // 10


def test_killed_it_goes_on_to_the_same_file(work: Tuned) -> None:
    import forked

    with LoopbackServer(by_the_book, latency=0.02) as server:
        work.llm(server.openai_url, concurrency=4)
        killed = 0
        for more in (40, 90, 60, 80):
            wanted = len(server.requests) + more
            process = forked.start(
                "tune", str(work.job), "--gold", "gold.jsonl", folder=work.folder
            )
            wait_for(lambda p=process, w=wanted: len(server.requests) >= w
                     or p.returncode is not None)  # fmt: skip
            killed += process.returncode is None
            process.kill()
        assert killed >= 3
        assert work.tune().returncode == 0
        resumed = (work.tune_folder / "labels.tuned.yaml").read_bytes()
        asked, questions = len(server.requests), work.result()["calls"]["questions"]
        assert asked <= questions + 4 * killed
        work.llm(server.openai_url, cache=False)
        assert work.tune("-o", "undisturbed").returncode == 0
    assert (work.folder / "undisturbed" / "labels.tuned.yaml").read_bytes() == resumed


# Writers


def written(entries_: list[dict[str, Any]]) -> dict[str, Any]:
    return {"entries": entries_}


def entry(name: str, **changes: Any) -> dict[str, Any]:
    words = ", ".join(tuned.WORDS[name]) if name in tuned.WORDS else ""
    return {"name": name, "definition": f"Any {words}.", "examples": [], "not": [],
            "why": "it was vague", **changes}  # fmt: skip


def with_writer(write: Any) -> Any:
    def serve(received: Received) -> Any:
        if received.body["model"] == "writer":
            names = re.findall(r'"(\w+)"', received.user.rpartition("Write the new entry of")[2])
            return write(names, received)
        return by_the_book(received)

    return serve


def test_a_writer_writes_and_is_counted(work: Tuned) -> None:
    def good(names: list[str], received: Received) -> Any:
        assert "never copy" in received.body["messages"][0]["content"].lower()
        return written([entry(name) for name in names])

    with LoopbackServer(with_writer(good)) as server:
        found = settled(work, server, "--writer", "openai/writer", "--change", "definition")
        wrote = [each for each in server.requests if each.body["model"] == "writer"]
        assert found["status"] == "proved"
        assert found["settings"]["writer"] == "openai/writer"
        assert 1 <= len(wrote) <= 20
        assert found["calls"]["calls"] == len(server.requests)
        settled(work, server, "--writer", "openai/writer", "--change", "definition")
        assert [e for e in server.requests if e.body["model"] == "writer"] == wrote
    by = {line["by"] for line in work.left("proposals.jsonl")}
    assert by == {"openai/writer"}
    assert "It was vague" in (work.tune_folder / "tune.md").read_text()


def test_a_writer_may_write_the_instruction(work: Tuned) -> None:
    def write(received: Received) -> Any:
        if received.body["model"] != "writer":
            rule = "GO BY THE THING" in received.body["messages"][0]["content"]
            return answer(truth(row_of(received)) if rule else "fruit")
        if "entries" in json.dumps(received.schema):
            return written([])
        return {"instruction": "GO BY THE THING.", "why": "nobody said what to go by"}

    with LoopbackServer(write) as server:
        found = settled(work, server, "--writer", "openai/writer", "--change", "instruction")
    assert found["status"] == "proved"
    (line,) = work.left("proposals.jsonl")
    assert (line["label"], line["field"]) == ("(instruction)", "instruction")
    assert work.run("tune", str(work.job), "--accept", "all").returncode == 0
    source = (work.folder / "labels.yaml").read_text()
    assert load_definitions(work.folder / "labels.yaml").instruction == "GO BY THE THING."
    assert tuned.LABELS.partition("labels:")[2] in source


def test_the_form_of_the_prompt_may_change(work: Tuned) -> None:
    def short(received: Received) -> Any:
        assert received.schema is not None
        if "rationale" in received.schema["properties"]:
            return answer("fruit")
        return {"label": truth(row_of(received)), "confidence": 0.9}

    with LoopbackServer(short) as server:
        found = settled(work, server, "--change", "form,examples")
        assert found["status"] == "proved"
        assert found["form"] == "short"
        assert found["prompt"]["after"]["tokens"] < found["prompt"]["before"]["tokens"]
        done = work.run("tune", str(work.job), "--accept", "(form)")
        assert "Write `template: short` under `judge:`" in done.stdout
        held = work.tune("--judge", "openai/other")
        assert "the tuned guideline holds" in held.stdout
    assert (work.folder / "labels.yaml").read_text() == tuned.LABELS


HOSTILE = {
    "another label": lambda names, received: written([entry("stone")]),
    "no JSON": lambda names, received: "I would rather talk.",
    "too long": lambda names, received: written(
        [entry(name, definition="so many words " * 400, examples=["x" * 9000] * 90)
         for name in names]),
    "copies": lambda names, received: written(
        [entry(name, definition="Such as " + re.findall(r"the \w+ in place \d+", received.user)[0],
               examples=re.findall(r"the \w+ in place \d+", received.user)) for name in names]),
    "YAML": lambda names, received: written(
        [entry(name, definition="&a [*a, !!python/object/apply:os.system ['x']]",
               examples=["- a: &b", "labels:\n  evil: x", "\u2028", "{{ 7 * 7 }}"])
         for name in names]),
    "empty": lambda names, received: written([]),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_writer_does_no_harm(work: Tuned, kind: str) -> None:
    with LoopbackServer(with_writer(HOSTILE[kind])) as server:
        found = settled(work, server, "--writer", "openai/writer", "--labels", "tool,metal",
                        "--max-calls", "600")  # fmt: skip
    new = load_definitions(work.tune_folder / "labels.tuned.yaml")
    assert new.names == NAMES
    assert new.labels["fruit"] == load_definitions(work.folder / "labels.yaml").labels["fruit"]
    for each in new.labels.values():
        assert len(each.definition.split()) <= 61
        assert len(each.examples) <= 4
        assert all(len(example) <= 300 for example in each.examples)
        assert "in place" not in each.definition
    gold = shingles(text(int(line["id"][1:])) for line in work.left("split.jsonl"))
    for line in work.left("proposals.jsonl"):
        if line["by"] == "openai/writer":
            texts = line["new"] if isinstance(line["new"], list) else [line["new"]]
            assert shingles(texts).isdisjoint(gold)
    assert found["status"] in ("proved", "not proved", "nothing found")


# Before and after


def test_the_plan_asks_nothing(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        work.llm(server.openai_url, prices={"input": 1.0, "output": 1.0}, max_cost=5.0)
        done = work.tune("--plan")
        assert done.returncode == 0, done.stderr
        assert "60 propose, 40 select, 100 test" in done.stdout
        assert "may use 0.025 of the 5%" in done.stdout
        assert re.search(r"At most 1,200 calls, 200 of them for the test: about \$0\.\d\d",
                         done.stdout)  # fmt: skip
        assert not server.requests
    assert not Path("gold.jsonl.looks.jsonl").exists()


def test_the_probe_tells_who_reads(work: Tuned) -> None:
    labels = {name: f"Any of {', '.join(tuned.WORDS[name])}." for name in NAMES}
    (work.folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    with LoopbackServer(by_the_book) as server:
        work.llm(server.openai_url)
        done = work.tune("--probe")
        assert "this judge reads your definitions" in done.stdout
        assert len(server.requests) == 80
    with LoopbackServer(lambda received: answer(truth(row_of(received)))) as server:
        work.llm(server.openai_url)
        assert "hardly reads your definitions" in work.tune("--probe", "-o", "p").stdout


def test_another_judge_may_not_hold(work: Tuned) -> None:
    def two(received: Received) -> Any:
        return by_the_book(received) if received.body["model"] == "toy" else answer("fruit")

    with LoopbackServer(two) as server:
        settled(work, server)
        done = work.tune("--judge", "openai/deaf")
        assert done.returncode == 0, done.stderr
        assert "is not proved: 0 fixed, 0 broken of 100" in done.stdout
        assert len(list(work.tune_folder.glob("elsewhere-*.json"))) == 1


def test_a_right_judge_is_left_alone(work: Tuned) -> None:
    with LoopbackServer(lambda received: answer(truth(row_of(received)))) as server:
        found = settled(work, server)
        assert found["status"] == "stopped early"
        assert len(server.requests) == 40
        done = work.run("tune", str(work.job), "--accept", "all")
    assert "nothing to accept" in done.stdout
    assert not work.left("proposals.jsonl")
    assert not Path("gold.jsonl.looks.jsonl").exists()


def test_a_deaf_judge_proves_nothing(work: Tuned) -> None:
    def deaf(received: Received) -> Any:
        noise = hash((received.body["messages"][0]["content"], received.user)) % 10
        row = row_of(received)
        return answer(NAMES[(row + (row % 4 == 0) + (noise == 0)) % 4])

    with LoopbackServer(deaf) as server:
        assert settled(work, server)["status"] in ("not proved", "nothing found")


@pytest.mark.parametrize(
    ("items", "status", "told"),
    [(40, "proposals only", "items with gold prove nothing"),
     (100, "proved", "each half tested what the other proposed")],
)  # fmt: skip
def test_little_gold(work: Tuned, items: int, status: str, told: str) -> None:
    work.write_gold(items)
    with LoopbackServer(by_the_book) as server:
        found = settled(work, server)
        assert len(server.requests) <= 1200
    assert found["status"] == status
    assert told in found["told"]
    if status == "proposals only":
        assert {line["status"] for line in work.left("proposals.jsonl")} == {"unproved"}
    else:
        assert found["test"]["items"] == items
        assert found["test"]["alpha"] == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--labels", "fruits"], "did you mean 'fruit'"),
     (["--change", "name"], "what may change is definition, examples, not, instruction, form"),
     (["--split", "50/50"], "expected three numbers"),
     (["--alpha", "70%"], "above 0 and below 50%"),
     (["--change", "instruction"], "only a writer writes one"),
     (["--writer", "embedded"], "cannot write"),
     (["--set", "judge.model=recorded/x.jsonl"], "does not read the definitions")],
)  # fmt: skip
def test_what_cannot_be_is_told_before_anything_is_asked(
    work: Tuned, words: list[str], told: str
) -> None:
    with LoopbackServer(by_the_book) as server:
        work.llm(server.openai_url)
        done = work.tune(*words)
        assert done.returncode == 2
        assert told in done.stderr
        assert not server.requests


def test_accepting_without_a_tuning(work: Tuned) -> None:
    with pytest.raises(DataError, match="holds no proposals"):
        tune.accept(work.job, ["all"])


def test_items_that_confuse_both_ways_are_advised_to_merge(work: Tuned) -> None:
    def mixing(received: Received) -> Any:
        row = row_of(received)
        swap = {"fruit": "tool", "tool": "fruit"}
        return answer(swap.get(truth(row), truth(row)) if row % 3 else truth(row))

    with LoopbackServer(mixing) as server:
        found = settled(work, server)
    assert [each["labels"] for each in found["advice"]] == [["fruit", "tool"]]
    assert found["suspects"] == len(work.left("suspects.jsonl")) <= 20


def test_items_that_no_label_fits_are_told(work: Tuned) -> None:
    def strict(received: Received) -> Any:
        row = row_of(received)
        return answer("NONE_OF_THESE" if truth(row) == "metal" else truth(row))

    with LoopbackServer(strict) as server:
        found = settled(work, server)
    (missing,) = [each for each in found["advice"] if each["kind"] == "missing"]
    assert missing["items"] >= 10
    assert "one may be missing" in (work.tune_folder / "tune.md").read_text()


# The proof


@given(fixed=st.integers(0, 60), broken=st.integers(0, 60))
def test_the_p_value_is_the_exact_one(fixed: int, broken: int) -> None:
    from scipy.stats import binomtest

    wanted = 1.0
    if fixed + broken:
        wanted = binomtest(fixed, fixed + broken, alternative="greater").pvalue
    assert proof.p_value(fixed, broken) == pytest.approx(wanted)


def test_what_looks_use_adds_up_to_alpha() -> None:
    assert sum(proof.alpha_of_look(0.05, look) for look in range(1, 5000)) <= 0.05


@pytest.mark.parametrize(
    ("items", "gain", "breaks"), [(100, 0.1, 0.03), (150, 0.1, 0.03), (50, 0.2, 0)]
)
def test_power_is_what_simulation_gives(items: int, gain: float, breaks: float) -> None:
    rng = np.random.default_rng(0)
    fate = rng.random((4000, items))
    fixed = (fate < gain + breaks).sum(axis=1)
    broken = (fate > 1 - breaks).sum(axis=1)
    hits = np.mean([proof.p_value(f, b) <= 0.05 for f, b in zip(fixed, broken, strict=True)])
    assert proof.power(items, gain, breaks, 0.05) == pytest.approx(hits, abs=0.03)


def test_gains_and_items_fit_together() -> None:
    gain = proof.smallest_gain(100)
    assert gain == pytest.approx(0.104, abs=0.004)
    assert proof.items_for(gain) == pytest.approx(100, abs=3)
    assert proof.smallest_gain(3) is None
    assert proof.items_for(0.0) is None


@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=80), seed=st.integers(0, 9))
def test_groups_stay_whole(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    strata = groups % 3
    shares = {"a": 0.3, "b": 0.2, "c": 0.5}
    found = dealt(shares, groups, strata, seed)
    assert all(len(set(found[groups == group])) == 1 for group in range(len(sizes)))
    assert list(found) == list(dealt(shares, groups, strata, seed))
    for name, share in shares.items():
        assert abs((found == name).sum() - share * len(groups)) <= 6 + max(sizes)


# The definitions file

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\u2028"),
               min_size=1, max_size=30).filter(str.strip)  # fmt: skip
FIELDS = st.fixed_dictionaries(
    {"definition": TEXT},
    optional={"examples": st.lists(TEXT, max_size=3), "not": st.lists(TEXT, max_size=2)},
)


@settings(deadline=None)
@given(
    old=st.dictionaries(st.sampled_from("abcdef"), st.one_of(TEXT, FIELDS), min_size=1),
    new=st.dictionaries(st.sampled_from("abcdef"), FIELDS), flow=st.booleans(),
    instructions=st.tuples(st.none() | TEXT, st.none() | TEXT),
    newline=st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_an_edited_file_says_what_it_should_and_nothing_else_changes(
    old: dict[str, Any],
    new: dict[str, Any],
    flow: bool,
    newline: str,
    instructions: tuple[str | None, str | None],
) -> None:
    before, after = instructions
    body = {"labels": old} if before is None else {"instruction": before, "labels": old}
    source = f"# head\n{as_yaml(body)}# tail\n"
    if flow:
        source = f"# head\nlabels: {json.dumps(old, ensure_ascii=False)}\n# tail\n"
    source = source.replace("\n", newline)
    wanted = load_definitions(yaml.safe_load(source)["labels"])
    changes = {name: fields for name, fields in new.items() if name in old}
    if flow and (changes or after is not None):
        with pytest.raises(DefinitionsError, match="inside braces"):
            edited(source, changes, instruction=after)
        return
    found = edited(source, changes, instruction=after)
    if after is not None:
        assert yaml.safe_load(found)["instruction"] == after
    assert found.startswith(f"# head{newline}")
    assert found.rstrip().endswith("# tail")
    plain = wanted.model_dump(by_alias=True)
    for name, fields in changes.items():
        plain["labels"][name] |= fields
    read = load_definitions(yaml.safe_load(found)["labels"]).model_dump(by_alias=True)
    for name, each in plain["labels"].items():
        for field in ("definition", "examples", "not"):
            said = read["labels"][name][field]
            assert (list(said) if isinstance(said, tuple) else said) == (
                list(each[field]) if isinstance(each[field], list | tuple) else each[field]
            )
    if not changes and after is None:
        assert found == source


def test_entries_with_anchors_are_not_touched() -> None:
    source = "labels:\n  a: &same\n    definition: x\n  b: *same\n  c: y\n"
    assert "c:\n    definition: z" in edited(source, {"c": {"definition": "z"}})
    for name in "ab":
        with pytest.raises(DefinitionsError, match="anchors"):
            edited(source, {name: {"definition": "z"}})


def test_definitions_in_the_job_itself_are_not_edited(work: Tuned) -> None:
    with LoopbackServer(by_the_book) as server:
        judge = {"model": "openai/toy", "base_url": server.openai_url}
        labels = {name: f"Things of kind {number}." for number, name in enumerate(NAMES)}
        work.write_job(judge=judge, labels=labels)
        assert work.tune().returncode == 0
        with pytest.raises(DefinitionsError, match="stand in the job file itself"):
            tune.accept(work.job, ["all"])
    assert set(load_definitions(work.tune_folder / "labels.tuned.yaml").names) == set(NAMES)


def test_too_little_gold_is_refused(work: Tuned) -> None:
    work.write_gold(5)
    with pytest.raises(JobError, match="at least 10"):
        tune.tune(work.job, "gold.jsonl", overrides=["judge.model=embedded"])
