"""Proposals without a writer: examples and telling words, chosen by what the judge got wrong.

What is shown to the judge are trusted rows of the data that are near to what was missed. Texts of
gold themselves only where the user lets them be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.tune.draft import telling_words, with_words
from llm_relabel.tune.guideline import MOST_EXAMPLES, MOST_NOT, Proposal
from llm_relabel.tune.pairs import NOTHING, Miss, confusions
from llm_relabel.tune.pool import Embed, Pool

BY = "errors"
NEAR = 2  # rows that are shown for a missed item

ExampleOf = Callable[[Miss], str]
IdOf = Callable[[int], str]


class Lessons:
    """Writes proposals from misses; `copies` shows gold's own texts too."""

    def __init__(
        self, pool: Pool, embed: Embed, example_of: ExampleOf, id_of: IdOf, *, copies: bool
    ) -> None:
        self._pool, self._embed = pool, embed
        self._example_of, self._id_of = example_of, id_of
        self._copies = copies

    def __call__(self, guide: LabelDefinitions, missed: Sequence[Miss]) -> list[Proposal]:
        """One proposal for each label that was missed or wrongly given, the most missed first."""
        pairs = confusions(missed)
        texts = {miss: self._example_of(miss) for miss in missed}
        order = list(texts.values())
        vectors = dict(zip(order, self._embed(order), strict=True)) if order else {}
        concerned: dict[str, list[tuple[str, str]]] = {}
        for pair in pairs:
            for name in pair:
                if name in guide.labels:
                    concerned.setdefault(name, []).append(pair)
        return [
            self._proposal(guide, name, mine, pairs, texts, vectors)
            for name, mine in concerned.items()
        ]

    def _proposal(
        self, guide: LabelDefinitions, name: str, mine: Sequence[tuple[str, str]],
        pairs: Mapping[tuple[str, str], Sequence[Miss]], texts: Mapping[Miss, str],
        vectors: Mapping[str, NDArray[np.float32]],
    ) -> Proposal:  # fmt: skip
        before, shown, counter = guide.labels[name], list[str](), list[str]()
        evidence: list[str] = []
        others = list(dict.fromkeys(
            other for pair in mine for other in pair if other not in (name, NOTHING)
        ))  # fmt: skip
        for gold, said in mine:
            for miss in pairs[gold, said]:
                text = texts[miss]
                evidence.append(self._id_of(miss.place))
                of = gold if gold != NOTHING else None
                near = [] if of is None else self._pool.nearest(vectors[text], of, NEAR)
                near = [text, *near] if self._copies else near
                (shown if gold == name else counter).extend(near)
        words = telling_words(self._pool, name, others) or telling_words(self._pool, name)
        new = before.model_copy(update={
            "definition": with_words(before.definition, words),
            "examples": _newest(before.examples, shown, MOST_EXAMPLES),
            "counterexamples": _newest(before.counterexamples, counter, MOST_NOT),
        })  # fmt: skip
        told = "; ".join(_told(name, gold, said, len(pairs[gold, said])) for gold, said in mine[:3])
        return Proposal(name, new, told, BY, mine[0], tuple(dict.fromkeys(evidence)))


def _newest(before: Sequence[str], new: Sequence[str], most: int) -> tuple[str, ...]:
    """New texts take the places of the last ones, so that half of what was there stays."""
    fresh = [text for text in dict.fromkeys(new) if text not in before]
    kept = list(before[: max(most - len(fresh), (most + 1) // 2)])
    return tuple([*kept, *fresh][: max(most, len(before))])


def _told(name: str, gold: str, said: str, count: int) -> str:
    shown_gold, shown_said = (each or "none of the labels" for each in (gold, said))
    be = "was" if count == 1 else "were"
    if gold == name:
        return f"{count} of {name} {be} taken for {shown_said}"
    return f"{count} of {shown_gold} {be} taken for {name}"
