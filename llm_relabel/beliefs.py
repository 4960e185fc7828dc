"""What all evidence so far says of every row: the belief that decides under `fuse`, and is kept.

`round-N/beliefs.parquet` has one line a row: whether a judge was asked about it, the belief in the
label it has now, and whether the sources are at odds. Spot-checks are drawn by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llm_relabel.combine import combine_votes
from llm_relabel.doubts import doubts_of
from llm_relabel.fusion import Fused, Source, fuse
from llm_relabel.journal import write_whole
from llm_relabel.records import LabelValue, Targets, Verdict
from llm_relabel.tasks import Task

GIVEN = "given labels"
FILE = "beliefs.parquet"
# Answers in each half, below which a judge's stated confidence does not split it in two.
FEWEST_OF_A_HALF = 100


@dataclass(frozen=True)
class Said:
    """Everything that one judge said in one evidence arm: row -> (label, stated confidence).

    The label is None where it abstained or failed.
    """

    answers: dict[int, tuple[LabelValue, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Beliefs:
    """`labels` is what the evidence together says, `probs` (rows, classes) how much it believes.

    For exclusive classes a row of `probs` is a distribution; for multi-label each entry is the
    probability that the class applies. `judged` (rows,) says whether any judge was asked.
    `told` are the labels that judges gave. `accuracy` estimates how often each source is right,
    without a guarantee. `confusions` holds for the classes together (of multi-label for each
    class) every source's P(said | true) and how often it spoke.
    """

    labels: Targets
    probs: NDArray[np.float32]
    judged: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    told: tuple[Targets, ...]
    accuracy: Mapping[str, float]
    confusions: tuple[Mapping[str, tuple[NDArray[np.float64], float]], ...]
    model_weight: float
    warnings: tuple[str, ...]

    def overruled(self, task: Task, labels: Targets) -> NDArray[np.bool_]:
        """(rows,) bool: whether a judge said something else than `labels`."""
        found = np.zeros(len(self.judged), dtype=np.bool_)
        for each in self.told:
            found |= each.known & task.differs(each, labels)
        return found

    def belief_in(self, targets: Targets) -> NDArray[np.float32]:
        """(rows,) the belief in these labels: of multi-label, in the least certain class."""
        each = np.where(targets.matrix, self.probs, 1 - self.probs)
        if targets.exclusive:
            each = np.where(targets.matrix, self.probs, 0).max(axis=1, keepdims=True)
        return np.asarray(np.where(targets.known, each.min(axis=1), 0), dtype=np.float32)


def gather(
    asks: Iterable[Mapping[str, Any]], verdicts: Mapping[str, Verdict], task: Task,
    row_of: Mapping[str, int],
) -> dict[str, Said]:  # fmt: skip
    """What each judge said in each evidence arm, over all rounds; controls are left out.

    Several verdicts of one judge on one row (samples, a later round) are one vote: the label
    that most of them name, the earlier one at a tie.
    """
    votes: dict[str, dict[int, list[Verdict]]] = {}
    for line in asks:
        verdict = verdicts.get(line["ask_id"])
        if verdict is None or line["purpose"] in ("control", "anchoring"):
            continue
        if verdict.reason == "not_recorded":
            continue  # nobody was asked
        name = f"{line['judge']}, {line['evidence']}"
        votes.setdefault(name, {}).setdefault(row_of[line["id"]], []).append(verdict)
    said: dict[str, Said] = {}
    for name, by_row in votes.items():
        said[name] = Said({row: combine_votes(task, theirs) for row, theirs in by_row.items()})
    return said


def believe(
    task: Task,
    given: Targets,
    pred_probs: NDArray[np.float32],
    said: Mapping[str, Said],
    people: Mapping[int, LabelValue] | None = None,
) -> Beliefs:
    """Fuse the given labels, the small model and every judge; `people` are final, by row."""
    people = people or {}
    rows, classes = pred_probs.shape
    known = Targets(
        np.zeros((rows, classes), dtype=np.bool_), np.zeros(rows, dtype=np.bool_), given.exclusive
    )
    for row, label in people.items():
        task.put(known, row, label)
    sources = {GIVEN: given}
    judged, silent = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
    answered = np.zeros(rows, dtype=np.bool_)
    for name, each in said.items():
        for part, answers in _halves(name, each):
            told = Targets(np.zeros_like(given.matrix), np.zeros_like(given.known), given.exclusive)
            for row, label in answers.items():
                task.put(told, row, label)
            sources[part] = told
            answered |= told.known
        asked = list(each.answers)
        judged[asked] = True
    silent = judged & ~answered
    fused = _fuse_classes(sources, pred_probs, known)
    probs = np.stack([each.posterior[:, 1] for each in fused], axis=1)
    if given.exclusive:
        probs = fused[0].posterior
    labels = task.predicted(probs)
    labels.matrix[known.known] = known.matrix[known.known]
    accuracy = {
        name: float(np.mean([each.accuracy[name] for each in fused]))
        for name, told in sources.items()
        if told.known.any()
    }
    judges = {name: told for name, told in sources.items() if name != GIVEN}
    return Beliefs(
        labels=labels,
        probs=probs,
        judged=judged,
        silent=silent,
        told=tuple(judges.values()),
        accuracy=accuracy,
        confusions=tuple(
            {
                name: (each.confusion[name], float(told.known.sum()))
                for name, told in sources.items()
            }
            for each in fused
        ),
        model_weight=float(np.mean([each.model_weight for each in fused])),
        warnings=tuple(doubts_of(task, given, pred_probs, judges, accuracy)),
    )


def save(path: Path, ids: pa.Array, beliefs: Beliefs, current: Targets, at_odds: Any) -> None:
    """Write `beliefs.parquet`, whole or not at all. `at_odds` is (rows,) bool."""
    table = pa.table(
        {
            "id": ids,
            "judged": pa.array(beliefs.judged),
            "belief": pa.array(beliefs.belief_in(current)),
            "conflict": pa.array(np.asarray(at_odds, dtype=np.bool_)),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue())


def _halves(name: str, said: Said) -> list[tuple[str, Mapping[int, LabelValue]]]:
    """A judge as one source; as two, the sure and the unsure, where its confidence says more."""
    answers = {row: label for row, (label, _) in said.answers.items() if label is not None}
    stated = {row: said.answers[row][1] for row in answers}
    levels = np.array([level for level in stated.values() if level is not None])
    if len(levels) < len(answers) or len(levels) < 2 * FEWEST_OF_A_HALF:
        return [(name, answers)]
    cut = float(np.median(levels))
    sure = {row: label for row, label in answers.items() if (stated[row] or 0.0) >= cut}
    unsure = {row: label for row, label in answers.items() if row not in sure}
    if min(len(sure), len(unsure)) < FEWEST_OF_A_HALF:
        return [(name, answers)]
    return [(f"{name}, sure", sure), (f"{name}, unsure", unsure)]


def _fuse_classes(
    sources: Mapping[str, Targets], pred_probs: NDArray[np.float32], known: Targets
) -> list[Fused]:
    """One fusion of exclusive classes; of multi-label one for each class against its absence."""

    def codes(targets: Targets, column: int | None) -> NDArray[np.int32]:
        found = targets.matrix.argmax(1) if column is None else targets.matrix[:, column]
        return np.where(targets.known, found, -1).astype(np.int32)

    columns: list[int | None] = [None] if known.exclusive else list(range(pred_probs.shape[1]))
    fused = []
    for column in columns:
        probs = pred_probs
        if column is not None:
            one = np.clip(pred_probs[:, column], 0, 1)
            probs = np.stack([1 - one, one], axis=1)
        parts = [Source(name, codes(each, column)) for name, each in sources.items()]
        fused.append(fuse(parts, probs, known=codes(known, column)))
    return fused
