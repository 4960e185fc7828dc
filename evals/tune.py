"""Tuning of label definitions, with judges and writers that are simulated (`tune_judges.py`).

    python evals/tune.py [--seeds N] [--tunings N]

What is measured, on the demo's data (20 labels, 15% of them flipped; gold drawn from it):

- **Useless guidelines**: a judge that is deaf to the definitions and answers otherwise wherever its
  prompt differs (5 to 12% of its answers flip). How often is one of K useless candidates accepted,
  by our rule and by others; and in ten tunings on one gold.
- **The gap**: definitions that say nothing as the start, hand-written ones as the mark. How much of
  the way does a tuning go on the items outside of gold, with how many questions; for readers of
  prose and examples, of prose alone, and of examples alone; with gold of 300 and of 100.
- **Good definitions as the start**: what is accepted, and what it does.
- **Power**: a true gain of 10 points with 3% breaks at the first look's alpha.
- **Exemplars**: what share of the rows that stand as examples is labeled wrong.

No default was chosen on these figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, facts
from tune_judges import Reader, Vectors

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import open_job
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.rounds.train import train
from llm_relabel.tasks.exemplars import chosen_examples
from llm_relabel.tune import proof
from llm_relabel.tune.draft import drafted
from llm_relabel.tune.lessons import Lessons
from llm_relabel.tune.pool import Pool, pool_of
from llm_relabel.tune.search import Answered, Found, OutOfCalls, Search, moved
from llm_relabel.tune.split import HALVES, PROPOSE, SELECT, SHARES, TEST, dealt
from llm_relabel.tune.tuning import CROSS_FIT

DEMO = Path(__file__).parent.parent / "llm_relabel" / "demo"
READERS: Mapping[str, Mapping[str, float]] = {
    "prose and examples": {},
    "prose alone": {"prose": 1.0, "examples": 0.0},
    "examples alone": {"prose": 0.0, "examples": 1.0},
}
# (gold, calls)
SIZES = ((300, 900), (100, 400))


class World:
    """The demo's data, its small model, and two guidelines: one says nothing, one is good."""

    def __init__(self) -> None:
        self.prepared: Prepared = prepare(open_job(DEMO / "job.yaml"))
        model = self.prepared.small_model(_unheard)
        self.predicted: Predicted = train(self.prepared, model, self.prepared.given)
        self.vectors = Vectors()
        self.texts: list[str] = self.prepared.dataset.text.to_pylist()
        self.vectors(self.texts)
        assert self.prepared.gold is not None
        self.gold = self.prepared.gold
        self.hand = self.prepared.definitions
        self.vague = self.hand.model_copy(update={"instruction": None, "labels": {
            name: each.model_copy(update={
                "definition": f"Messages of kind {number}.", "examples": (), "counterexamples": (),
            }) for number, (name, each) in enumerate(self.hand.labels.items(), start=1)
        }})  # fmt: skip

    def right(self, reader: Reader, guide: LabelDefinitions, rows: np.ndarray) -> float:
        said = reader(guide, [self.texts[row] for row in rows])
        return float(np.mean(said == self.gold[rows]))


class Counted:
    """Asks a reader about the parts of gold, and counts the questions."""

    def __init__(self, world: World, reader: Reader, parts: Mapping[str, Any], most: int) -> None:
        self._world, self._reader, self.parts, self._most = world, reader, parts, most
        self._known: dict[tuple[str, str], Answered] = {}
        self.questions = 0

    def __call__(self, guide: LabelDefinitions, part: str) -> Answered:
        key = (guide.sha256(), part)
        if key not in self._known:
            rows = self.parts[part]
            if part != TEST and self.questions + len(rows) > self._most:
                raise OutOfCalls("the calls are spent")
            self.questions += len(rows)
            said = self._reader(guide, [self._world.texts[row] for row in rows])
            errors = (said != self._world.gold[rows]).astype(np.float64)
            self._known[key] = Answered(said, errors, np.zeros(len(rows), dtype=np.bool_))
        return self._known[key]


def _unheard(*_: object) -> None:
    """Nobody watches."""


def drawn(world: World, gold: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(world.texts), gold, replace=False))
    names = list(world.prepared.task.names)
    strata = np.array([names.index(label) for label in world.prepared.given[rows]])
    shares = dict(zip((PROPOSE, SELECT, TEST), SHARES, strict=True))
    if gold < 150:
        shares = {PROPOSE: 0.6, SELECT: 0.4, TEST: 0.0}
    parts = dealt(shares, world.prepared.dataset.groups[rows], strata, seed)
    return {name: rows[parts == name] for name in (PROPOSE, SELECT, TEST)}


