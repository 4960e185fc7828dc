"""Was it created? The search for a batch whose submission was begun and never confirmed.

A process that is killed, or a connection that is lost, while a batch is being created leaves
only the intent in the journal. Nothing is submitted again before the provider's own listing
has said that there is no such batch.
"""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_relabel.errors import AccessDenied, ProviderError, TransientError
from llm_relabel.judge.batch.api import BatchApi, BatchState
from llm_relabel.judge.batch.log import BatchLog, Submission, row_of

# Seconds that a batch may take to show in the listing, and that a request which left a killed
# process may still be under way.
SETTLE = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the provider's listing said.

    `batch` is ours for certain; `absent` says for certain that there is none. `stuck` says in
    words why neither can be known. None of them: look again later. `suspects` may be ours.
    """

    batch: BatchState | None = None
    absent: bool = False
    stuck: str | None = None
    suspects: tuple[BatchState, ...] = ()


class Search:
    """Looks for one submission at the provider until it is found or certainly not there."""

    def __init__(self, api: BatchApi, log: BatchLog, submission: Submission) -> None:
        self._api = api
        self._log = log
        self._submission = submission
        # Counted from our first look, not from the intent: an upload may take minutes, and
        # only once the process that began it is gone nothing more leaves.
        self._until = time.monotonic() + SETTLE
        self._strangers: set[str] = set()

    @property
    def seconds_left(self) -> float:
        """Until an absence counts."""
        return max(0.0, self._until - time.monotonic())

    async def look(self) -> Found:
        """One look. Raises a ProviderError."""
        submission, suspects = self._submission, []
        settled = self.seconds_left == 0.0
        async with aclosing(self._api.recent()) as batches:
            async for batch in batches:
                # Not at the first of the same second: OpenAI's clock has no finer ones.
                if batch.created < submission.since:
                    break
                if self._api.marks:
                    if batch.mark == submission.mark:
                        return Found(batch)
                elif batch.total == submission.total and batch.batch_id not in (
                    self._log.claimed | self._strangers
                ):
                    suspects.append(batch)
        unsure, stuck = [batch for batch in suspects if not batch.ended], None
        for batch in suspects:
            if not batch.ended:
                continue
            try:
                ours = await self._is_ours(batch.batch_id)
            except (TransientError, AccessDenied):
                raise
            except ProviderError as error:
                stuck = Found(stuck=self._cannot_tell(batch, error), suspects=(batch,))
                continue
            if ours:
                return Found(batch)
            self._strangers.add(batch.batch_id)
        if unsure:
            return Found(suspects=tuple(unsure))
        return stuck or Found(absent=settled)

    async def _is_ours(self, batch_id: str) -> bool:
        """Whether the first result carries our mark in its custom id."""
        async with aclosing(self._api.results(batch_id)) as results:
            async for name, _ in results:
                return row_of(self._submission.mark, name) is not None
        return False

    def _cannot_tell(self, batch: BatchState, error: ProviderError) -> str:
        submission = self._submission
        return (
            f"{submission.judge}: a batch of {submission.total} requests was being created at "
            f"{moment(submission.at)} when the connection or the process ended, and it cannot be "
            f"known whether it exists: {batch.batch_id} was created at {moment(batch.created)} "
            f"with as many requests, and its results cannot be read ({error}). Look at it in the "
            f"provider's console; requests of this run have custom ids that begin with "
            f"{submission.mark!r}. {give_up_advice(self._log, submission)}"
        )


def give_up_advice(log: BatchLog, submission: Submission) -> str:
    """How a person gives up a batch that cannot be resolved."""
    line = json.dumps({"event": "abandoned", "mark": submission.mark})
    return (
        f"To go on without it, add the line {line} to {str(log.path)!r} and run the same command "
        f"again: its {submission.total} requests are then submitted, and may be paid, once more"
    )


def moment(seconds: float) -> str:
    """A time of the epoch as people write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


__all__ = ["SETTLE", "Found", "Search", "give_up_advice", "moment"]
