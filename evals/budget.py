"""Where the calls go: right labels against calls, by the order in which the issues are asked.

    LLM_RELABEL_DATA=... python evals/budget.py [--seeds 3]

One round. The flagged items are asked in three orders: `gain`, as a job with `detect.budget` asks
them (the code of the package, part by part); `label quality`, the small model's belief in the
label, the lowest first; and at random. After each share of the calls the labels are decided under
`fuse`, everything else being equal. The area is the mean of the right labels over all calls, from
none to all flagged items.

Simulated noise and judges are those of `decide.py`. For the recorded sets, which have labels and
answers of their own, the mean over every recorded LLM is shown; sets have no split. The order has
no constant that was fitted; its form (the expected gain against the belief in the label, with and
without the judge's own confusions) was looked at on the TREC and SemEval cases, seeds 0 to 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from decide import Texts
from machine import facts, keep, table
from noise import flip
from sets import RECORDED, RecordedSet, read_set, write_job

from llm_relabel.config.job import load_job
from llm_relabel.evidence.beliefs import Beliefs, JudgeVotes, believe
from llm_relabel.prepared import prepare
from llm_relabel.records import LabelIssue
from llm_relabel.rounds.allocate import Allocation
from llm_relabel.rounds.flag import flag
from llm_relabel.rounds.train import train
from llm_relabel.units import differs, has_label

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SHOWN = (0.1, 0.2, 0.4)
ORDERS = ("gain", "label quality", "random")
SHUFFLES = 5


class Round:
    """One round on one set with one judge: what it flags, and right labels after any calls."""

    def __init__(self, one: RecordedSet, judge: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # A budget of everything: the order is that of a budget, and nothing is left out.
            job = load_job(write_job(Path(folder), "job", one, detect={"budget": "100%"}))
            self.prepared = prepared = prepare(job)
            self.given = prepared.given
            model = prepared.small_model(lambda _done, _total: None)
            self.predicted = train(prepared, model, self.given)
            self.allocation = Allocation(prepared)
        self.judge = job.judge.member_names[0]
        self.issues = flag(prepared, self.predicted, ~prepared.dataset.locked)
        self.said = {prepared.row_of[i]: (label, None) for i, label in one.answers[judge].items()}

    def believed(self, issues: Sequence[LabelIssue]) -> Beliefs:
        """What all evidence says after these calls."""
        heard = {issue.row: self.said[issue.row] for issue in issues if issue.row in self.said}
        said = {f"{self.judge}, referenced": JudgeVotes(heard)} if heard else {}
        return believe(self.predicted, said)

    def right(self, issues: Sequence[LabelIssue]) -> float:
        """The share of right labels after these calls."""
        beliefs, labels = self.believed(issues), self.given.copy()
        moved = beliefs.judged & ~beliefs.silent | ~has_label(labels)
        labels[moved] = beliefs.labels[moved]
        gold = self.prepared.gold
        assert gold is not None
        return float((~differs(labels, gold))[has_label(gold)].mean())

    def order(self, name: str, seed: int) -> list[LabelIssue]:
        """The issues in the order in which they are asked."""
        if name == "label quality":
            return self.issues
        if name == "random":
            places = np.random.default_rng(seed).permutation(len(self.issues))
            return [self.issues[place] for place in places]
        parts = self.allocation.parts(
            self.issues, (), self.believed, self.given, self.predicted.labels
        )
        return [issue for part in parts for issue in part]

    def curve(self, name: str, seed: int = 0) -> list[float]:
        """Right labels at each of SHARES."""
        order = self.order(name, seed)
        return [self.right(order[: round(share * len(order))]) for share in SHARES]


def measured(case: tuple[str, RecordedSet, str]) -> dict[str, Any]:
    """All orders on one set with one judge."""
    name, one, judge = case
    here = Round(one, judge)
    curves = {"gain": here.curve("gain"), "label quality": here.curve("label quality")}
    shuffled = [here.curve("random", seed) for seed in range(SHUFFLES)]
    curves["random"] = np.mean(shuffled, axis=0).tolist()
    return {
        "case": name, "judge": judge, "flagged": len(here.issues),
        "curves": curves, "area": {o: float(np.trapezoid(c, SHARES)) for o, c in curves.items()},
    }  # fmt: skip


def simulated(seeds: int) -> list[tuple[str, RecordedSet, str]]:
    """The simulated cases; each seed is one of its own."""
    trec, semeval = Texts("trec_weak"), Texts("semeval_relations")
    mixtral = semeval.recorded("mixtral-8x22b-instruct/fewshot")
    found = []
    for seed in range(seeds):
        for texts, name, kind, rate, right in (
            (trec, "TREC-6", "conf", 0.2, 0.8), (trec, "TREC-6", "conf", 0.2, 0.6),
            (trec, "TREC-6", "sym", 0.4, 0.8), (semeval, "SemEval", "conf", 0.2, 0.8),
            (semeval, "SemEval", "sym", 0.2, 0.8), (semeval, "SemEval", "sym", 0.2, None),
            (semeval, "SemEval", "conf", 0.2, None),
        ):  # fmt: skip
            given = flip(kind, rate, texts.gold, texts.probs, seed)
            answers = mixtral if right is None else texts.judge(right, seed)
            who = "recorded Mixtral" if right is None else f"judge of {right:.0%}"
            case = f"{name} {kind}{rate * 100:.0f}, {who}"
            found.append((case, texts.as_set(given, answers), "judge"))
    return found


def recorded() -> list[tuple[str, RecordedSet, str]]:
    """Every recorded LLM of every set, each as the judge of the set's own labels."""
    return [
        (f"{name}, own labels", one, judge)
        for name in RECORDED
        for one in [read_set(name)]
        for judge in one.answers
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = []
        for line in pool.map(measured, [*simulated(seeds), *recorded()]):
            found.append(line)
            areas = {order: round(area, 4) for order, area in line["area"].items()}
            print(line["case"], line["judge"], areas, file=sys.stderr)
    about = facts("llm_relabel", "numpy", "scipy", "scikit-learn", "torch")
    keep("budget", {"about": about, "seeds": seeds, "runs": found}, _markdown(found, seeds, about))


def _markdown(found: list[dict[str, Any]], seeds: int, about: dict[str, Any]) -> str:
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in found:
        groups.setdefault(line["case"], []).append(line)
    rows = []
    for case, lines in groups.items():

        def mean(order: str, share: float, lines: list[dict[str, Any]] = lines) -> float:
            place = SHARES.index(share)
            return float(np.mean([line["curves"][order][place] for line in lines]))

        areas = [float(np.mean([line["area"][order] for line in lines])) for order in ORDERS]
        rows.append([
            case, len(lines), f"{100 * mean('gain', 0.0):.1f}",
            *(f"{100 * area:.2f}" for area in areas),
            *(" / ".join(f"{100 * mean(order, share):.1f}" for order in ORDERS) for share in SHOWN),
            f"{100 * mean('gain', 1.0):.1f}",
        ])  # fmt: skip
    simulated_lines = [line for line in found if "own labels" not in line["case"]]
    return "\n\n".join([
        "# Where the calls go: right labels in percent",
        f"`python evals/budget.py`, {seeds} seeds; the script says what the words mean. Areas and "
        "labels by order: gain / label quality / random.",
        table(
            ["case", "runs", "before", *(f"area: {order}" for order in ORDERS),
             *(f"at {share:.0%} of the calls" for share in SHOWN), "all asked"], rows,
        ),
        f"Area of `gain` above label quality in {_better(simulated_lines, 'label quality')} "
        f"simulated runs, above random in {_better(simulated_lines, 'random')}. Mean area of the "
        + "; ".join(
            f"{word}: " + ", ".join(
                f"{order} {100 * np.mean([line['area'][order] for line in lines]):.2f}"
                for order in ORDERS
            )
            for word, lines in (
                ("simulated", simulated_lines),
                ("recorded", [line for line in found if line not in simulated_lines]),
            )
        ) + ".",
        f"Measured on: {about}",
    ])  # fmt: skip


def _better(lines: list[dict[str, Any]], other: str) -> str:
    wins = sum(line["area"]["gain"] > line["area"][other] for line in lines)
    return f"{wins} of {len(lines)}"


if __name__ == "__main__":
    main()
