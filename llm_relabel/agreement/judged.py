"""Everything that is said of one judge against gold, in one place and one shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.agreement import confidence as stated
from llm_relabel.agreement import measures
from llm_relabel.agreement.gold import measured_figure
from llm_relabel.agreement.intervals import Statistic, bootstrapped, share
from llm_relabel.tasks import Task, is_one_choice
from llm_relabel.units import SILENT, Labels, counts_by_name, differs, has_label

LARGEST = 10_000_000  # cells of drawn matrices that are worked on at once
WANTED = (0.8, 0.9, 0.95)  # accuracies for which a threshold is looked for


@dataclass(frozen=True)
class Answers:
    """One judge's answers on the gold items, in their order.

    `labels` (items,), None where the judge abstained or failed; `confidence` (items,) as
    stated, NaN where it is not.
    """

    labels: Labels
    confidence: NDArray[np.float64]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(items,) whether there is an answer."""
        return has_label(self.labels)


def right(truth: Labels, answers: Answers) -> NDArray[np.bool_]:
    """(items,) whether the answer is the true label, in every unit of it."""
    return ~differs(truth, answers.labels)


def figures(task: Task, truth: Labels, answers: Answers, *, seed: int = 0) -> dict[str, Any]:
    """All measures of one judge. `truth` (items,) are labels of items with gold only.

    Items without an answer count as wrong in `abstained_wrong`, and are left out in
    `answered_only`.
    """
    correct = right(truth, answers)
    items, count = len(truth), int(answers.answered.sum())
    of = _one_choice if is_one_choice(task) else _several_units
    found: dict[str, Any] = {
        "items": items,
        "coverage": share(count, items).as_json(),
        "accuracy": {
            "abstained_wrong": share(int(correct.sum()), items).as_json(),
            "answered_only": share(int(correct.sum()), count).as_json(),
        },
        "measure": {
            "abstained_wrong": measured_figure(task, answers.labels, truth, seed=seed).as_json(),
            "answered_only": measured_figure(
                task, answers.labels[answers.answered], truth[answers.answered], seed=seed
            ).as_json(),
        },
        **of(task, truth, answers, seed),
    }
    known = answers.answered
    told = stated.count_stated(answers.confidence[known], correct[known], items)
    if told is not None:
        found["confidence"] = {
            "stated": int(told.counts.sum()),
            "calibration_error": stated.calibration_error(told, seed=seed).as_json(),
            "auroc": stated.discrimination(told, seed=seed).as_json(),
            "reliability": stated.reliability(told),
            "curve": stated.coverage_curve(told),
            "thresholds": [stated.threshold_for(told, wanted, seed=seed) for wanted in WANTED],
        }
    return found


