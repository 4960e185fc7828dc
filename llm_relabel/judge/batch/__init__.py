"""A judge behind a provider's batch API: all asks in few submissions, answers within a day.

Every batch is journaled before it is submitted (`log.py`), so a killed process loses
nothing: the next one finds what the provider holds, waits for it, and takes the answers. A
submission whose outcome is not known is searched for (`search.py`), never repeated
blindly. Requests, caching, checking and re-asks are the LLM judge's own steps (`llm.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

from llm_relabel.errors import RunError
from llm_relabel.judge.batch.api import BatchApi
from llm_relabel.judge.batch.cancel import cancel_batches
from llm_relabel.judge.batch.desk import Desk
from llm_relabel.judge.batch.log import BatchLog
from llm_relabel.judge.batch.rows import BREATHE_EVERY, Row
from llm_relabel.judge.batch.waits import Halt
from llm_relabel.judge.llm import LLMJudge
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.records import Ask, Item, Verdict

__all__ = ["BatchJudge", "cancel_batches"]


class BatchJudge:
    """An LLM judge that is asked through its provider's batch API."""

    is_llm = True
    repeatable = True

    def __init__(self, llm: LLMJudge, api: BatchApi, folder: Path | None) -> None:
        """`folder` is the run's, where the batches are journaled; None: nothing will be asked."""
        self.name = llm.name
        self.concurrency = llm.concurrency
        self.llm = llm
        self._api = api
        self._folder = folder
        self._halt = Halt()

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Nothing to prepare: a prompt says all that this judge sees."""

    def stop(self, reason: str) -> None:
        """Submit and wait no more; batches at the provider go on, and are not lost."""
        self._halt(reason)

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """One verdict, through a batch of its own."""
        # To the end: only then is the batch journaled as collected.
        [verdict] = [each async for each in self.verdicts([ask], lambda _row: item)]
        return verdict

    async def verdicts(
        self, asks: Iterable[Ask], item_of: Callable[[int], Item]
    ) -> AsyncGenerator[Verdict, None]:
        """The verdicts as they arrive. Raises Paused when no more can come now."""
        rows: dict[str, Row] = {}
        for number, ask in enumerate(asks):
            known = self.llm.known(ask, item_of(ask.row))
            if isinstance(known, Verdict):
                yield known
            else:
                rows.setdefault(known.key, Row(known.key)).asks.append(ask)
            if number % BREATHE_EVERY == 0:
                await asyncio.sleep(0)
        if not rows:
            return
        if self._folder is None:
            raise RunError(f"{self.name} is asked in batches, which need a run folder")
        journal = BatchLog(self._folder, self.name)
        try:
            desk = Desk(self.llm, self._api, journal, self._halt, item_of)
            desk.restore(rows)
            async with aclosing(desk.work()) as verdicts:
                async for verdict in verdicts:
                    yield verdict
        finally:
            journal.close()

    async def aclose(self) -> None:
        """Close the connections and put the cache on disk."""
        await self._api.aclose()
        await self.llm.aclose()
