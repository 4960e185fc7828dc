"""With 100 spot-checks answered from gold: does `auto` choose well, and is the certificate honest?

    LLM_RELABEL_DATA=... python evals/spot_checks.py [--draws 20] [--coverage 4000]

Every recorded LLM of the sets in `sets.py` (but `pledge_small`, which has 137 items) is the judge
of every item. For each of 20 draws 100 items are drawn as `llm-relabel review sample` draws them,
and answered from gold; the policies learn from them, are compared and gated by them, and are
scored on the other items. `doubted` policies use only verdicts on items that the small model
doubts (what a run asks by default); the others use all. Sets have no split: defaults were not
chosen here. Without spot-checks the default (`fuse` on doubted items) is scored too, and whether
the run would have warned.

Then the certificate: simulated populations whose truth is known, the whole way from drawing over
choosing and gating to the interval, as often as asked.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from machine import facts, keep, table
from numpy.typing import NDArray
from scipy.stats import binomtest
from sets import RECORDED, read_set, write_job

from llm_relabel.audit import AuditEvidence, Audits, certify, choose
from llm_relabel.config.definitions import load_definitions
from llm_relabel.config.job import load_job
from llm_relabel.evidence.beliefs import JudgeVotes, believe
from llm_relabel.evidence.views import Reading
from llm_relabel.people.sampling import allocate, strata_of
from llm_relabel.prepared import prepare
from llm_relabel.rounds.train import train
from llm_relabel.tasks.classification import Classification
from llm_relabel.units import Labels, differs, has_label

AUDITS = 100
SIZES = (50, 100, 200)


class Remembering(AuditEvidence):
    """Works each set of candidates out once, for the choice with and without gate."""

    def candidates(self, people: Any) -> dict[str, Labels]:
        kept: dict[Any, dict[str, Labels]] = self.__dict__.setdefault("_kept", {})
        key = tuple(sorted(people))
        if key not in kept:
            kept[key] = super().candidates(people)
        return kept[key]

    def forget(self) -> None:
        """Before another draw."""
        self.__dict__.pop("_kept", None)


def evidence_of(name: str) -> list[tuple[str, Remembering, Labels]]:
    """For every recorded LLM of a set: all evidence after two rounds, and gold."""
    one = read_set(name)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(load_job(write_job(Path(folder), "job", one)))
        given, gold = prepared.given, prepared.gold
        assert gold is not None
        model = prepared.small_model(lambda _done, _total: None)
        reading = Reading(prepared.task, given, model.out_of_fold)
        first = replace(train(prepared, model, given), reading=reading)
        reading.remember(given, first.predictions)
        doubted_first = differs(given, first.labels)
        for judge, answers in one.answers.items():
            said = JudgeVotes({prepared.row_of[i]: (label, None) for i, label in answers.items()})
            doubted = JudgeVotes({r: t for r, t in said.answers.items() if doubted_first[r]})
            fused = believe(first, {judge: doubted}).labels
            # The views are made here once, so that draws need no model.
            own = Reading(prepared.task, given, model.out_of_fold)
            own.remember(given, first.predictions)
            second = replace(train(prepared, model, fused), reading=own)
            both = doubted_first | differs(fused, second.labels)
            believe(second, {judge: said})
            own.learn = _nothing_more
            found.append((judge, Remembering(second, {judge: said}, both), gold))
    return found


def _nothing_more(_labels: Labels) -> Any:
    raise AssertionError("every view was made before")


def draw(evidence: AuditEvidence, gold: Labels, size: int, rng: np.random.Generator) -> Audits:
    """A blind sample as the program draws it, answered from gold."""
    some = {n: evidence.of_doubted(each) for n, each in evidence.said.items()}
    beliefs = believe(evidence.predicted, some)
    strata = strata_of(beliefs.judged, beliefs.belief_in(evidence.given), ~has_label(gold))
    return drawn(strata, beliefs.belief_in(evidence.given), gold, size, rng)


def drawn(
    strata: NDArray[np.int8], belief: NDArray[np.float32], gold: Labels, size: int,
    rng: np.random.Generator,
) -> Audits:  # fmt: skip
    """Audits by strata."""
    codes = [code for code in range(4) if (strata == code).any()]
    members = [np.flatnonzero(strata == code) for code in codes]
    counts = allocate(
        [len(m) for m in members], [float(belief[m].mean()) for m in members], [0] * len(codes),
        size,
    )  # fmt: skip
    rows = [rng.choice(m, count, replace=False) for m, count in zip(members, counts, strict=True)]
    every = np.concatenate(rows).astype(np.int64)
    stratum = np.repeat(np.arange(len(codes)), counts)
    return Audits(
        every, gold[every], stratum, np.array([len(m) for m in members], dtype=np.float64)
    )


def score(case: tuple[str, str, Remembering, Labels, int]) -> list[dict[str, Any]]:
    """All draws of one judge: what `auto` reached, and every policy in hindsight."""
    name, judge, evidence, gold, draws = case
    known, found = has_label(gold), []
    for seed in range(draws):
        evidence.forget()
        rng = np.random.default_rng(seed)
        audits = draw(evidence, gold, min(AUDITS, int(known.sum()) // 3), rng)
        rest = known.copy()
        rest[audits.rows] = False

        def right(labels: Labels, rest: Any = rest) -> NDArray[np.bool_]:
            return ~differs(labels, gold)[rest]

        policies = evidence.candidates(audits.people(np.ones(len(audits), dtype=bool)))
        accuracy = {policy: float(right(labels).mean()) for policy, labels in policies.items()}
        source = max(("keep", "replace"), key=lambda policy: accuracy[policy])
        better = right(policies[source])
        line: dict[str, Any] = {"set": name, "judge": judge, "draw": seed, "policies": accuracy}
        for word, gated in (("auto", False), ("gated", True)):
            choice = choose(evidence, audits, gated=gated, seed=seed)
            ours = right(choice.labels)
            lost, won = int((better & ~ours).sum()), int((ours & ~better).sum())
            p = binomtest(lost, lost + won).pvalue if lost + won else 1.0
            told = certify(audits, choice, len(known), seed=seed)["label_accuracy"]
            final = choice.labels.copy()
            final[audits.rows] = audits.truth
            true = float((~differs(final, gold))[known].mean())
            line[word] = {
                "policy": choice.policy, "accuracy": float(ours.mean()),
                "worse": bool(lost > won and p < 0.05), "better_source": source,
                "certified": told, "true": true,
                "covered": bool(told["low"] <= true <= told["high"]),
            }  # fmt: skip
        found.append(line)
    return found


def without(name: str, judge: str, evidence: AuditEvidence, gold: Labels) -> dict[str, Any]:
    """The default without spot-checks, on all items with gold."""
    candidates = evidence.candidates({})
    known = has_label(gold)
    right = {p: (~differs(labels, gold))[known] for p, labels in candidates.items()}
    default = "fuse doubted" if "fuse doubted" in right else "fuse"
    some = {n: evidence.of_doubted(each) for n, each in evidence.said.items()}
    warned = believe(evidence.predicted, some).warnings
    lost = int((right["keep"] & ~right[default]).sum())
    won = int((right[default] & ~right["keep"]).sum())
    return {
        "set": name, "judge": judge, "default": float(right[default].mean()),
        **{p: float(each.mean()) for p, each in right.items()},
        "worse_than_given": bool(lost > won and binomtest(lost, lost + won).pvalue < 0.05),
        "lost": bool(lost > won), "warned": bool(warned),
    }  # fmt: skip


def cover(case: tuple[int, int, int]) -> int:
    """How many of `runs` certificates of simulated populations hold the truth."""
    size, runs, seed = case
    rng = np.random.default_rng([seed, size])
    covered = 0
    for _ in range(runs):
        covered += _simulated(size, rng)
    return covered


class _Fixed:
    """AuditEvidence whose policies are given: no learning, so that a simulation takes no time."""

    def __init__(self, given: Labels, policies: dict[str, Labels]) -> None:
        self.task, self.given, self._policies = ABC, given, policies
        self.predicted: Any = SimpleNamespace(units=ABC.units({"given": given}))

    def candidates(self, _people: Any) -> dict[str, Labels]:
        return self._policies


ABC = Classification(load_definitions(dict.fromkeys("abc", "x")), pa.string())


def _simulated(size: int, rng: np.random.Generator) -> int:
    rows, classes = int(rng.choice([500, 2000, 5000])), 3
    truth = rng.integers(0, classes, rows)

    def noisy(right: NDArray[np.float64], base: Any = None, copied: float = 0.0) -> Any:
        wrong = (truth + rng.integers(1, classes, rows)) % classes
        codes = np.where(rng.random(rows) < right, truth, wrong)
        return codes if base is None else np.where(rng.random(rows) < copied, base, codes)

    def labels(codes: NDArray[np.int64]) -> Labels:
        return np.array(ABC.names, dtype=object)[codes]

    hard = rng.random(rows)
    given = noisy(rng.uniform(0.5, 0.95) - 0.2 * (hard > 0.7))
    policies = {"keep": labels(given)}
    for name in ("fuse", "agree", "replace", "pool"):
        right = np.clip(rng.uniform(0.5, 0.97) - 0.3 * (hard > 0.7), 0, 1)
        policies[name] = labels(noisy(right, given, rng.uniform(0, 0.8)))
    judged = (hard > 0.6) | (rng.random(rows) < 0.1)
    belief = np.clip(1 - 0.4 * hard + 0.1 * rng.normal(size=rows), 0, 1).astype(np.float32)
    strata = strata_of(judged, belief, np.zeros(rows, dtype=bool))
    audits = drawn(strata, belief, labels(truth), size, rng)
    seed = int(rng.integers(2**31))
    evidence: Any = _Fixed(policies["keep"], policies)
    choice = choose(evidence, audits, seed=seed)
    told = certify(audits, choice, rows, seed=seed)["label_accuracy"]
    final, true = choice.labels.copy(), labels(truth)
    final[audits.rows] = true[audits.rows]
    return int(told["low"] <= (final == true).mean() <= told["high"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--coverage", type=int, default=4000)
    wanted = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["OMP_NUM_THREADS"] = "1"
    cases, plain = [], []
    for name in RECORDED:
        if name == "pledge_small":
            continue
        for judge, evidence, gold in evidence_of(name):
            cases.append((name, judge, evidence, gold, wanted.draws))
            plain.append(without(name, judge, evidence, gold))
        print(name, file=sys.stderr)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lines = [line for found in pool.map(score, cases) for line in found]
        chunk = max(1, wanted.coverage // 40)
        coverage = {}
        for size in SIZES:
            todo = [(size, chunk, seed) for seed in range(wanted.coverage // chunk)]
            coverage[size] = sum(pool.map(cover, todo)) / (chunk * len(todo))
    measured = {
        "about": facts("llm_relabel", "numpy", "scipy", "scikit-learn", "torch"),
        "draws": wanted.draws, "totals": _totals(lines), "without": plain,
        "coverage": coverage, "coverage_runs": wanted.coverage,
        "worse": _worse(lines), "by_judge": _by_judge(lines),
    }  # fmt: skip
    keep("spot_checks", measured, _markdown(measured))


def _totals(lines: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "runs": len(lines),
        "given": float(np.mean([line["policies"]["keep"] for line in lines])),
        "judge": float(np.mean([line["policies"]["replace"] for line in lines])),
        "best": float(np.mean([max(line["policies"].values()) for line in lines])),
    }
    for word in ("auto", "gated"):
        away = [max(line["policies"].values()) - line[word]["accuracy"] for line in lines]
        found[word] = {
            "accuracy": float(np.mean([line[word]["accuracy"] for line in lines])),
            "distance": float(np.mean(away)), "distance_p90": float(np.quantile(away, 0.9)),
            "worse": float(np.mean([line[word]["worse"] for line in lines])),
            "covered": float(np.mean([line[word]["covered"] for line in lines])),
        }  # fmt: skip
    return found


def _worse(lines: list[dict[str, Any]]) -> list[str]:
    return [
        f"{line['set']} {line['judge']} draw {line['draw']}: {line['gated']['policy']}"
        for line in lines if line["gated"]["worse"]
    ]  # fmt: skip


def _by_judge(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["set"], line["judge"]), []).append(line)
    return [
        {
            "set": name, "judge": judge,
            **{p: float(np.mean([line["policies"][p] for line in theirs if p in line["policies"]]))
               for p in theirs[0]["policies"]},
            **{word: float(np.mean([line[word]["accuracy"] for line in theirs]))
               for word in ("auto", "gated")},
        }
        for (name, judge), theirs in groups.items()
    ]  # fmt: skip


def _markdown(measured: dict[str, Any]) -> str:
    totals, plain = measured["totals"], measured["without"]
    rows = [
        [word, *(f"{100 * totals[word][key]:.1f}" for key in
                 ("accuracy", "distance", "distance_p90", "worse", "covered"))]
        for word in ("auto", "gated")
    ]  # fmt: skip
    lost = [each for each in plain if each["lost"]]
    alarms = sum(each["warned"] and not each["lost"] for each in plain)
    unwarned = [f"{e['set']} {e['judge']}" for e in lost if not e["warned"]]
    shown = ["keep", "replace", "fuse doubted", "fuse", "pool", "agree", "auto", "gated"]
    return "\n\n".join([
        "# Choosing by 100 spot-checks",
        f"`python evals/spot_checks.py`, {totals['runs']} runs ({measured['draws']} draws of every "
        "recorded LLM). Accuracy in percent, on items that were not spot-checked. Given labels "
        f"{100 * totals['given']:.1f}, the judge on everything {100 * totals['judge']:.1f}, the "
        f"best policy in hindsight {100 * totals['best']:.1f}.",
        table(["", "accuracy", "distance to the best", "its p90", "% significantly worse than the "
               "better source", "% of certificates that hold"], rows),
        "`gated` applies only changes whose one-sided bound says that new beats old; `auto` is "
        "the same choice without the gate.",
        "## Without any spot-check",
        f"The default (fuse, verdicts on doubted items): mean "
        f"{100 * np.mean([e['default'] for e in plain]):.1f}, given "
        f"{100 * np.mean([e['keep'] for e in plain]):.1f}. It lost against the given labels with "
        f"{len(lost)} of {len(plain)} judges, significantly with "
        f"{sum(e['worse_than_given'] for e in plain)}; of the {len(lost)} the run had warned in "
        f"{sum(e['warned'] for e in lost)}, and in {alarms} of the other "
        f"{len(plain) - len(lost)}. Lost and not warned: "
        f"{'; '.join(unwarned) or 'none'}.",
        "## The certificate",
        "Coverage of the 95% interval through drawing, choosing and gating, "
        f"{measured['coverage_runs']:,} simulated runs each: "
        + ", ".join(f"n = {n}: {100 * c:.1f}%" for n, c in measured["coverage"].items()) + ".",
        "## By judge",
        table(["set", "judge", *shown],
              [[e["set"], e["judge"], *(f"{100 * e[p]:.1f}" if p in e else "-" for p in shown)]
               for e in measured["by_judge"]]),
        "Runs significantly worse than the better source: "
        + ("; ".join(measured["worse"]) or "none") + ".",
        f"Measured on: {measured['about']}",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
