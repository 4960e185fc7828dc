"""What kinds of fault boxes have: missing, spurious, misplaced, or of another class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llm_relabel.data.boxes import Box, corners_of, overlaps, pairs

# A box that overlaps so much with the right one is misplaced; less, and it is of something else.
MISPLACED = 0.1


def kinds_between(old: Sequence[Box], new: Sequence[Box]) -> Counter[tuple[str, str]]:
    """What is wrong with `old` if `new` is right: (kind, class) and how often."""
    found: Counter[tuple[str, str]] = Counter()
    lost, came = [b for b in old if b not in new], [b for b in new if b not in old]
    shared = overlaps(corners_of(lost), corners_of(came))
    done = set[int](), set[int]()
    for row, number in pairs(shared, MISPLACED):
        done[0].add(row)
        done[1].add(number)
        swapped = lost[row].label != came[number].label
        found["another class" if swapped else "misplaced", came[number].label] += 1
    found.update(("spurious", b.label) for n, b in enumerate(lost) if n not in done[0])
    found.update(("missing", b.label) for n, b in enumerate(came) if n not in done[1])
    return found
