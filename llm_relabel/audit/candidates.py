"""The labels that each policy would give, from the same evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from llm_relabel.beliefs import Said, believe
from llm_relabel.fusion import FLOOR
from llm_relabel.records import LabelValue, Targets
from llm_relabel.tasks import Task

# In this order an equal estimate is settled: what weighs all evidence, first.
ORDER = ("fuse", "fuse doubted", "pool", "agree", "replace", "replace doubted", "keep")
PRIOR_WEIGHT = 0.8  # of each source in the pool, before any audit
PRIOR_AUDITS = 0.3  # what that prior counts
FEWEST_TO_FIT = 10


@dataclass(frozen=True)
class Evidence:
    """All that policies decide from. `doubted` (rows,) bool: the small model contradicts the label.

    `said` holds what every judge said, `pred_probs` (rows, classes) the small model's.
    """

    task: Task
    given: Targets
    pred_probs: NDArray[np.float32]
    said: Mapping[str, Said]
    doubted: NDArray[np.bool_]

    def candidates(self, people: Mapping[int, LabelValue]) -> dict[str, Targets]:
        """The labels of every policy, by its name; what `people` said teaches those that learn."""
        predicted = self.task.predicted(self.pred_probs)
        verdicts = self._verdicts(self.said)
        some = {name: self.of_doubted(each) for name, each in self.said.items()}
        fused = believe(self.task, self.given, self.pred_probs, self.said, people).labels
        judged = np.zeros(len(self.doubted), dtype=np.bool_)
        for each in self.said.values():
            judged[list(each.answers)] = True
        found = {
            "keep": self.given,
            "replace": _where(verdicts.known, verdicts, self.given),
            "agree": _where(
                verdicts.known & ~self.task.differs(verdicts, predicted), verdicts, self.given
            ),
            "fuse": _where(judged | ~self.given.known, fused, self.given),
        }
        if (judged & ~self.doubted).any():
            fewer = believe(self.task, self.given, self.pred_probs, some, people).labels
            doubted = self.doubted | ~self.given.known
            found["replace doubted"] = _where(verdicts.known & self.doubted, verdicts, self.given)
            found["fuse doubted"] = _where(doubted, fewer, self.given)
        pool = self._pool(verdicts, people)
        if pool is not None:
            found["pool"] = pool
        return {name: found[name] for name in ORDER if name in found}

    def of_doubted(self, said: Said) -> Said:
        """What was said of the rows that the small model doubts."""
        return Said({row: told for row, told in said.answers.items() if self.doubted[row]})

    def _verdicts(self, said: Mapping[str, Said]) -> Targets:
        """One label a row: what most judges say, the earlier judge at a tie."""
        found = Targets(
            np.zeros_like(self.given.matrix), np.zeros_like(self.given.known), self.given.exclusive
        )
        votes: dict[int, list[LabelValue]] = {}
        for each in said.values():
            for row, (label, _) in each.answers.items():
                if label is not None:
                    votes.setdefault(row, []).append(label)
        for row, labels in votes.items():
            self.task.put(found, row, max(labels, key=labels.count))
        return found

    def _pool(self, verdicts: Targets, people: Mapping[int, LabelValue]) -> Targets | None:
        """A log-linear pool of model, given label and verdict, its three weights fitted."""
        if not self.given.exclusive or len(people) < FEWEST_TO_FIT:
            return None
        log_model = np.log(np.clip(self.pred_probs, FLOOR, 1))
        sources = (log_model, self.given.matrix, verdicts.matrix)
        rows = np.array(list(people), dtype=np.int64)
        code = {name: column for column, name in enumerate(self.task.class_names)}
        truth = np.array([code[str(label)] for label in people.values()])
        features = np.stack([source[rows].astype(np.float64) for source in sources], axis=2)
        weights = _fit_pool(features, truth)
        total = sum(w * source for w, source in zip(weights, sources, strict=True))
        return self.task.predicted(np.asarray(total, dtype=np.float32))


def _where(chosen: NDArray[np.bool_], one: Targets, other: Targets) -> Targets:
    """The labels of `one` on the chosen rows, of `other` on the rest."""
    return Targets(
        np.where(chosen[:, None], one.matrix, other.matrix),
        np.where(chosen, one.known, other.known), one.exclusive,
    )  # fmt: skip


def _fit_pool(features: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights (sources,) of softmax(features (n, classes, sources) @ weights)."""
    own = features[np.arange(len(truth)), truth]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = features @ weights
        scores -= scores.max(axis=1, keepdims=True)
        believed = np.exp(scores)
        total = believed.sum(axis=1, keepdims=True)
        believed /= total
        off = weights - PRIOR_WEIGHT
        value = np.log(total[:, 0]).sum() - scores[np.arange(len(truth)), truth].sum()
        slope = np.einsum("nc,ncs->s", believed, features) - own.sum(axis=0)
        return value + PRIOR_AUDITS * float(off @ off), slope + 2 * PRIOR_AUDITS * off

    start = np.full(features.shape[2], PRIOR_WEIGHT)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)
