"""Whether texts look English, which is what the bundled encoder knows."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

# Of a running English text a fifth to a third is of these; of other languages' next to nothing.
_FREQUENT = frozenset(
    ("the", "of", "and", "to", "a", "in", "is", "it", "that", "for", "was", "on", "are", "as",
     "with", "you", "he", "be", "at", "i", "this", "have", "from", "or", "my", "what", "not", "we",
     "but", "an", "they", "his", "her", "how", "can", "do", "by", "has", "their", "your", "s", "t")
)  # fmt: skip
# A share of the words: English sets of headlines, tweets have .30 and more, Hausa .06.
LEAST = 0.15
FEWEST = 1_000  # words, below which nothing is said
ROWS = 2_000
_WORD = re.compile(r"[^\W\d_]+")


def english_hint(texts: pa.ChunkedArray) -> str | None:
    """What to say where hardly a word is one of the most frequent English ones."""
    rows = np.unique(np.linspace(0, len(texts) - 1, min(ROWS, len(texts))).astype(np.int64))
    words = [word for text in texts.take(rows).to_pylist() for word in _WORD.findall(text.lower())]
    if len(words) < FEWEST or sum(word in _FREQUENT for word in words) >= LEAST * len(words):
        return None
    return (
        "the texts do not look English, and the bundled encoder (model.encoder: embedded) knows "
        "English: the small model leans on spelling; a multilingual encoder finds more, such as "
        "`model.encoder: intfloat/multilingual-e5-small`"
    )
