"""The labels that each policy would give, from the same evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from llm_relabel.evidence.beliefs import JudgeVotes, believe, majority
from llm_relabel.evidence.fusion import FLOOR
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.tasks import Task, is_one_choice, labels_of
from llm_relabel.units import SILENT, Labels, LabelValue, column_of, differs, has_label

# In this order an equal estimate is settled: what weighs all evidence, first.
ORDER = (
    "fuse",
    "fuse boldly",
    "fuse doubted",
    "pool",
    "agree",
    "replace",
    "replace doubted",
    "keep",
)
PRIOR_WEIGHT = 0.8  # of each source in the pool, before any audit
PRIOR_AUDITS = 0.3  # what that prior counts
FEWEST_TO_FIT = 10


@dataclass(frozen=True)
class AuditEvidence:
    """All that policies decide from. `doubted` (rows,) bool: the small model contradicts the label.

    `said` holds what every judge said, `predicted` what the small model does.
    """

    predicted: Predicted
    said: Mapping[str, JudgeVotes]
    doubted: NDArray[np.bool_]

    @property
    def task(self) -> Task:
        """The task type."""
        return self.predicted.task

    @property
    def given(self) -> Labels:
        """(rows,) the labels as they came."""
        return self.predicted.given

    def candidates(self, people: Mapping[int, LabelValue]) -> dict[str, Labels]:
        """The labels of every policy, by its name; what `people` said teaches those that learn."""
        given, verdicts = self.given, self._verdicts
        spoken, unlabeled = has_label(verdicts), ~has_label(given)
        some = {name: self.of_doubted(each) for name, each in self.said.items()}
        beliefs = believe(self.predicted, self.said, people)
        fused = beliefs.labels
        judged = np.zeros(len(self.doubted), dtype=np.bool_)
        for each in self.said.values():
            judged[list(each.answers)] = True
        found = {
            "keep": given,
            "replace": np.where(spoken, verdicts, given),
            "agree": self._agreed,
            "fuse": np.where(judged | unlabeled, fused, given),
        }
        if self.task.careful:
            found["fuse boldly"] = np.where(judged | unlabeled, beliefs.bold, given)
        if (judged & ~self.doubted).any():
            fewer = believe(self.predicted, some, people).labels
            found["replace doubted"] = np.where(spoken & self.doubted, verdicts, given)
            found["fuse doubted"] = np.where(self.doubted | unlabeled, fewer, given)
        pool = self._pool(verdicts, people)
        if pool is not None:
            # Where an item is one choice a model that is sure may speak alone.
            alone = is_one_choice(self.task)
            found["pool"] = pool if alone else np.where(judged | unlabeled, pool, given)
        return {name: found[name] for name in ORDER if name in found}

    def of_doubted(self, said: JudgeVotes) -> JudgeVotes:
        """What was said of the rows that the small model doubts."""
        return JudgeVotes({row: told for row, told in said.answers.items() if self.doubted[row]})

    @cached_property
    def _verdicts(self) -> Labels:
        """One label a row: what most judges say, the earlier judge at a tie."""
        return majority(self.said, len(self.given))

    @cached_property
    def _agreed(self) -> Labels:
        """The verdict of each unit on which the small model says the same."""
        task, verdicts = self.task, self._verdicts
        units = task.units(
            {"given": self.given, "judges": verdicts, "predicted": self.predicted.labels}
        )
        given, said, small = (
            task.codes(units, labels) for labels in (self.given, verdicts, self.predicted.labels)
        )
        agreed = task.labels(units, np.where((said == small) & (said != SILENT), said, given))
        # Where there was no label, only a verdict that agrees in every unit makes one.
        whole = has_label(self.given) | ~differs(verdicts, self.predicted.labels)
        return np.where(whole, agreed, self.given)

    def _pool(self, verdicts: Labels, people: Mapping[int, LabelValue]) -> Labels | None:
        """A log-linear pool of model, given label and verdict, its three weights fitted."""
        if len(people) < FEWEST_TO_FIT:
            return None
        task, predicted = self.task, self.predicted
        columns = {"given": self.given, "current": predicted.current, "judges": verdicts,
                   "predicted": predicted.labels}  # fmt: skip
        units = task.units(columns, predicted.predictions)
        classes = np.arange(units.width)
        given, said = (
            task.codes(units, labels)[:, None] == classes for labels in (self.given, verdicts)
        )
        sources = (np.log(np.clip(predicted.beliefs_over(units), FLOOR, 1)), given, said)
        truth = task.codes(units, column_of(units.rows, people)).astype(np.int64)
        # A unit of a kind with one value teaches nothing.
        sizes = np.array([len(kind.values) for kind in units.kinds])[units.kind]
        known = np.flatnonzero((truth != SILENT) & (sizes > 1))
        features = np.stack([source[known].astype(np.float64) for source in sources], axis=2)
        weights = _fit_pool(features, truth[known])
        total = sum(w * source for w, source in zip(weights, sources, strict=True))
        total[classes >= sizes[:, None]] = -np.inf
        return labels_of(task, units, np.asarray(softmax(total, axis=1), dtype=np.float32))


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