def tuned(
    world: World,
    reader: Reader,
    start: LabelDefinitions,
    parts: Mapping[str, np.ndarray],
    most: int,
) -> tuple[Found, Counted, Pool]:
    rows = np.concatenate(list(parts.values()))
    pool = pool_of(world.prepared, world.predicted, rows, world.vectors)
    ask = Counted(world, reader, parts, most)
    lessons = Lessons(
        pool, world.vectors, lambda miss: world.texts[parts[PROPOSE][miss.place]], str, copies=False
    )
    search = Search(world.prepared.task, world.gold[parts[PROPOSE]], ask, PROPOSE, SELECT,
                    _unheard)  # fmt: skip
    drafts = [drafted(start, pool, words=words, seed=0)
              for words in (False, True)]  # fmt: skip
    return search.run(start, drafts, [lessons]), ask, pool


def gaps(world: World, seeds: int) -> list[dict[str, Any]]:
    everything, found = np.arange(len(world.texts)), []
    for name, weights in READERS.items():
        for gold, most in SIZES:
            lines = []
            for seed in range(seeds):
                parts = drawn(world, gold, seed)
                reader = Reader(world.vectors, seed=seed, **weights)
                best, ask, _ = tuned(world, reader, world.vague, parts, most)
                searched = ask.questions
                rest = np.setdiff1d(everything, np.concatenate(list(parts.values())))
                before, after, mark = (
                    world.right(reader, guide, rest)
                    for guide in (world.vague, best.best.guide, world.hand)
                )
                p = None
                if len(parts[TEST]):
                    fixed, broken = moved(ask(world.vague, TEST), ask(best.best.guide, TEST))
                    p = proof.p_value(fixed, broken)
                lines.append({"before": before, "after": after, "hand": mark, "calls": searched,
                              "gap": (after - before) / (mark - before), "p": p})  # fmt: skip
            found.append({"reader": name, "gold": gold, "most": most, "runs": lines})
            print(name, gold, [f"{line['gap']:.0%}" for line in lines], flush=True)
    return found


def good_starts(world: World, seeds: int) -> list[dict[str, Any]]:
    """From the hand-written definitions, and from those with a draft's exemplars added."""
    everything, found = np.arange(len(world.texts)), []
    for start_name in ("hand-written", "hand-written and drafted"):
        for seed in range(seeds):
            parts = drawn(world, 300, seed)
            reader = Reader(world.vectors, seed=seed)
            start = world.hand
            if start_name != "hand-written":
                rows = np.concatenate(list(parts.values()))
                pool = pool_of(world.prepared, world.predicted, rows, world.vectors)
                new = drafted(start, pool, words=False, seed=0)
                labels = {**start.labels, **{each.label: each.definition for each in new}}
                start = start.model_copy(update={"labels": labels})
            best, ask, _ = tuned(world, reader, start, parts, 900)
            rest = np.setdiff1d(everything, np.concatenate(list(parts.values())))
            accepted = False
            if best.best.parent is not None:
                fixed, broken = moved(ask(start, TEST), ask(best.best.guide, TEST))
                accepted = proof.p_value(fixed, broken) <= proof.alpha_of_look(0.05, 1)
            change = world.right(reader, best.best.guide, rest) - world.right(reader, start, rest)
            found.append({"start": start_name, "seed": seed, "accepted": accepted, "truth": change})
        mine = [line for line in found if line["start"] == start_name]
        print(start_name, sum(line["accepted"] for line in mine), "of", len(mine), "accepted",
              flush=True)  # fmt: skip
    return found


# Useless guidelines: no text is read, so that thousands of tunings can be made


def deaf(rng: np.random.Generator, items: int, many: int, flips: float) -> np.ndarray:
    """(many + 1, items) whether a deaf judge is right under each prompt, the first the start's.

    Right on 70% in the long run; another prompt gives a share `flips` of the items a new answer.
    """
    base = rng.random(items) < 0.7
    new = rng.random((many, items)) < 0.7
    kept = rng.random((many, items)) >= flips
    return np.concatenate([base[None], np.where(kept, base, new)])


