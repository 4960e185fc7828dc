"""`people`: a person answers each question on the review page, as the judge itself.

The questions wait in `people/questions.jsonl` of the run folder, the answers come back in
`people/answers.jsonl`. Both are apart from the spot-checks: here people are shown candidates, so
what they answer decides their item and certifies nothing.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_relabel.config.judges import PEOPLE
from llm_relabel.errors import AwaitingPeople, RunError
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.people.folder import majority, standing
from llm_relabel.people.questions import QuestionFolder, QueuedAsk
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.tasks import Task, whole_item
from llm_relabel.units import LabelValue, label_json


class PeopleJudge:
    """Gives what people answered on an item, and queues the question where nobody has.

    An answer holds in every round. Several people count by their majority; a tie abstains.
    """

    is_llm = False
    concurrency = 1
    repeatable = True

    def __init__(self, run: Path | None, task: Task) -> None:
        """`run` is the run's folder; None: nothing will be asked."""
        self.name = PEOPLE
        self._task = task
        self._run = run
        self._folder = None if run is None else QuestionFolder(run)
        self._round = 1

    def begin_round(
        self,
        evidence: RoundEvidence,
        asks: Sequence[Ask],  # noqa: ARG002 - what is asked comes with `verdicts`
    ) -> None:
        """Remember which round asks."""
        self._round = evidence.number

    def stop(self, reason: str) -> None:
        """Nothing is under way: questions are queued at once, and people answer later."""

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """What people say of one item. Raises AwaitingPeople while nobody has answered."""
        [verdict] = [each async for each in self.verdicts([ask], lambda _row: item)]
        return verdict

    async def verdicts(
        self,
        asks: Iterable[Ask],
        item_of: Callable[[int], Item],  # noqa: ARG002 - the review page reads items itself
    ) -> AsyncGenerator[Verdict, None]:
        """The verdicts that people have given. Raises AwaitingPeople when all others are queued."""
        folder = self._opened()
        known, asked, left = self._answers(folder), folder.asked(), []
        for ask in asks:
            if ask.id in known:
                verdict = self._verdict(ask, known[ask.id])
                # Nobody was asked twice: what an earlier round heard is no new answer.
                again = ask.id in asked and asked[ask.id].round < self._round
                yield replace(verdict, calls=0, cached=True) if again else verdict
            else:
                left.append(ask)
        if not left:
            return
        with folder.held():
            asked = folder.asked()
            wanted = [self._question(ask) for ask in left]
            folder.append_asked([each for each in wanted if each.id not in asked])
        run = shlex.quote(str(self._run))
        raise AwaitingPeople(
            f"{len(left):,} questions wait for people; answer them with `llm-relabel review serve "
            f"{run}` (or `review export` and `review import`), then give the same command again"
        )

    def outdated(self, verdicts: Iterable[Verdict]) -> set[str]:
        """The asks among these on which people now say something else, or nothing any more."""
        known = self._answers(self._opened())
        return {
            verdict.ask_id
            for verdict in verdicts
            if verdict.id not in known
            or label_json(majority([label for label, _ in known[verdict.id]])) != verdict.answer
        }

    async def aclose(self) -> None:
        """Nothing is open."""

    def _opened(self) -> QuestionFolder:
        if self._folder is None:
            raise RunError("the judge `people` needs a run folder, where its questions wait")
        return self._folder

    def _question(self, ask: Ask) -> QueuedAsk:
        candidates = tuple(label_json(label) for label in ask.candidates)
        return QueuedAsk(ask.id, whole_item(self._task), candidates, self._round)

    def _answers(
        self, folder: QuestionFolder
    ) -> dict[str, list[tuple[LabelValue, Mapping[str, Any]]]]:
        """What each reviewer says of each item, None for unsure, with the line that says so."""
        found: dict[str, list[tuple[LabelValue, Mapping[str, Any]]]] = {}
        for line in standing(folder.lines()).values():
            found.setdefault(line["id"], []).append((folder.label(line, self._task), line))
        return found

    def _verdict(self, ask: Ask, said: list[tuple[LabelValue, Mapping[str, Any]]]) -> Verdict:
        winner = majority([label for label, _ in said])
        lines = [line for label, line in said if label == winner]
        notes = [str(line["note"]) for line in lines if line.get("note")]
        if winner is None:
            votes = Counter(
                "unsure" if label is None else self._task.show(label) for label, _ in said
            )
            told = ", ".join(f"{label} {count}" for label, count in votes.most_common())
            rationale = "; ".join(notes) or (f"people disagree: {told}" if len(votes) > 1 else "")
            return Verdict(ask.ask_id, ask.id, "abstain", rationale=rationale, reason="unsure")
        by = ", ".join(sorted({line["reviewer"] for line in lines}))
        return Verdict(
            ask.ask_id, ask.id, "answer", label_json(winner),
            rationale="; ".join(notes) or f"answered by {by}",
        )  # fmt: skip
