"""The rows of a batch: one question each, and their packing into a file of lines."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import IO

from llm_relabel.judge.batch.api import BatchApi
from llm_relabel.judge.batch.log import Again, custom_id
from llm_relabel.judge.chat import Completion
from llm_relabel.judge.llm import LLMJudge, Question
from llm_relabel.judge.metered import Bill
from llm_relabel.judge.prices import worst_case
from llm_relabel.records import Ask, Item

# Rows between turns of the event loop, while prompts are built.
BREATHE_EVERY = 64

ItemOf = Callable[[int], Item]


@dataclass(slots=True)
class Row:
    """One question with all asks that put it. Its request is built when needed, never kept."""

    key: str
    asks: list[Ask] = field(default_factory=list)
    bill: Bill = field(default_factory=Bill)
    attempts: int = 0
    errors: int = 0
    unusable: Completion | None = None
    earlier: float = 0.0
    """Dollars on the bill that earlier processes paid, and no verdict has told yet."""

    def question(self, llm: LLMJudge, item_of: ItemOf) -> Question:
        """The question as it stands now: the request, or the re-ask."""
        ask = self.asks[0]
        question = llm.question(ask, item_of(ask.row))
        question.bill = self.bill
        if self.unusable is not None:
            llm.accept(question, self.unusable)  # it says again what was wrong with it
        return question

    def answered(self, answer: Completion, cost: float) -> None:
        """An attempt was answered, well or not; `cost` is in dollars."""
        self.bill.calls += 1
        self.bill.add(answer, cost)

    def retry(self, fact: Again) -> None:
        """An attempt came to no verdict; it is on the bill already."""
        self.attempts += 1
        self.errors += fact.answer is None and fact.counts
        self.unusable = fact.answer or self.unusable

    def learn(self, fact: Again) -> None:
        """What an earlier process journaled of an attempt."""
        if fact.answer is not None:
            self.answered(fact.answer, fact.cost)
        else:
            self.bill.cost += fact.cost
        self.earlier += fact.cost
        self.retry(fact)

    def forget(self) -> None:
        """Start from the beginning: a failure was told, and another try is wanted."""
        self.bill, self.attempts, self.errors = Bill(), 0, 0
        self.unusable, self.earlier = None, 0.0


@dataclass(slots=True)
class Packed:
    """The next batch: `lines` holds a line for each row, `ends` where each one ends."""

    mark: str
    lines: IO[bytes]
    worst: list[float]
    ends: list[int]

    def cut(self, count: int) -> None:
        """Keep the first `count` rows, ready to be read."""
        del self.worst[count:]
        self.lines.truncate(self.ends[count - 1])
        self.lines.seek(0)


async def pack(
    lines: IO[bytes], rows: Iterable[Row], most: int, api: BatchApi, llm: LLMJudge, item_of: ItemOf
) -> Packed:
    """The first of the rows, as many as one batch holds, written to the empty file `lines`."""
    packed = Packed(f"lr-{uuid.uuid4().hex[:24]}", lines, [], [])
    for number, row in enumerate(rows):
        if number == most:
            break
        asked = row.question(llm, item_of).asked
        line = api.line(custom_id(packed.mark, number), asked)
        if number and packed.ends[-1] + len(line) > api.most_bytes:
            break
        lines.write(line)
        packed.ends.append(lines.tell())
        packed.worst.append(worst_case(asked, llm.prices, llm.member)[1])
        if number % BREATHE_EVERY == 0:
            await asyncio.sleep(0)
    return packed


def fitting(worst: Sequence[float], room: float) -> int:
    """How many of these promises, from the first on, `room` dollars hold."""
    # A hair more is asked for, so that the promises one by one fit in spite of rounding.
    return sum(1 for _ in takewhile(lambda total: total * (1 + 1e-9) <= room, accumulate(worst)))