def _one_choice(task: Task, truth: Labels, answers: Answers, seed: int) -> dict[str, Any]:
    names, classes = task.names, len(task.names)
    codes = choice_codes(task, answers.labels)
    matrix = measures.confusion(choice_codes(task, truth), codes, classes)
    # A class that nobody uses changes no coefficient and makes each draw larger.
    used = np.flatnonzero(matrix.sum(1) + matrix[:, :-1].sum(0))
    small = matrix[np.ix_(used, np.append(used, classes))]

    def both(measure: Callable[[measures.Matrix], measures.Values]) -> dict[str, Any]:
        left = measures.answered_only(small)
        return {
            "abstained_wrong": _of_matrix(small, measure, seed),
            "answered_only": _of_matrix(left, measure, seed),
        }

    def macro(by_class: Callable[[measures.Matrix], measures.Values]) -> dict[str, Any]:
        return both(lambda drawn: np.nan_to_num(by_class(drawn)).mean(-1))

    hits, of_class, said = np.diag(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
    return {
        "macro_precision": macro(measures.precision),
        "macro_recall": macro(measures.recall),
        "macro_f1": macro(measures.f1),
        "kappa": both(measures.cohen_kappa),
        "matthews": both(measures.matthews),
        "alpha": _of_matrix(small, measures.alpha_of_two, seed),
        "by_class": [
            _class_figures(name, int(hits[c]), int(of_class[c]), int(said[c]), len(truth), seed)
            for c, name in enumerate(names)
        ],
        "confusion": matrix.tolist(),
    }


def choice_codes(task: Task, labels: Labels) -> NDArray[np.int64]:
    """(items,) codes of labels that are one choice each, -1 where there is none."""
    return task.codes(task.units({"labels": labels}), labels).astype(np.int64)


def _of_matrix(
    matrix: NDArray[Any],
    measure: Callable[[measures.Matrix], measures.Values],
    seed: int,
) -> dict[str, Any]:
    rows, columns = matrix.shape

    def statistic(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = np.array_split(drawn, drawn.size // LARGEST + 1)
        return np.concatenate([measure(part.reshape(-1, rows, columns)) for part in parts])

    return bootstrapped(matrix.ravel(), statistic, seed=seed).as_json()


def _class_figures(
    name: str, hits: int, of_class: int, said: int, items: int, seed: int
) -> dict[str, Any]:
    """Precision, recall and F1 of one class; its F1 stands on as many cases as it has items."""
    neither = max(0, items - said - of_class + hits)
    cells = np.array([hits, said - hits, of_class - hits, neither])

    def f1(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        below = 2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2]
        out = np.full(len(drawn), np.nan)
        np.divide(2 * drawn[:, 0], below, out=out, where=below > 0)
        return out

    return {
        "label": name,
        "gold": of_class,
        "answered": said,
        "precision": share(hits, said).as_json(),
        "recall": share(hits, of_class).as_json(),
        "f1": replace(bootstrapped(cells, f1, seed=seed), of=of_class).as_json(),
    }


def _several_units(task: Task, truth: Labels, answers: Answers, seed: int) -> dict[str, Any]:
    names, items = task.names, len(truth)
    units = task.units({"gold": truth, "judge": answers.labels})
    gold, told = (task.codes(units, labels) for labels in (truth, answers.labels))
    # An item's hits, false alarms and misses by name; a unit that two call otherwise is both.
    both = counts_by_name(units, np.where(gold == told, gold, SILENT))
    true_of, said_of = counts_by_name(units, gold), counts_by_name(units, told)
    parts = np.concatenate(
        [both, said_of - both, true_of - both, answers.answered[:, None]], axis=1
    )
    # Items with the same hits, false alarms and misses are one cell of the bootstrap.
    kinds, sizes = np.unique(parts, axis=0, return_counts=True)
    heard = kinds[:, -1].astype(bool)
    tp, fp, fn = (part.astype(float) for part in np.split(kinds[:, :-1], 3, axis=1))
    present = (true_of.sum(0) + said_of.sum(0)) > 0
    tp, fp, fn = tp[:, present], fp[:, present], fn[:, present]
    union = (tp + fp + fn).sum(1)
    # Nothing said of an item without a label is right where it was said, and not in silence.
    overlap = np.where(union == 0, heard.astype(float), tp.sum(1) / np.maximum(union, 1))

    def macro(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        if not present.any():
            return np.full(len(drawn), np.nan)
        hits, faults = 2 * (drawn @ tp), drawn @ (fp + fn)
        return np.asarray((hits / np.maximum(hits + faults, 1e-9)).mean(-1))

    def micro(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, faults = 2 * (drawn @ tp.sum(1)), drawn @ (fp + fn).sum(1)
        return np.asarray(hits / np.maximum(hits + faults, 1e-9))

    def mean_overlap(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((drawn @ overlap) / drawn.sum(1))

    def of(statistic: Statistic) -> dict[str, Any]:
        return {"abstained_wrong": bootstrapped(sizes, statistic, seed=seed).as_json()}

    hits, of_name, told_of = both.sum(0), true_of.sum(0), said_of.sum(0)
    return {
        "macro_f1": of(macro),
        "micro_f1": of(micro),
        "overlap": of(mean_overlap),
        "by_class": [
            _class_figures(name, int(hits[c]), int(of_name[c]), int(told_of[c]), items, seed)
            for c, name in enumerate(names)
        ],
    }  # fmt: skip
