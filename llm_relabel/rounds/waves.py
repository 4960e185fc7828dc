"""One round's judging: asks are planned in waves, journaled, put to the judges, combined.

Every ask and every verdict is in the run folder before anything follows from it, and what is
there is not asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llm_relabel.errors import Paused
from llm_relabel.evidence.opinions import Answered, Opinion, combine, is_unsure
from llm_relabel.judge.asking import Watch, ask_all
from llm_relabel.judge.breakers import worth_another_try
from llm_relabel.judge.seam import ChangesItsMind, Judges, RoundEvidence
from llm_relabel.prepared import Prepared
from llm_relabel.progress import Progress
from llm_relabel.records import Ask, LabelIssue, Verdict
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.rounds.controls import ControlPool
from llm_relabel.run_folder.folder import RunFolder
from llm_relabel.run_folder.lines import latest

SYNC_EVERY = 1.0  # seconds between syncs of the verdict journal to the disk


@dataclass
class Judged:
    """What came of judging: an opinion for each of `issues` whose asks all have a verdict.

    `pause` is set when the judging stopped before its end.
    """

    issues: list[LabelIssue] = field(default_factory=list)
    opinions: dict[str, Opinion] = field(default_factory=dict)
    pause: Paused | None = None

    def add(self, more: Judged) -> None:
        """Take over what came of a further part."""
        self.issues += more.issues
        self.opinions |= more.opinions
        self.pause = more.pause


class Judging:
    """The judges of one process and the run folder they write to."""

    def __init__(
        self,
        prepared: Prepared,
        run: RunFolder,
        judges: Judges,
        loop: asyncio.Runner,
        progress: Progress,
    ) -> None:
        self._prepared = prepared
        self._run = run
        self._judges = judges
        self._loop = loop
        self._progress = progress
        self._fell_back: set[str] = set()
        section = prepared.job.judge
        self._deadline = None if section.deadline is None else time.monotonic() + section.deadline

    def judge(
        self,
        planner: AskPlanner,
        issues: Sequence[LabelIssue],
        evidence: RoundEvidence,
        *,
        watch: Watch | None = None,
        pool: ControlPool | None = None,
    ) -> Judged:
        """Ask about `issues`, a part of the flagged ones; controls from the `pool` go with them."""
        section, judged = self._prepared.job.judge, Judged(list(issues))
        asks = planner.first_wave(issues, pool)
        known = _Known(planner.number, self._run)
        self._write_asks(known, asks)
        try:
            self._ask(known, asks, evidence, watch)
            for step, member in enumerate(section.escalate):
                opinions = self._opinions(issues, asks, known.verdicts)
                unsure = [
                    issue
                    for issue in issues
                    if issue.id in opinions and is_unsure(opinions[issue.id], member.below)
                ]
                wave = planner.escalation(unsure, step)
                self._write_asks(known, wave)
                asks = [*asks, *wave]
                self._ask(known, wave, evidence, None)
        except Paused as pause:
            judged.pause = pause
        judged.opinions = self._opinions(issues, asks, known.verdicts)
        if judged.pause is not None:
            # Where a further judge is still to be asked, the next process will.
            thresholds = [member.below for member in section.escalate]
            reached: Counter[str] = Counter()
            for ask in asks:
                reached[ask.id] = max(reached[ask.id], ask.wave)
            judged.opinions = {
                issue_id: opinion
                for issue_id, opinion in judged.opinions.items()
                if reached[issue_id] == len(thresholds)
                or not is_unsure(opinion, thresholds[reached[issue_id]])
            }
        return judged

    def _opinions(
        self, issues: Sequence[LabelIssue], asks: Sequence[Ask], verdicts: Mapping[str, Verdict]
    ) -> dict[str, Opinion]:
        asked: dict[str, list[Answered]] = {}
        open_ids: set[str] = set()
        for ask in asks:
            if ask.purpose == "control":
                continue
            verdict = verdicts.get(ask.ask_id)
            if verdict is None:
                open_ids.add(ask.id)
            else:
                asked.setdefault(ask.id, []).append((ask, verdict))
        task = self._prepared.task
        return {
            issue.id: combine(task, issue, asked[issue.id])
            for issue in issues
            if issue.id in asked and issue.id not in open_ids
        }

    def _write_asks(self, known: _Known, asks: Sequence[Ask]) -> None:
        new = [ask for ask in asks if ask.ask_id not in known.asks]
        self._run.append_asks(known.number, new)
        known.asks.update(ask.ask_id for ask in new)

    def _ask(
        self,
        known: _Known,
        asks: Sequence[Ask],
        evidence: RoundEvidence,
        watch: Watch | None,
    ) -> None:
        by_judge: dict[str, list[Ask]] = {}
        for ask in asks:
            by_judge.setdefault(ask.judge, []).append(ask)
        breakers = self._prepared.job.judge.breakers
        todo: list[tuple[str, list[Ask]]] = []
        for name, theirs in by_judge.items():
            ids, judge = {ask.ask_id for ask in theirs}, self._judges[name]
            if isinstance(judge, ChangesItsMind):
                known.forget(judge.outdated(known.latest(ids)))
            again = worth_another_try(name, breakers, known.of(ids))
            left = [ask for ask in theirs if known.is_open(ask, again)]
            if left:
                todo.append((name, left))
        total = sum(len(left) for _, left in todo)
        if not todo:
            with self._run.hearing(known.number):  # made in any case: it is part of every round
                return
        title = f"Round {known.number}: {' + '.join(name for name, _ in todo)}"
        with self._run.hearing(known.number) as written, self._progress.step(title) as step:
            for name, left in todo:
                self._judges[name].begin_round(evidence, left)
            done, synced = 0, time.monotonic()

            def hear(verdict: Verdict) -> None:
                nonlocal done, synced
                self._tell_fallbacks(name for name, _ in todo)
                written.append(verdict)
                known.hear(verdict)
                done += 1
                step(done, total)
                if time.monotonic() - synced > SYNC_EVERY:
                    written.sync()
                    synced = time.monotonic()

            self._loop.run(
                ask_all(
                    [(self._judges[name], left) for name, left in todo],
                    self._prepared.dataset.item,
                    on_verdict=hear,
                    breakers=breakers,
                    deadline=self._deadline,
                    watch=watch,
                )
            )

    def _tell_fallbacks(self, names: Iterable[str]) -> None:
        for name in names:
            told = getattr(self._judges[name], "fell_back", None)
            if told is not None and name not in self._fell_back:
                self._fell_back.add(name)
                self._progress.note(f"Note: {told}")


class _Known:
    """What a round's journals hold."""

    def __init__(self, number: int, run: RunFolder) -> None:
        self.number = number
        self.asks = {line["ask_id"] for line in run.asks(number)}
        self._in_order = run.verdicts(number)
        self.verdicts = latest(self._in_order)

    def of(self, ask_ids: set[str]) -> list[Verdict]:
        """The verdicts on these asks, in the order they came."""
        return [verdict for verdict in self._in_order if verdict.ask_id in ask_ids]

    def latest(self, ask_ids: set[str]) -> list[Verdict]:
        """The verdict that counts on each of these asks, where there is one."""
        return [verdict for ask_id, verdict in self.verdicts.items() if ask_id in ask_ids]

    def forget(self, ask_ids: set[str]) -> None:
        """These verdicts hold no more: the asks are put again."""
        for ask_id in ask_ids:
            del self.verdicts[ask_id]

    def is_open(self, ask: Ask, again: set[str]) -> bool:
        """Whether an ask has no verdict yet, or one that deserves another try."""
        verdict = self.verdicts.get(ask.ask_id)
        return verdict is None or verdict.reason == "transport" or ask.ask_id in again

    def hear(self, verdict: Verdict) -> None:
        """A verdict came."""
        self.verdicts[verdict.ask_id] = verdict
