"""The seam to a provider's batch API: many requests in one submission, answers hours later.

A provider's file knows the wire format and nothing else: it never retries, never decides to
submit again, and maps foreign errors as its chat file does. the other files do the rest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import IO, Protocol

from llm_relabel.errors import ProviderError
from llm_relabel.judge.chat import ChatRequest, Completion


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where one batch stands at the provider.

    `ended`: nothing more will come; whatever came can be read. `mark` is the mark that it was
    submitted with, None where the provider keeps none. `created` is in seconds since the epoch
    on the provider's clock. `total`, `done` and `failed` count requests (`total` may be 0 before
    the provider has looked at them). `problem` says in words why a batch as a whole came to
    nothing, if it did; `crowded` says that it did so only because too much is in the account's
    queue, so that the same requests fit later, or in smaller batches.
    """

    batch_id: str
    ended: bool
    created: float
    total: int
    done: int = 0
    failed: int = 0
    mark: str | None = None
    problem: str | None = None
    crowded: bool = False


class BatchApi(Protocol):
    """One provider's batches. Every method raises a ProviderError and nothing else."""

    most_requests: int
    most_bytes: int
    marks: bool
    """Whether a batch carries our mark, so that a lost submission can be found by it."""

    def line(self, custom_id: str, request: ChatRequest) -> bytes:
        """One request as it will be submitted, newline included, to be counted against
        `most_bytes`."""
        ...

    async def submit(self, lines: IO[bytes], mark: str) -> BatchState:
        """Submit a file of lines, from where it stands to its end, as one batch.

        When it raises, `may_be_billed` says whether the batch may exist all the same.
        """
        ...

    def recent(self) -> AsyncGenerator[BatchState, None]:
        """The account's batches, newest first, fetched as they are read."""
        ...

    async def state(self, batch_id: str) -> BatchState:
        """One batch as it stands."""
        ...

    def results(
        self, batch_id: str
    ) -> AsyncGenerator[tuple[str, Completion | ProviderError], None]:
        """The answers of an ended batch by custom id, in any order.

        Requests that expired or were cancelled are TransientErrors, or do not occur.
        """
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop the batch; what is done already stays readable."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
