"""What a right judge answers about the toy data."""

from __future__ import annotations

import toy
from loopback import Received


def right_answer(received: Received) -> dict[str, object]:
    """A perfect judge: it knows the toy words."""
    for name, words in toy.WORDS.items():
        if any(f"the {word} number" in received.user for word in words):
            return {"rationale": f"it is a {name}", "label": name, "confidence": 0.9}
    raise AssertionError(f"no toy item in {received.user!r}")
