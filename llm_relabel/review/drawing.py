"""`review sample`: draw items for people to look at, and keep with what chance each was drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llm_relabel.errors import JobError, RunError
from llm_relabel.evidence import beliefs
from llm_relabel.files.journal import write_whole
from llm_relabel.people.sampling import (
    OUTSIDE,
    STRATA,
    allocate,
    drawing_order,
    inclusion_probabilities,
    strata_of,
)
from llm_relabel.people.spot_checks import DrawnItem, ReviewFolder
from llm_relabel.review.opening import Review
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.tasks import whole_item

_STRATA_FILE = re.compile(r"strata-(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a draw added, and of each stratum its size and how many were drawn by now."""

    sample: int
    attention: int
    left: int
    strata: tuple[tuple[str, int, int], ...]
    round: int
    effort: int

    def told(self) -> str:
        """The draw in words."""
        lines = [f"{self.sample:,} items drawn by the beliefs of round {self.round}:"]
        lines += [f"  {name}: {n:,} of {size:,} rows" for name, size, n in self.strata if size]
        if self.effort:
            lines.append(
                f"{self.attention:,} more, of up to {self.effort:,}, need attention: their judge "
                "abstained or was overruled; they are no part of the sample"
            )
        if not self.left:
            lines.append("Every row that can change is drawn now.")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Beliefs:
    round: int
    judged: NDArray[np.bool_]
    belief: NDArray[np.float32]
    conflict: NDArray[np.bool_]


def draw_sample(review: Review, size: int, effort: int = 0) -> Drawn:
    """Draw `size` more items at random, and up to `effort` more that need attention.

    Random: blind spot-checks over strata of the newest round's beliefs, without replacement.
    Attention: items whose judge abstained or was overruled, the least believed first; they never
    count as drawn. No item is asked twice. Raises RunError where the run has no beliefs yet,
    JobError where `size` is too few for the strata.
    """
    ids, folder = review.prepared.dataset.ids, ReviewFolder(review.run)
    with folder.held():
        newest = _newest_beliefs(review, ids)
        strata = _all_strata(review, ids, newest)
        asked = folder.asked()
        rows = _rows_of(list(asked), ids)
        drawn = {number: np.zeros(len(ids), dtype=np.bool_) for number in strata}
        for row, item in zip(rows, asked.values(), strict=True):
            if item.purpose == "sample":
                _of_round(drawn, item.round, review)[row] = True
        here = strata[newest.round]
        new = _draw(review, here, newest, drawn, size)
        drawn[newest.round][new] = True
        chances = inclusion_probabilities(list(strata.values()), list(drawn.values()))
        unit = whole_item(review.task)

        def sampled(number: int, row: int) -> DrawnItem:
            stratum, chance = STRATA[strata[number][row]], float(chances[row])
            return DrawnItem(ids[row].as_py(), unit, stratum, chance, "sample", number)

        current = [
            sampled(number, row)
            for number, mask in drawn.items()
            for row in np.flatnonzero(mask).tolist()
        ]
        # Also the earlier ones whose chance has grown; their latest line counts.
        lines = [item for item in current if asked.get(item.id) != item]
        sampled_rows = _any(drawn.values(), len(ids))
        known = sampled_rows.copy()
        known[rows] = True
        chosen = _attention(newest, known | (here == OUTSIDE), effort)
        lines += [DrawnItem(ids[row].as_py(), unit, None, None, "attention", newest.round)
                  for row in chosen]  # fmt: skip
        _freeze(review, ids, newest.round, here)
        folder.append_asked(lines)
    left = int(((here != OUTSIDE) & ~sampled_rows).sum())
    table = tuple(
        (name, int((here == code).sum()), int(drawn[newest.round][here == code].sum()))
        for code, name in enumerate(STRATA)
    )
    return Drawn(len(new), len(chosen), left, table, newest.round, effort)


def stratum_sizes(run: RunFolder) -> dict[int, dict[str, int]]:
    """Round -> stratum -> how many rows it has, for every round that was drawn from.

    Locked rows are in no stratum. A stratum keeps its rows whatever is believed of them later.
    """
    return {
        number: {name: int((codes == code).sum()) for code, name in enumerate(STRATA)}
        for number, codes in sorted(_frozen(run).items())
    }


