"""A first guideline out of the data alone: exemplars by cluster, telling words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from llm_relabel.config.definitions import PLACEHOLDER, LabelDefinitions
from llm_relabel.tune.guideline import MOST_EXAMPLES, MOST_WORDS, Proposal
from llm_relabel.tune.pool import Pool

BY = "draft"
WORDS = 8
# The prior of a word's log-odds has so many occurrences in all; and a word counts from this z on.
PRIOR, TELLING = 500.0, 2.0
_TELLING = "Telling words: "


def drafted(start: LabelDefinitions, pool: Pool, *, words: bool, seed: int) -> list[Proposal]:
    """For each label that has rows to learn from: exemplars and, if wanted, telling words."""
    found = []
    for name, before in start.labels.items():
        if not len(pool.of(name)):
            continue
        examples = (*before.examples, *pool.exemplars(name, seed=seed))
        definition = before.definition
        if words:
            definition = with_words(definition, telling_words(pool, name))
        new = before.model_copy(update={
            "definition": definition,
            "examples": examples[: max(MOST_EXAMPLES, len(before.examples))],
        })  # fmt: skip
        why = "rows of the data that stand for the label: model and label agree on them"
        found.append(Proposal(name, new, why, BY))
    return found


def telling_words(pool: Pool, name: str, against: Sequence[str] = ()) -> list[str]:
    """Words that speak for a label against the others (or some), the strongest first.

    Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 22).
    """
    own = _counts(pool.texts[row] for row in pool.of(name).tolist())
    rest = [
        row for row, other in enumerate(pool.names.tolist())
        if other != name and (not against or other in against)
    ]  # fmt: skip
    other = _counts(pool.texts[row] for row in rest)
    if not own or not other:
        return []
    everything = {word: own.get(word, 0) + other.get(word, 0) for word in {*own, *other}}
    total, mine, theirs = sum(everything.values()), sum(own.values()), sum(other.values())
    scored = []
    for word, count in own.items():
        if count < 2:
            continue
        prior = PRIOR * everything[word] / total
        one, two = count + prior, other.get(word, 0) + prior
        odds = np.log(one / (mine + PRIOR - one)) - np.log(two / (theirs + PRIOR - two))
        scored.append((float(odds / np.sqrt(1 / one + 1 / two)), word))
    telling = sorted((pair for pair in scored if pair[0] > TELLING), key=lambda p: (-p[0], p[1]))
    return [word for _, word in telling[:WORDS]]


def with_words(definition: str, words: Sequence[str]) -> str:
    """The definition with these telling words at its end, in the place of earlier ones."""
    plain = definition.partition(_TELLING)[0].strip()
    if plain.startswith(PLACEHOLDER):
        plain = ""
    room = MOST_WORDS - len(plain.split()) - len(_TELLING.split())
    if not words or room < 1:
        return plain or definition
    return f"{plain} {_TELLING}{', '.join(words[:room])}.".strip()


def _counts(texts: Iterable[str]) -> dict[str, int]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found: dict[str, int] = {}
    for text in texts:
        for word in set(re.findall(r"[^\W\d_]{3,}", text.casefold())) - ENGLISH_STOP_WORDS:
            found[word] = found.get(word, 0) + 1
    return found
