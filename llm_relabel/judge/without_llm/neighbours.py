"""The nearest trusted rows of an item, by brute force over a bounded pool.

One similarity block is `TrustedPool.block` items by the pool, so memory stays constant
whatever the number of rows; nothing of size rows x rows is ever made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Cells of one similarity block: 64 MB of float32.
_CELLS = 16_000_000


class TrustedPool:
    """The rows that may vote, thinned to at most about `limit` of them.

    embeddings: (rows, d) unit vectors. voters: row numbers, ascending. groups: (rows,) int64;
    an item never meets a row of its own group. classes: (rows,) class numbers, by which a
    pool over the limit is thinned so that small classes stay whole; None thins all alike.

    `rows` are the pool's row numbers and `vectors` their (pool, d) embeddings, in group order.
    """

    def __init__(
        self,
        embeddings: Floats,
        voters: NDArray[np.int64],
        groups: NDArray[np.int64],
        *,
        classes: NDArray[np.int64] | None,
        limit: int,
    ) -> None:
        if classes is None:
            kept = _evenly(voters, limit)
        else:
            kept = _thin_by_class(voters, classes[voters], limit)
        # Sorted by group, so that the rows of one group are one slice.
        self.rows = kept[np.argsort(groups[kept], kind="stable")]
        self.vectors = np.ascontiguousarray(embeddings[self.rows], dtype=np.float32)
        self._groups = groups[self.rows]

    @property
    def block(self) -> int:
        """How many items to ask about at once."""
        return int(np.clip(_CELLS // max(len(self.rows), 1), 1, 512))

    def nearest(
        self, items: Floats, groups: NDArray[np.int64], k: int
    ) -> tuple[Floats, NDArray[np.int64]]:
        """(items, k) cosines, highest first, and positions in the pool; k at most the pool.

        -inf marks places for which no row outside the item's own group is left. Of equally
        near rows the one in the lower group, then the lower row, comes first. The pool must
        not be empty.
        """
        # Rounded, so that rows that differ only by the order of summation are equal.
        near = np.round(items @ self.vectors.T, 5)
        lows = np.searchsorted(self._groups, groups, side="left")
        highs = np.searchsorted(self._groups, groups, side="right")
        for index in np.flatnonzero(highs > lows).tolist():
            near[index, lows[index] : highs[index]] = -np.inf
        k = min(k, near.shape[1])
        last = near.shape[1] - k
        least = np.partition(near, last, axis=1)[:, last]
        found = np.empty((len(items), k), dtype=np.int64)
        for index in range(len(items)):
            # argpartition alone would pick among equals at the k-th place as it likes.
            among = np.flatnonzero(near[index] >= least[index])
            found[index] = among[np.argsort(-near[index, among], kind="stable")[:k]]
        return np.take_along_axis(near, found, axis=1), found


def _thin_by_class(
    rows: NDArray[np.int64], classes: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    """At most about `limit` of `rows`, small classes kept whole, ascending."""
    if len(rows) <= limit:
        return rows
    sizes = np.bincount(classes)
    counts = np.sort(sizes)
    # The largest equal cap under which all classes together fit.
    left = len(counts) - np.arange(len(counts))
    caps = (limit - np.concatenate([[0], np.cumsum(counts)[:-1]])) // left
    cap = max(int(caps[np.argmax(counts > caps)]), 1)
    kept = [_evenly(rows[classes == one], cap) for one in range(len(sizes))]
    return np.sort(np.concatenate(kept))


def _evenly(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """`rows`, or `limit` of them at even distances."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
