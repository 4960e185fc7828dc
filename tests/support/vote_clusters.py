"""Embeddings in three clusters, and the judge that votes among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from llm_relabel.judge.without_llm.embedded import EmbeddingVote

DIMENSIONS = 16
NAMES = ("cats", "dogs", "ships")


def unit(vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def clusters(per_class: int = 30, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(rows, d) unit vectors round one axis a class, and the (rows,) true classes."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), per_class)
    points = np.eye(3, DIMENSIONS)[truth] + noise * rng.standard_normal((len(truth), DIMENSIONS))
    return unit(points), truth


def make(
    embeddings: np.ndarray, classes: np.ndarray, trusted: np.ndarray | None = None, **other: Any
) -> EmbeddingVote:
    rows = len(embeddings)
    given: dict[str, Any] = {
        "embeddings": embeddings,
        "labels": np.eye(3, dtype=np.bool_)[classes],
        "trusted": np.ones(rows, dtype=np.bool_) if trusted is None else trusted,
        "groups": np.arange(rows, dtype=np.int64),
        "definition_vectors": [row[None] for row in np.eye(3, DIMENSIONS, dtype=np.float32)],
        "class_names": NAMES,
        "exclusive": True,
    }
    return EmbeddingVote(**(given | other))