def useless(tunings: int) -> list[dict[str, Any]]:
    found = []
    for gold in (100, 300):
        for many in (1, 5, 20):
            counts = dict.fromkeys((
                "ours", "ours at 5%", "ours, two halves", "best on all gold", "better mean on test",
                "a test for each candidate",
                "gepa's rule",
            ), 0)  # fmt: skip
            for number in range(tunings):
                rng = np.random.default_rng(number)
                flips = float(rng.uniform(0.05, 0.12)) / 0.42  # of those, 42% change in truth
                right = deaf(rng, gold, many, flips)
                cut = [int(gold * share) for share in (SHARES[0], SHARES[0] + SHARES[1])]
                propose, select, test = np.split(right, cut, axis=1)
                chosen = 0
                for each in range(1, many + 1):
                    if select[each].sum() > select[chosen].sum():
                        chosen = each
                p = _p(test[0], test[chosen])
                counts["ours"] += chosen > 0 and p <= proof.alpha_of_look(0.05, 1)
                counts["ours at 5%"] += chosen > 0 and p <= 0.05
                counts["best on all gold"] += right[1:].sum(axis=1).max() > right[0].sum()
                counts["better mean on test"] += chosen > 0 and test[chosen].sum() > test[0].sum()
                rest = np.concatenate([select, test], axis=1)
                counts["a test for each candidate"] += any(
                    _p(rest[0], rest[each]) <= 0.05 for each in range(1, many + 1)
                )
                counts["gepa's rule"] += _gepa(rng, propose, rest)
                counts["ours, two halves"] += _halves(right)
            found.append({"gold": gold, "candidates": many,
                          **{rule: count / tunings for rule, count in counts.items()}})  # fmt: skip
            print(found[-1], flush=True)
    return found


def _p(before: np.ndarray, after: np.ndarray) -> float:
    return proof.p_value(int((after & ~before).sum()), int((before & ~after).sum()))


def _halves(right: np.ndarray) -> bool:
    """Each half of gold tests what the other chose; the discordant items of both are pooled."""
    middle, fixed, broken = right.shape[1] // 2, 0, 0
    for mine, other in ((right[:, :middle], right[:, middle:]),
                        (right[:, middle:], right[:, :middle])):  # fmt: skip
        select = mine[:, int(HALVES[PROPOSE] * mine.shape[1]) :]
        chosen = int(select.sum(axis=1).argmax())
        if select[chosen].sum() > select[0].sum():
            fixed += int((other[chosen] & ~other[0]).sum())
            broken += int((other[0] & ~other[chosen]).sum())
    return proof.p_value(fixed, broken) <= CROSS_FIT * proof.alpha_of_look(0.05, 1)


def _gepa(rng: np.random.Generator, propose: np.ndarray, rest: np.ndarray) -> bool:
    """Better on a minibatch of 3, then kept if its mean on the rest is the best so far."""
    best = 0
    for each in range(1, len(propose)):
        batch = rng.choice(propose.shape[1], 3, replace=False)
        if propose[each, batch].sum() > propose[best, batch].sum() and (
            rest[each].sum() > rest[best].sum()
        ):
            best = each
    return best > 0


def repeated(tunings: int) -> dict[str, float]:
    """Ten tunings with useless candidates on one gold: is any accepted?"""
    paid = unpaid = 0
    for number in range(tunings):
        rng = np.random.default_rng(10_000 + number)
        hit_paid = hit_unpaid = False
        right = deaf(rng, 300, 200, float(rng.uniform(0.05, 0.12)) / 0.42)
        for look in range(1, 11):
            mine = np.concatenate([right[:1], right[20 * look - 19 : 20 * look + 1]])
            select, test = mine[:, 90:150], mine[:, 150:]
            chosen = int(select.sum(axis=1).argmax())
            if select[chosen].sum() > select[0].sum():
                p = _p(test[0], test[chosen])
                hit_paid |= p <= proof.alpha_of_look(0.05, look)
                hit_unpaid |= p <= 0.05
        paid, unpaid = paid + hit_paid, unpaid + hit_unpaid
    return {"looks paid for": paid / tunings, "5% each": unpaid / tunings}


def power(tunings: int) -> dict[str, float]:
    """Gold 300: a guideline that mends 13% and breaks 3%, tested on its 150 items."""
    rng = np.random.default_rng(0)
    alpha, items, hits = proof.alpha_of_look(0.05, 1), int(300 * SHARES[2]), 0
    for _ in range(tunings):
        fate = rng.random(items)
        hits += proof.p_value(int((fate < 0.13).sum()), int((fate > 0.97).sum())) <= alpha
    return {"simulated": hits / tunings, "reckoned": proof.power(items, 0.10, 0.03, alpha)}


