"""Circuit breakers: a run of bad verdicts stops the run before it costs a night."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from llm_relabel.agreement.intervals import lower_bounds
from llm_relabel.config.judges import Breakers
from llm_relabel.records import Verdict

FEWEST_OF_A_SHARE = 20  # verdicts, below which no share of them is looked at
SURE = 0.01  # one-sided: it is looked at after each verdict
FEWEST = 3  # where every verdict of a round failed, so many are enough to stop


class CircuitBreaker:
    """Hears one judge's verdicts in order and says when to stop."""

    def __init__(self, name: str, settings: Breakers) -> None:
        self._name = name
        self._settings = settings
        self._recent: deque[Verdict] = deque(maxlen=settings.window)
        self._in_a_row = 0
        self.answered = False

    def hear(self, verdict: Verdict) -> str | None:
        """Why the run should stop now, or None."""
        self._recent.append(verdict)
        if verdict.outcome != "failed":
            self._in_a_row = 0
            self.answered = True
            return None
        self._in_a_row += 1
        settings = self._settings
        if settings.failures_in_a_row and self._in_a_row >= settings.failures_in_a_row:
            return self._told(f"{self._in_a_row} verdicts in a row failed", verdict)
        heard = len(self._recent)
        if heard < FEWEST_OF_A_SHARE:
            return None
        for word, limit, count in (
            ("failed", settings.failed, self._count(None)),
            ("were invalid", settings.invalid, self._count("invalid")),
        ):
            if limit is None or count <= limit * heard:
                continue
            # Before the window is full the share must be surely over the limit, not by chance.
            if heard == settings.window or float(lower_bounds(count, heard, SURE)) > limit:
                text = f"{count} of the last {heard} verdicts {word}"
                return self._told(f"{text} (judge.breakers allows {limit:.0%})", verdict)
        return None

    def nothing_came(self) -> str | None:
        """Why a round that is over should count as stopped: not one verdict was an answer."""
        if self.answered or self._in_a_row < FEWEST:
            return None
        return self._told(
            f"{self._in_a_row} verdicts in a row failed and none was an answer", self._recent[-1]
        )

    def failures(self) -> set[str]:
        """The asks of the failures within the window."""
        return {verdict.ask_id for verdict in self._recent if verdict.outcome == "failed"}

    def _count(self, reason: str | None) -> int:
        return sum(
            verdict.outcome == "failed" and reason in (None, verdict.reason)
            for verdict in self._recent
        )

    def _told(self, what: str, last: Verdict) -> str:
        return (
            f"{what}, the last with {last.reason!r}: {last.error}; check judge.model "
            f"{self._name!r}, then run the same command again"
        )


def worth_another_try(name: str, settings: Breakers, verdicts: Iterable[Verdict]) -> set[str]:
    """The asks whose failures stopped an earlier process: they deserve another try.

    `verdicts` of one judge in the order of the journal. Each failure that a breaker stopped at
    is tried again once for every stop.
    """
    breaker = CircuitBreaker(name, settings)
    again: set[str] = set()
    for verdict in verdicts:
        again.discard(verdict.ask_id)
        if breaker.hear(verdict):
            again |= breaker.failures()
    return again | breaker.failures() if breaker.nothing_came() else again