def _draw(
    review: Review,
    strata: NDArray[np.int8],
    newest: _Beliefs,
    drawn: dict[int, NDArray[np.bool_]],
    size: int,
) -> list[int]:
    """The rows to add to the random sample."""
    if size == 0:
        return []
    earlier = _any([mask for number, mask in drawn.items() if number != newest.round], len(strata))
    frame = np.where(earlier, OUTSIDE, strata)
    members = [frame == code for code in range(len(STRATA))]
    taken = drawn[newest.round]
    try:
        more = allocate(
            [int(mask.sum()) for mask in members],
            [float(newest.belief[mask].mean()) if mask.any() else 0.5 for mask in members],
            [int((mask & taken).sum()) for mask in members],
            size,
        )
    except ValueError as error:
        raise JobError(f"a sample of {size} is too few: {error}; draw more") from error
    order = drawing_order(len(strata), review.job.seed, newest.round)
    order = order[~taken[order]]
    rows: list[int] = []
    for mask, count in zip(members, more.tolist(), strict=True):
        rows += order[mask[order]][:count].tolist()
    return sorted(rows)


def _attention(newest: _Beliefs, closed: NDArray[np.bool_], effort: int) -> list[int]:
    """Up to `effort` rows at odds, the least believed first, none of `closed`."""
    rows = np.flatnonzero(newest.conflict & ~closed)
    worst = rows[np.argsort(newest.belief[rows], kind="stable")][:effort]
    return [int(row) for row in worst]


def _newest_beliefs(review: Review, ids: pa.ChunkedArray) -> _Beliefs:
    """The beliefs of the newest round that has any. Raises RunError."""
    found = [
        (number, path)
        for number in range(1, review.job.rounds + 1)
        if (path := review.run.round(number) / beliefs.FILE).exists()
    ]
    if not found:
        raise RunError(
            f"the run {str(review.run.path)!r} has no {beliefs.FILE} yet; run the job to the end "
            "of a round first"
        )
    number, path = found[-1]
    table = _read(path, ids)
    return _Beliefs(
        number,
        table["judged"].to_numpy().astype(np.bool_),
        np.nan_to_num(table["belief"].to_numpy()).astype(np.float32),
        table["conflict"].to_numpy().astype(np.bool_),
    )


def _all_strata(
    review: Review, ids: pa.ChunkedArray, newest: _Beliefs
) -> dict[int, NDArray[np.int8]]:
    """Round -> (rows,) strata, of every round that was sampled and of this one.

    A round's strata are frozen when it is first drawn from. The answers change the beliefs: with
    new strata, items would move by what was said about them.
    """
    found = _frozen(review.run, ids)
    if newest.round not in found:
        locked = review.prepared.dataset.locked
        found[newest.round] = strata_of(newest.judged, newest.belief, locked)
    return dict(sorted(found.items()))


def _frozen(run: RunFolder, ids: pa.ChunkedArray | None = None) -> dict[int, NDArray[np.int8]]:
    found: dict[int, NDArray[np.int8]] = {}
    for path in ReviewFolder(run).path.glob("strata-*.parquet"):
        if name := _STRATA_FILE.fullmatch(path.name):
            found[int(name[1])] = _read(path, ids)["stratum"].to_numpy().astype(np.int8)
    return found


def _freeze(review: Review, ids: pa.ChunkedArray, number: int, strata: NDArray[np.int8]) -> None:
    path = ReviewFolder(review.run).path / f"strata-{number}.parquet"
    if not path.exists():
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": ids, "stratum": strata}), sink, compression="zstd")
        write_whole(path, sink.getvalue())


def _read(path: Path, ids: pa.ChunkedArray | None) -> Any:
    """A table of one line a row of the data. Raises RunError where it is damaged, or its ids are
    not these."""
    try:
        table = pq.read_table(path).combine_chunks()
        same = ids is None or table["id"].cast(ids.type).equals(ids)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RunError(f"{str(path)!r} is damaged: {error}") from error
    if not same:
        raise RunError(f"{str(path)!r} does not hold the ids of the data, in their order")
    return table


def _of_round(
    drawn: dict[int, NDArray[np.bool_]], number: int, review: Review
) -> NDArray[np.bool_]:
    if number not in drawn:
        folder = str(ReviewFolder(review.run).path)
        raise RunError(
            f"items were drawn in round {number}, and {folder!r} has no "
            f"strata-{number}.parquet any more; restore the file"
        )
    return drawn[number]


def _any(masks: Iterable[NDArray[np.bool_]], rows: int) -> NDArray[np.bool_]:
    found = np.zeros(rows, dtype=np.bool_)
    for mask in masks:
        found |= mask
    return found


def _rows_of(wanted: list[str], ids: pa.ChunkedArray) -> list[int]:
    rows: list[int] = pc.index_in(pa.array(wanted, pa.string()), value_set=ids).to_pylist()
    return rows
