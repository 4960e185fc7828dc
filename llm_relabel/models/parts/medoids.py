"""Rows that stand for many: the one nearest to the centre of each cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def medoids(vectors: NDArray[np.float32], count: int, seed: int) -> list[int]:
    """Of vectors (rows, d) with more than `count` distinct rows, one row of each of `count`
    clusters, that of the largest first."""
    from sklearn.cluster import KMeans

    clusters = KMeans(count, n_init=3, random_state=seed).fit(vectors)
    sizes = np.bincount(clusters.labels_, minlength=count)
    chosen = []
    for cluster in np.argsort(-sizes, kind="stable").tolist():
        near = vectors @ clusters.cluster_centers_[cluster]
        near[clusters.labels_ != cluster] = -np.inf
        chosen.append(int(near.argmax()))
    return chosen
