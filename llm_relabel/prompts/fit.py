"""How long a prompt may be, and how a long text is cut."""

from __future__ import annotations

from collections.abc import Sequence


def estimated_tokens(text: str) -> float:
    """About how many tokens a text has: four ASCII characters make one, any other is one."""
    if text.isascii():
        return len(text) / 4
    others = sum(map("\x7f".__lt__, text))
    return (len(text) - others) / 4 + others


def cut_to(texts: Sequence[str], limit: int) -> list[str]:
    """The texts, the middle left out of the longest until all have `limit` tokens together.

    Short texts stay whole; what they leave is shared evenly by the longer ones. A cut text
    keeps two thirds of its share at its head and one at its tail, and says what is missing.
    """
    if sum(map(len, texts)) <= limit:
        return list(texts)  # no character is more than one token
    sizes = [estimated_tokens(text) for text in texts]
    if sum(sizes) <= limit:
        return list(texts)
    share, left = 0.0, float(limit)
    for place, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - place)
        if size > share:
            break
        left -= size
    return [
        text if size <= share else _without_middle(text, share)
        for text, size in zip(texts, sizes, strict=True)
    ]


def _without_middle(text: str, tokens: float) -> str:
    head = _prefix(text, tokens * 2 / 3)
    tail = _prefix(text[::-1], tokens / 3)[::-1]
    missing = len(text) - len(head) - len(tail)
    return f"{head}\n[... {missing:,} characters are left out here ...]\n{tail}"


def _prefix(text: str, tokens: float) -> str:
    """The longest start of `text` that has at most so many tokens."""
    low, high = int(tokens), min(len(text), int(tokens * 4) + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if estimated_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]
