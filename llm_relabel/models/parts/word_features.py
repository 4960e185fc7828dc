"""What is written in a word and beside it, as sparse features: an encoder may know no case.

Every script has words, affixes, shapes and neighbours; nothing here is of one language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Features that occur in one sentence only say nothing of another.
FEWEST = 2
SHAPE = 6  # characters of a shape, after runs are joined
AROUND = 2  # words to each side


class WordFeatures:
    """Numbers the features of some sentences; those of other sentences are read with the same."""

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update({name for word in _features(sentence) for name in word})
        kept = sorted(name for name, count in counts.items() if count >= FEWEST)
        self._number = {name: number for number, name in enumerate(kept)}

    def __len__(self) -> int:
        return len(self._number)

    def of(self, sentence: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The features of each word one after the other, and (words,) where each begins."""
        found, starts = list[int](), list[int]()
        for word in _features(sentence):
            starts.append(len(found))
            found += [self._number[name] for name in word if name in self._number]
        return np.array(found, dtype=np.int32), np.array(starts, dtype=np.int32)


def _features(sentence: Sequence[str]) -> Iterator[list[str]]:
    shapes = [_shape(word) for word in sentence]
    lower = [word.lower() for word in sentence]
    for place, word in enumerate(lower):
        own = [f"w={word}", f"s={shapes[place]}", f"c={_case(sentence[place])}"]
        own += [f"p{n}={word[:n]}" for n in range(1, 5) if len(word) >= n]
        own += [f"e{n}={word[-n:]}" for n in range(1, 5) if len(word) >= n]
        padded = f"^{word}$"
        own += [f"g={padded[at : at + 3]}" for at in range(len(padded) - 2)][:20]
        own += ["first"] if place == 0 else []
        own += ["last"] if place == len(lower) - 1 else []
        for step in range(-AROUND, AROUND + 1):
            beside = place + step
            if step and 0 <= beside < len(lower):
                own += [f"w{step}={lower[beside]}", f"s{step}={shapes[beside]}"]
        yield own


def _shape(word: str) -> str:
    """The word with each run of one kind of characters as one letter."""
    shape = ""
    for character in word:
        kind = (
            "X" if character.isupper() else "x" if character.islower()
            else "d" if character.isdigit() else "a" if character.isalpha() else character
        )  # fmt: skip
        if not shape.endswith(kind):
            shape += kind
    return shape[:SHAPE]


def _case(word: str) -> str:
    if word.isupper():
        return "upper"
    if word[:1].isupper():
        return "title"
    return "lower" if word.islower() else "none"
