"""What a text classifier learns from: class labels as a matrix, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_relabel.units import Labels, has_label


@dataclass(frozen=True, slots=True)
class Targets:
    """The labels a classifier learns from.

    `matrix` is (rows, classes) bool, columns in definition order; `known` is (rows,) bool,
    False where the label is missing (such a row is predicted and never trained on);
    `exclusive` says that a known row carries exactly one class (False: multi-label).
    """

    matrix: NDArray[np.bool_]
    known: NDArray[np.bool_]
    exclusive: bool


class ClassLabels:
    """Class names, in definition order: a label is one of them, or (not `exclusive`) a tuple."""

    def __init__(self, names: tuple[str, ...], *, exclusive: bool) -> None:
        self.names = names
        self.exclusive = exclusive
        self._column = {name: index for index, name in enumerate(names)}

    def targets(self, labels: Labels) -> Targets:
        """A column of labels as targets."""
        return Targets(self.matrix(labels), has_label(labels), self.exclusive)

    def matrix(self, labels: Labels) -> NDArray[np.bool_]:
        """(rows, classes) bool, all False where the label is missing."""
        found = np.zeros((len(labels), len(self.names)), dtype=np.bool_)
        column, rows, columns = self._column, list[int](), list[int]()
        for row, label in enumerate(labels.tolist()):
            for name in (label,) if isinstance(label, str) else label or ():
                rows.append(row)
                columns.append(column[name])
        found[rows, columns] = True
        return found

    def column(self, matrix: NDArray[np.bool_], known: NDArray[np.bool_]) -> Labels:
        """A (rows, classes) matrix of sets as a column of tuples; None where not `known`."""
        found = np.full(len(matrix), None, dtype=object)
        made: dict[bytes, tuple[str, ...]] = {}
        for row in np.flatnonzero(known).tolist():
            present = matrix[row]
            key = present.tobytes()
            if key not in made:  # the same few sets occur again and again
                made[key] = tuple(self.names[c] for c in np.flatnonzero(present).tolist())
            found[row] = made[key]
        return found

    def predicted(self, probs: NDArray[np.float32]) -> Labels:
        """The labels that probabilities (rows, classes) predict."""
        if self.exclusive:
            return np.asarray(np.array(self.names, dtype=object)[probs.argmax(axis=1)])
        return self.column(probs > 0.5, np.ones(len(probs), dtype=np.bool_))