def exemplars(world: World) -> dict[str, Any]:
    """The share of rows that stand as examples whose gold label is another one."""
    nothing = np.zeros(0, dtype=np.int64)
    pool = pool_of(world.prepared, world.predicted, nothing, world.vectors)
    gold = dict(zip(world.texts, world.gold, strict=True))
    wrong = of = 0
    for name in world.prepared.task.names:
        texts = pool.exemplars(name)
        of += len(texts)
        wrong += sum(gold[text] != name for text in texts)
    names = world.prepared.task.names
    shown = chosen_examples(world.prepared.dataset, names, {})
    of_init = [(gold[text], name) for name in names for text in shown.examples[name]]
    near = [(gold[text], name) for name in names for text in shown.near_misses[name]]
    rng, drawn_wrong, drawn_of = np.random.default_rng(0), 0, 0
    for name in world.prepared.task.names:
        rows = rng.permutation(np.flatnonzero(world.prepared.given == name))[:3]
        drawn_of += len(rows)
        drawn_wrong += int((world.gold[rows] != name).sum())
    return {
        "exemplars": of,
        "wrong": wrong / of,
        "drawn at random": drawn_wrong / drawn_of,
        "of init": len(of_init),
        "wrong of init": sum(true != name for true, name in of_init) / len(of_init),
        "near misses": len(near),
        "wrong near misses": sum(t == n for t, n in near) / len(near),
    }


def table(found: Mapping[str, Any]) -> str:
    lines = ["# Tuning label definitions", "", "`python evals/tune.py`; simulated judges, see "
             "`evals/tune_judges.py`. What each table means stands in the script.", "",
             "## Useless guidelines accepted", ""]  # fmt: skip
    rules = [name for name in found["useless"][0] if name not in ("gold", "candidates")]
    lines += _rows(["gold", "candidates", *rules], [
        [str(row["gold"]), str(row["candidates"]), *(f"{row[rule]:.1%}" for rule in rules)]
        for row in found["useless"]
    ])  # fmt: skip
    ten = found["ten tunings"]
    lines += ["", f"Ten tunings on one gold: {ten['looks paid for']:.1%} accept a useless "
              f"guideline where looks are paid for, {ten['5% each']:.1%} at 5% each.", "",
              "## From definitions that say nothing", ""]  # fmt: skip
    lines += _rows(["reader", "gold", "calls", "before", "after", "hand-written", "gap closed",
                    "least", "proved"], [
        [row["reader"], str(row["gold"]), f"{_mean(row, 'calls'):.0f}",
         f"{_mean(row, 'before'):.1%}",
         f"{_mean(row, 'after'):.1%}", f"{_mean(row, 'hand'):.1%}", f"{_mean(row, 'gap'):.0%}",
         f"{min(run['gap'] for run in row['runs']):.0%}",
         "" if row["runs"][0]["p"] is None
         else f"{sum(run['p'] <= 0.025 for run in row['runs'])} of {len(row['runs'])}"]
        for row in found["gaps"]
    ])  # fmt: skip
    lines += ["", "## Good definitions as the start", ""]
    starts = dict.fromkeys(row["start"] for row in found["good starts"])
    lines += _rows(["start", "tunings", "accepted", "truth, mean", "worst of the accepted"], [
        _good([row for row in found["good starts"] if row["start"] == start]) for start in starts
    ])  # fmt: skip
    power_, shown = found["power"], found["exemplars"]
    lines += ["", f"A true gain of 10 points with 3% breaks, gold 300, first look: proved in "
              f"{power_['simulated']:.1%} (reckoned {power_['reckoned']:.1%}).", "",
              f"Exemplars where 15% of the labels are wrong: {shown['wrong']:.1%} of "
              f"{shown['exemplars']} are labeled wrong; drawn at random "
              f"{shown['drawn at random']:.1%}. Those that `init` shows: "
              f"{shown['wrong of init']:.1%} of {shown['of init']}, and "
              f"{shown['wrong near misses']:.1%} of its {shown['near misses']} near misses.",
              "", f"Measured on: {found['about']}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _good(mine: list[dict[str, Any]]) -> list[str]:
    accepted = [row["truth"] for row in mine if row["accepted"]]
    return [mine[0]["start"], str(len(mine)), str(len(accepted)),
            f"{np.mean([row['truth'] for row in mine]):+.1%}",
            f"{min(accepted):+.1%}" if accepted else ""]  # fmt: skip


def _mean(row: Mapping[str, Any], name: str) -> float:
    return float(np.mean([run[name] for run in row["runs"]]))


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tunings", type=int, default=1000)
    options = parser.parse_args()
    started = time.time()
    world = World()
    found = {
        "useless": useless(options.tunings),
        "ten tunings": repeated(options.tunings),
        "power": power(10 * options.tunings),
        "gaps": gaps(world, options.seeds),
        "good starts": good_starts(world, 2 * options.seeds),
        "exemplars": exemplars(world),
        "about": facts("llm_relabel", "numpy", "torch", "scikit-learn"),
        "seconds": round(time.time() - started),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tune.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "tune.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
