"""What all evidence so far says of every row: the belief that decides under `fuse`, and is kept.

`round-N/beliefs.parquet` has one line a row: whether a judge was asked about it, the belief in the
label it has now, and whether the sources are at odds. Spot-checks are drawn by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llm_relabel.evidence.doubts import constant_answers, doubts_of, too_thin_to_agree
from llm_relabel.evidence.opinions import combine_votes
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.evidence.views import CURRENT_SIDE, leaned, weigh
from llm_relabel.files.journal import write_whole
from llm_relabel.records import Verdict
from llm_relabel.tasks import Task, labels_carefully, labels_of
from llm_relabel.units import (
    SILENT,
    Codes,
    Labels,
    LabelValue,
    Units,
    belief_in,
    column_of,
    differs,
    has_label,
)

GIVEN, MODEL, CURRENT, PEOPLE = "given labels", "small model", "current labels", "people"
FILE = "beliefs.parquet"
# A share of the labels; so few changes can do little harm.
FEW_CHANGES = 0.05
# Answers in each half, below which a judge's stated confidence does not split it in two.
FEWEST_OF_A_HALF = 100


@dataclass(frozen=True)
class JudgeVotes:
    """Everything that one judge said in one evidence arm: row -> (label, stated confidence).

    The label is None where it abstained or failed. `asked` are the units it was asked about, by
    row, where it was not asked about all of an item.
    """

    answers: dict[int, tuple[LabelValue, float | None]] = field(default_factory=dict)
    asked: dict[int, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Beliefs:
    """`labels` (rows,) is what the evidence together says, `probs` how much it believes. `bold` is
    the same without a task's care for given labels.

    `probs` is (units, K): each unit's distribution over the values of its kind. `judged` (rows,)
    says whether any judge was asked, `silent` whether none of those gave an answer. `judge_labels`
    are the label columns that judges gave. `accuracy` estimates how often each source is right,
    without a guarantee. `confusions` holds for each kind every source's P(said | true) and of how
    many rows it spoke. `too_thin` says why judge and small model together change no label, if so.
    """

    task: Task
    units: Units
    labels: Labels
    bold: Labels
    probs: NDArray[np.float32]
    judged: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    judge_labels: tuple[Labels, ...]
    accuracy: Mapping[str, float]
    confusions: tuple[Mapping[str, tuple[NDArray[np.float64], float]], ...]
    model_weight: float
    warnings: tuple[str, ...]
    view: str = CURRENT_SIDE
    lean: float | None = None
    too_thin: str | None = None

    def overruled(self, labels: Labels) -> NDArray[np.bool_]:
        """(rows,) bool: whether a judge said something else than `labels`."""
        found = np.zeros(len(self.judged), dtype=np.bool_)
        for each in self.judge_labels:
            found |= has_label(each) & differs(each, labels)
        return found

    def belief_in(self, labels: Labels) -> NDArray[np.float32]:
        """(rows,) the belief in these labels: in the least certain unit of each."""
        return belief_in(self.units, self.probs, self.task.codes(self.units, labels))


def gather(
    asks: Iterable[Mapping[str, Any]], verdicts: Mapping[str, Verdict], task: Task,
    row_of: Mapping[str, int],
) -> dict[str, JudgeVotes]:  # fmt: skip
    """What each judge said in each evidence arm, over all rounds; controls are left out.

    Several verdicts of one judge on one row (samples, a later round) are one vote: the label
    that most of them name, the earlier one at a tie.
    """
    votes: dict[str, dict[int, list[Verdict]]] = {}
    asked: dict[str, dict[int, list[frozenset[str]]]] = {}
    for line in asks:
        verdict = verdicts.get(line["ask_id"])
        if verdict is None or line["purpose"] in ("control", "anchoring"):
            continue
        if verdict.reason == "not_recorded":
            continue  # nobody was asked
        name = f"{line['judge']}, {line['evidence']}"
        row = row_of[line["id"]]
        votes.setdefault(name, {}).setdefault(row, []).append(verdict)
        if task.asked(()) is None:  # it speaks of the whole item, whatever it was shown
            continue
        shown = [None if each is None else task.check(each) for each in line["candidates"]]
        keys = task.asked(shown) or frozenset()
        asked.setdefault(name, {}).setdefault(row, []).append(keys)
    said: dict[str, JudgeVotes] = {}
    for name, by_row in votes.items():
        said[name] = JudgeVotes()
        for row, theirs in by_row.items():
            if (about := asked.get(name, {}).get(row)) is None:
                said[name].answers[row] = combine_votes(task, theirs)
            else:
                said[name].answers[row] = _joined(task, theirs, about)
                said[name].asked[row] = frozenset().union(*about)
    return said


def _joined(
    task: Task, verdicts: Sequence[Verdict], asked: Sequence[frozenset[str]]
) -> tuple[LabelValue, float | None]:
    """Several verdicts on one item, each on the units that it was asked about: what most say of
    each unit, the later ones at a tie, for a later question is about what is open then."""
    answers = [(v, keys) for v, keys in zip(verdicts, asked, strict=True) if v.outcome == "answer"]
    if not answers:
        return None, None
    labels = [task.check(verdict.answer) for verdict, _ in answers]
    said: dict[str, list[Any]] = {}
    for label, (_, keys) in zip(labels, answers, strict=True):
        values = task.values(label, label)
        for key in keys:
            said.setdefault(key, []).append(values.get(key))
    decided = {key: max(told[::-1], key=told.count) for key, told in said.items()}
    stated = [v.confidence for v, _ in answers if v.confidence is not None]
    return task.assemble(labels[-1], decided), sum(stated) / len(stated) if stated else None


def believe(
    predicted: Predicted,
    said: Mapping[str, JudgeVotes],
    people: Mapping[int, LabelValue] | None = None,
    *,
    alike: bool = False,
) -> Beliefs:
    """Fuse the given labels, the small model and every judge; `people` are final, by row.

    `alike`: given labels and verdicts are held against each other by models of the same rows, as
    it takes to tell whether more verdicts are worth asking for.
    """
    task, given = predicted.task, predicted.given
    rows = len(given)
    sources = {GIVEN: given}
    whole = {name: column_of(rows, _answers(each)) for name, each in said.items()}
    constant = constant_answers(predicted, whole)
    judged, silent = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
    answered = np.zeros(rows, dtype=np.bool_)
    for name, each in said.items():
        if name not in constant:
            for part, answers in _halves(name, each):
                sources[part] = column_of(rows, answers)
                answered |= has_label(sources[part])
        judged[list(each.answers)] = True
    silent = judged & ~answered
    checked = column_of(rows, people or {})
    own = {MODEL: predicted.labels, CURRENT: predicted.current, PEOPLE: checked}
    units = task.units({**sources, **own}, predicted.predictions)
    beliefs = predicted.beliefs_over(units)
    codes = {name: task.codes(units, labels) for name, labels in sources.items()}
    _silence(units, codes, said)
    heard = {name: each for name, each in whole.items() if name not in constant}
    verdicts = majority({name: said[name] for name in heard}, rows)
    weighed = weigh(
        predicted.reading, units, codes, beliefs, task.codes(units, checked),
        current=predicted.current, verdicts=verdicts, alike=alike,
    )  # fmt: skip
    fused, verdict_codes = weighed.fused, task.codes(units, verdicts)
    posterior = fused.posterior
    if weighed.lean is not None:
        posterior = leaned(posterior, codes[GIVEN], verdict_codes, weighed.lean)
    posterior = _unasked_as_given(units, posterior, codes[GIVEN], said)
    bold = labels_of(task, units, posterior)
    labels = labels_carefully(task, units, posterior, codes[GIVEN]) if task.careful else bold
    for found in (labels, bold):
        found[has_label(checked)] = checked[has_label(checked)]
    spoke = {name: float(has_label(each).sum()) for name, each in sources.items()}
    accuracy = {
        name: _accuracy(units, posterior, codes[name]) for name, count in spoke.items() if count
    }
    judges = {name: each for name, each in sources.items() if name != GIVEN}

    def posterior_in(told: Labels) -> NDArray[np.float32]:
        return belief_in(units, posterior, task.codes(units, told))

    learned = None if weighed.verdict_labels is None else (verdicts, weighed.verdict_labels)
    doubts = tuple(
        doubts_of(
            predicted, judges, accuracy, lean=weighed.lean, learned=learned,
            belief=_belief_in_changes(given, labels, posterior_in(labels), answered),
        )
    )  # fmt: skip
    return Beliefs(
        task=task,
        units=units,
        labels=labels,
        bold=bold,
        probs=posterior,
        judged=judged,
        silent=silent,
        judge_labels=tuple(judges.values()),
        accuracy=accuracy,
        confusions=tuple(
            {name: (each.confusion[name], count) for name, count in spoke.items()}
            for each in fused.kinds
        ),
        model_weight=fused.model_weight,
        view=weighed.view,
        lean=weighed.lean,
        warnings=(*constant.values(), *doubts),
        too_thin=too_thin_to_agree(predicted, heard, posterior_in),
    )


def _silence(units: Units, codes: Mapping[str, Codes], said: Mapping[str, JudgeVotes]) -> None:
    """Where a judge was not asked about a unit it says nothing of it; in place."""
    for name, each in said.items():
        if not each.asked:
            continue
        about = np.array([
            key in each.asked.get(row, ()) for row, key in zip(
                units.row.tolist(), units.key.tolist(), strict=True
            )
        ])  # fmt: skip
        for part, own in codes.items():
            if part == name or part.startswith(f"{name}, "):
                own[~about & (units.kind > 0)] = SILENT


def _unasked_as_given(
    units: Units, posterior: NDArray[np.float32], given: Codes, said: Mapping[str, JudgeVotes]
) -> NDArray[np.float32]:
    """The beliefs; units that no judge was asked about are as given."""
    if not any(each.asked for each in said.values()):
        return posterior
    asked = set[tuple[int, str]]()
    for each in said.values():
        asked.update((row, key) for row, keys in each.asked.items() for key in keys)
    found = posterior.copy()
    for at, place in enumerate(zip(units.row.tolist(), units.key.tolist(), strict=True)):
        if given[at] != SILENT and place not in asked:
            found[at] = 0
            found[at, given[at]] = 1
    return found


def majority(said: Mapping[str, JudgeVotes], rows: int) -> Labels:
    """(rows,) one verdict a row: what most judges say, the earlier judge at a tie."""
    votes: dict[int, list[LabelValue]] = {}
    for each in said.values():
        for row, (label, _) in each.answers.items():
            if label is not None:
                votes.setdefault(row, []).append(label)
    return column_of(rows, {row: max(told, key=told.count) for row, told in votes.items()})


def _belief_in_changes(
    given: Labels, labels: Labels, belief: NDArray[np.float32], answered: NDArray[np.bool_]
) -> float | None:
    """The mean belief in the labels that would change where a judge answered; None: few would."""
    labeled = has_label(given)
    changed = answered & labeled & differs(given, labels)
    if changed.sum() <= FEW_CHANGES * labeled.sum():
        return None
    return float(belief[changed].mean())


def _accuracy(units: Units, posterior: NDArray[np.float32], codes: Codes) -> float:
    """How often a source is believed right where it speaks, the mean over the kinds."""
    found = []
    for number, kind in enumerate(units.kinds):
        if len(kind.values) < 2:
            continue
        here = np.arange(len(units))[units.of_kind(number)]
        here = here[codes[here] >= 0]
        found.append(float(posterior[here, codes[here]].mean()) if len(here) else float("nan"))
    return float(np.mean(found))


def save(path: Path, ids: pa.Array, beliefs: Beliefs, current: Labels, at_odds: Any) -> None:
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


def _answers(said: JudgeVotes) -> dict[int, LabelValue]:
    return {row: label for row, (label, _) in said.answers.items() if label is not None}


def _halves(name: str, said: JudgeVotes) -> list[tuple[str, Mapping[int, LabelValue]]]:
    """A judge as one source; as two, the sure and the unsure, where its confidence says more."""
    answers = _answers(said)
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
