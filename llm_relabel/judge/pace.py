"""A rate of calls learned from refusals, for a provider that tells neither limits nor waits.

Additive increase, multiplicative decrease on the rate (Chiu and Jain, 1989): a refusal sets it
below what was answered of late, and answers let it grow. A refusal now and then says nothing.
"""

from __future__ import annotations

from collections import deque

WINDOW = 10.0  # seconds of answers that are looked back on
LOWER = 0.9  # of what was answered of late that is tried after a refusal
EVERY = 1.0  # seconds; one overload is many refusals, and counts once
GROWTH = 0.02  # of the rate, regained in a second of answers
OFTEN = 0.05  # refusals for each answer, below which the rate is right
SLOWEST = 1 / 30  # calls a second


class Pace:
    """`rate` is calls a second, None until a refusal. Moments are seconds of one clock."""

    def __init__(self, now: float) -> None:
        self.rate: float | None = None
        self._answers: deque[float] = deque()
        self._refusals: deque[float] = deque()
        self._first = now
        self._refused = float("-inf")
        self._grown = now

    def answered(self, now: float) -> None:
        """A call was answered."""
        self._answers.append(now)
        while now - self._answers[0] > WINDOW:
            self._answers.popleft()
        if self.rate is not None:
            self.rate *= 1 + GROWTH * min(1.0, now - self._grown)
        self._grown = now

    def refused(self, now: float) -> None:
        """A call was refused without a word on when to come back."""
        self._refusals.append(now)
        while now - self._refusals[0] > WINDOW:
            self._refusals.popleft()
        lately = sum(now - each <= WINDOW for each in self._answers)
        if now - self._refused < EVERY or len(self._refusals) < OFTEN * lately:
            return
        self._refused = now
        seen = lately / max(1.0, min(WINDOW, now - self._first))
        base = seen if self.rate is None else min(self.rate, max(seen, self.rate / 2))
        self.rate = max(SLOWEST, LOWER * base)
