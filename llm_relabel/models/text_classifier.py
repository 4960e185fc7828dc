"""The small model of texts: trained on the current labels, never asked about a row it has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm_relabel.config.job import ModelSection
from llm_relabel.models.model import Predictions
from llm_relabel.models.parts.calibration import Calibration, calibrate
from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.models.parts.ridge import LeaveOutRidge
from llm_relabel.models.parts.text_features import TextFeatures
from llm_relabel.models.targets import ClassLabels, Targets
from llm_relabel.units import Labels

# The robust pass: a row whose label the model believes this little is not learned from again.
# The cut, and taking the mean of both passes, were chosen on banking77's intents outside the
# demo (57 intents, and the same rows under 7 topics) with sym and conf noise of 20% and 40%: a
# cut of .4 drops so many sound rows that the mean falls below the plain pass (average precision
# .9758 against .9764; .9788 at .1). evals/flagging.py repeats it.
DOUBTED = 0.1
REFITS = 2
# However noisy a class looks, this share of its rows stays, so that no class vanishes.
KEPT_OF_A_CLASS = 0.25


class TextClassifier:
    """Leave-one-out ridge on [encoder; words], and a fine-tuned encoder beside it if wished.

    `texts` are the rows' texts in order; rows sharing a number in `groups` (rows,) never vouch
    for each other. Vectors and word features are made when first needed and cached by content.
    """

    def __init__(
        self,
        section: ModelSection,
        texts: Any,
        groups: NDArray[np.int64],
        classes: ClassLabels,
        *,
        seed: int,
        cache: Path | None,
        folder: Path = Path(),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._section = section
        self._classes = classes
        self._folder = folder
        self._arrow_texts = texts
        self._groups = groups
        self._seed = seed
        self._cache = cache
        self._progress = progress

    @cached_property
    def _finetune(self) -> bool:
        if self._section.finetune != "auto":
            return self._section.finetune
        import torch

        return torch.cuda.is_available()

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._section.encoder, cache=self._cache, folder=self._folder)

    def open(self) -> None:
        """Open the encoder, so that a bad name shows early. Raises JobError."""
        _ = self._encoder

    @property
    def description(self) -> str:
        """One line for provenance."""
        ridge = f"leave-one-out ridge on [{self._section.encoder} encoder; TF-IDF]"
        if not self._finetune:
            return ridge
        return (
            f"{ridge}, averaged with the encoder fine-tuned in {self._section.folds} folds, "
            f"{self._section.epochs} epochs"
        )

    @cached_property
    def texts(self) -> list[str]:
        """The texts as Python strings; made only when they must be read."""
        texts = self._arrow_texts
        return list(texts) if isinstance(texts, list | tuple) else list(texts.to_pylist())

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        """(rows, d) unit vectors of the texts."""
        return self._encoder.embed(self.texts, self._progress)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, d) unit vectors of any texts."""
        return self._encoder.embed(texts)

    @cached_property
    def _words(self) -> TextFeatures:
        return TextFeatures(self.texts, seed=self._seed, cache=self._cache)

    @cached_property
    def _ridge(self) -> LeaveOutRidge:
        return LeaveOutRidge(_design(self.embeddings, self._words.matrix()), self._groups)

    def out_of_fold(self, labels: Labels) -> Predictions:
        """Every row's prediction from models that saw neither it nor its group."""
        return class_predictions(
            self._classes, self.out_of_fold_probs(self._classes.targets(labels))
        )

    def predict(self, labels: Labels, items: Sequence[str]) -> Predictions:
        """Predictions for texts outside the data, from all rows that have a label."""
        return class_predictions(self._classes, self.probs_of(self._classes.targets(labels), items))

    def out_of_fold_probs(self, targets: Targets) -> NDArray[np.float32]:
        """(rows, classes) probabilities, each row's from models that saw neither it nor its group.

        Rows sum to 1 where classes exclude each other; otherwise each class has its own.
        """
        probs = self._ridge_probs(targets)
        if self._finetune:
            from llm_relabel.models.parts.finetune import finetuned_out_of_fold

            tuned = finetuned_out_of_fold(
                self._encoder, self.texts, targets, self._groups,
                folds=self._section.folds, epochs=self._section.epochs, seed=self._seed,
                report=self._progress,
            )  # fmt: skip
            probs = np.asarray((probs + tuned) / 2, dtype=np.float32)
        return probs

    def probs_of(self, targets: Targets, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, classes) probabilities for texts outside the data, from all known rows."""
        y = _indicators(targets)
        out, penalty = self._ridge.leave_out(y, targets.known)
        calibration = _calibrate(out, targets)
        # The rows that the robust pass would drop are dropped here too.
        train = targets.known
        if targets.exclusive:
            train = train & ~_doubted(calibration.apply(out), targets)
        weights = self._ridge.fit(y, train, penalty)
        design = _design(self.encode(texts), self._words.transform(texts))
        probs = calibration.apply(design @ weights)
        if self._finetune:
            from llm_relabel.models.parts.finetune import finetuned_predict

            tuned = finetuned_predict(
                self._encoder, self.texts, targets, texts,
                epochs=self._section.epochs, seed=self._seed,
            )  # fmt: skip
            probs = np.asarray((probs + tuned) / 2, dtype=np.float32)
        return probs

    def plain_pass(self, targets: Targets) -> tuple[NDArray[np.float32], float]:
        """(rows, classes) leave-out probabilities, trained on all known rows; and the penalty."""
        scores, penalty = self._ridge.leave_out(_indicators(targets), targets.known)
        return _calibrate(scores, targets).apply(scores), penalty

    def robust_pass(
        self,
        targets: Targets,
        probs: NDArray[np.float32],
        penalty: float,
        *,
        cut: float = DOUBTED,
    ) -> NDArray[np.float32]:
        """The same, not learning from rows that `probs`, then the refit itself, doubts."""
        y = _indicators(targets)
        for _ in range(REFITS):
            train = targets.known & ~_doubted(probs, targets, cut)
            scores, _ = self._ridge.leave_out(y, train, penalty)
            probs = _calibrate(scores, targets).apply(scores)
        return probs

    def _ridge_probs(self, targets: Targets) -> NDArray[np.float32]:
        plain, penalty = self.plain_pass(targets)
        if not targets.exclusive:
            return plain
        robust = self.robust_pass(targets, plain, penalty)
        return np.asarray((plain + robust) / 2, dtype=np.float32)


def class_predictions(classes: ClassLabels, probs: NDArray[np.float32]) -> Predictions:
    """`probs` (rows, classes) as predictions: the likeliest class, or every class above a half."""
    flat = pa.array(np.ascontiguousarray(probs, dtype=np.float32).reshape(-1))
    scores = {"pred_probs": pa.FixedSizeListArray.from_arrays(flat, probs.shape[1])}
    return Predictions(classes.predicted(probs), scores, classes.names)


def _design(embeddings: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Both blocks have rows of unit length, so neither outweighs the other; and a constant."""
    constant = np.ones((len(embeddings), 1), dtype=np.float32)
    return np.asarray(np.hstack([embeddings, words, constant]), dtype=np.float32)


def _indicators(targets: Targets) -> NDArray[np.float32]:
    y = targets.matrix.astype(np.float32)
    y[~targets.known] = 0
    return y


def _calibrate(scores: NDArray[np.float32], targets: Targets) -> Calibration:
    rows = np.flatnonzero(targets.known)
    return calibrate(scores, targets.matrix, rows, exclusive=targets.exclusive)


def _doubted(
    probs: NDArray[np.float32], targets: Targets, cut: float = DOUBTED
) -> NDArray[np.bool_]:
    """(rows,) bool: rows not to learn from, at most three quarters of any class."""
    belief = np.where(targets.matrix, probs, 0).sum(axis=1)
    doubted = np.zeros(len(probs), dtype=np.bool_)
    for column in range(probs.shape[1]):
        rows = np.flatnonzero(targets.matrix[:, column] & targets.known)
        if len(rows):
            kept = np.quantile(belief[rows], 1 - KEPT_OF_A_CLASS)
            doubted[rows] = belief[rows] < min(cut, float(kept))
    return doubted
