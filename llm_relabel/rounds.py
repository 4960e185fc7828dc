"""The order of the stages. The only file that knows it.

A round trains the small model out of fold on the current labels, flags label issues, asks the
judge, decides, and writes the next version of the dataset; then it begins again. Every stage
leaves its result in the run folder, and every stage first looks there: running again is how a
run resumes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel import changes, decide, journal, runs
from llm_relabel.agreement import flagging_against_gold, label_accuracy
from llm_relabel.detect import within_budget
from llm_relabel.errors import Paused
from llm_relabel.job import Job
from llm_relabel.judge import Judge, RoundEvidence, open_judge
from llm_relabel.judge.asking import ask_all, outside_event_loops, trailing_failures
from llm_relabel.planning import flag, plan_asks
from llm_relabel.predictions import Predictions, load_saved, save_predictions, train
from llm_relabel.preparation import labels_sha256, prepare
from llm_relabel.progress import Progress, Silent, Step
from llm_relabel.provenance import now, versions
from llm_relabel.records import Ask, Change, Decision, LabelIssue, LabelValue, Targets, Verdict
from llm_relabel.report import write_report
from llm_relabel.runs import RunFolder
from llm_relabel.summary import RoundTally, make_summary

SYNC_EVERY = 1.0  # seconds between syncs of the verdict journal to the disk


class JobRunner:
    """One process's work on one run folder."""

    def __init__(self, job: Job, *, progress: Progress | None = None) -> None:
        self.job = job
        self.progress: Progress = progress if progress is not None else Silent()
        self.run = RunFolder(job.output_path)
        # The model is made once and reports to whichever step is under way.
        self._steps: list[Step] = []
        self._tallies: list[RoundTally] = []
        self._asked: set[str] = set()
        self._frozen: set[int] = set()
        self._left: dict[int, list[LabelValue]] = {}

    def go(self) -> dict[str, Any]:
        """Run, or go on with, the whole job; gives the summary.

        Raises Paused when it stopped on purpose; dataset, summary and report are written then
        too. Any other RelabelError means that nothing was spent.
        """
        return outside_event_loops(self._go)

    def _go(self) -> dict[str, Any]:
        with self.progress.step("Reading and checking the data"):
            self.prepared = prepare(self.job)
        for warning in self.prepared.warnings:
            self.progress.note(f"Warning: {warning}")
        # The judge is opened before the folder is touched: a bad key or model leaves no run.
        self.model = self.prepared.small_model(self._report_step)
        # One event loop for the whole run: a provider's connections belong to the loop they
        # were made in.
        with self.run.held(), asyncio.Runner() as self._loop:
            self.judge = self._open_judge()
            self.run.start(self.job, self.prepared.identity())
            return self._work()

    def _open_judge(self) -> Judge:
        spent = sum(
            verdict.cost or 0.0
            for number in range(1, self.job.rounds + 1)
            for verdict in self.run.verdicts(number)
        )
        return open_judge(
            self.job,
            self.prepared.task,
            self.prepared.definitions,
            self.prepared.prompts,
            cache=self.prepared.cache,
            embed=self.model.encode,
            spent=spent,
        )

    def _work(self) -> dict[str, Any]:
        self._began = time.monotonic()
        self._seconds_before = self._earlier_seconds()
        self._current = self.prepared.given.copy()
        self._finish("running", "")
        try:
            status, reason = "done", self._rounds()
        except Paused as pause:
            self._finish("paused", str(pause))
            raise
        except KeyboardInterrupt:
            self._finish("interrupted", "stopped from outside; the same command goes on")
            raise
        except BaseException as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._loop.run(self.judge.aclose())
        return self._finish(status, reason)

    def _rounds(self) -> str:
        for number in range(1, self.job.rounds + 1):
            if not self._round(number):
                return f"round {number} changed nothing, so a further round would see the same"
        return f"all {self.job.rounds} rounds are done"

    def _round(self, number: int) -> bool:
        """One round; whether it changed anything."""
        tally = RoundTally(number)
        self._tallies.append(tally)
        predictions = self._predictions(number)
        tally.facts = predictions.facts
        issues = self._flag(predictions.pred_probs)
        tally.flagged = len(issues)
        self._measure_flags(tally, issues, predictions.pred_probs)
        to_judge = within_budget(
            [i for i in issues if decide.can_change(self.job.decide.policy, i)],
            self.job.detect.budget,
            len(self.prepared.dataset),
            self._asked,
        )
        folder = self.run.round(number)
        journal.write_lines(folder / "issues.jsonl", self._issue_lines(issues))
        asks = self._plan(number, to_judge, predictions.pred_probs)
        tally.deferred = len(issues) - len(asks)
        pause: Paused | None = None
        try:
            verdicts = self._judge(number, asks, issues)
        except Paused as stopped:
            # What was paid for is decided and written; the rest waits for the same command.
            pause, verdicts = stopped, runs.latest(self.run.verdicts(number))
        changed = self._decide(tally, to_judge, asks, verdicts)
        tally.deferred = tally.flagged - tally.judged
        self._write_dataset(folder, "dataset", self._current)
        if self.prepared.gold is not None:
            accuracy = label_accuracy(self.prepared.task, self._current, self.prepared.gold)
            tally.gold["labels_after"] = accuracy
        self.progress.note(_told(tally))
        self._finish("running", "")
        if pause is not None:
            raise pause
        return changed

    # Train

    def _predictions(self, number: int) -> Predictions:
        path = self.run.round(number) / "predictions.parquet"
        saved = load_saved(path, self._current)
        if saved is not None:
            return saved
        with self.progress.step(f"Round {number}: small model, out of fold") as step:
            self._steps = [step]
            predictions = train(self.prepared, self.model, self._current)
            save_predictions(path, self.prepared, self._current, predictions)
        return predictions

    def _report_step(self, done: int, total: int) -> None:
        for step in self._steps:
            step(done, total)

    # Flag

    def _flag(self, pred_probs: NDArray[np.float32]) -> list[LabelIssue]:
        open_rows = ~self.prepared.dataset.locked
        open_rows[list(self._frozen)] = False
        return flag(self.prepared, self._current, pred_probs, open_rows)

    def _measure_flags(
        self, tally: RoundTally, issues: Sequence[LabelIssue], pred_probs: NDArray[np.float32]
    ) -> None:
        gold, task = self.prepared.gold, self.prepared.task
        if gold is None:
            return
        flagged = np.zeros(len(self.prepared.dataset), dtype=np.bool_)
        flagged[[issue.row for issue in issues]] = True
        quality = task.label_quality(self._current, pred_probs)
        tally.gold = dict(flagging_against_gold(task, self._current, gold, flagged, quality))

    def _issue_lines(self, issues: Sequence[LabelIssue]) -> Iterator[dict[str, Any]]:
        texts = self.prepared.dataset.text.take(np.array([i.row for i in issues], dtype=np.int64))
        for issue, text in zip(issues, texts, strict=True):
            yield runs.issue_line(issue, text.as_py())

    # Judge

    def _plan(
        self, number: int, issues: Sequence[LabelIssue], pred_probs: NDArray[np.float32]
    ) -> list[Ask]:
        state = "" if self.judge.settled else labels_sha256(self._current)
        asks = plan_asks(self.prepared, number, issues, pred_probs, self.judge.name, state)
        path = self.run.round(number) / "asks.jsonl"
        with journal.Journal(path) as asked:
            known = {line["ask_id"] for line in journal.read_lines(path)}
            asked.extend(runs.ask_line(ask) for ask in asks if ask.ask_id not in known)
        return asks

    def _judge(
        self, number: int, asks: Sequence[Ask], issues: Sequence[LabelIssue]
    ) -> dict[str, Verdict]:
        earlier = self.run.verdicts(number)
        again = trailing_failures(earlier)
        verdicts = runs.latest(earlier)
        open_asks = [
            ask
            for ask in asks
            if (found := verdicts.get(ask.ask_id)) is None
            or found.reason == "transport"
            or ask.ask_id in again
        ]
        # Opened even when nothing is left to ask: the journal is part of every round.
        verdict_journal = journal.Journal(self.run.round(number) / "verdicts.jsonl")
        with verdict_journal, self.progress.step(f"Round {number}: {self.judge.name}") as step:
            if not open_asks:
                return verdicts
            trusted = self._current.known.copy()
            trusted[[issue.row for issue in issues]] = False
            evidence = RoundEvidence(
                embeddings=lambda: self.model.embeddings,
                targets=self._current,
                trusted=trusted,
                groups=self.prepared.dataset.groups,
            )
            self.judge.begin_round(evidence, open_asks)
            done, synced = 0, time.monotonic()

            def hear(verdict: Verdict) -> None:
                nonlocal done, synced
                verdict_journal.append(runs.verdict_line(verdict))
                verdicts[verdict.ask_id] = verdict
                done += 1
                step(done, len(open_asks))
                if time.monotonic() - synced > SYNC_EVERY:
                    verdict_journal.sync()
                    synced = time.monotonic()

            deadline = self.job.judge.deadline
            self._loop.run(
                ask_all(
                    self.judge,
                    open_asks,
                    self.prepared.dataset.item,
                    concurrency=self.job.judge.concurrency,
                    on_verdict=hear,
                    deadline=None if deadline is None else self._began + deadline,
                )
            )
        return verdicts

    # Decide

    def _decide(
        self,
        tally: RoundTally,
        issues: Sequence[LabelIssue],
        asks: Sequence[Ask],
        verdicts: dict[str, Verdict],
    ) -> bool:
        task, lines = self.prepared.task, []
        wanted: list[Change] = []
        changed = False
        for issue, ask in zip(issues, asks, strict=True):
            verdict = verdicts.get(ask.ask_id)
            if verdict is None:
                continue
            self._asked.add(issue.id)
            decisions = decide.decide(issue, verdict, task, self.job.decide.policy)
            tally.count(decide.item_action(decisions))
            if verdict.reason is not None:
                tally.reasons[verdict.reason] += 1
            lines += [runs.decision_line(decision) for decision in decisions]
            label = decide.new_label(task, issue.current_label, decisions)
            if label == issue.current_label:
                continue
            changed = True
            self._move(issue, label)
            wanted += [
                self._change(tally.number, decision, verdict)
                for decision in decisions
                if decision.action == "replace"
            ]
        tally.frozen = len(self._frozen)
        journal.write_lines(self.run.round(tally.number) / "decisions.jsonl", lines)
        self.run.append_changes(changes.reconcile(self.run.changes(), tally.number, wanted, now()))
        return changed

    def _move(self, issue: LabelIssue, label: LabelValue) -> None:
        """Set a row's current label; a row that comes back to a label it had left is frozen.

        The evidence on such a row contradicts itself. It stays at the label it came back to.
        """
        left = self._left.setdefault(issue.row, [])
        left.append(issue.current_label)
        if label in left:
            self._frozen.add(issue.row)
        self.prepared.task.put(self._current, issue.row, label)

    def _change(self, number: int, decision: Decision, verdict: Verdict) -> Change:
        return Change(
            id=decision.id,
            unit=decision.unit,
            round=number,
            old=decision.old,
            new=decision.new,
            source=decision.source,
            why=decision.why,
            ask_ids=decision.ask_ids,
            judge=self.judge.name,
            prompt_sha256=verdict.prompt_sha256,
            definitions_sha256=self.prepared.definitions.sha256(),
            policy=decide.resolved_policy(self.job.decide.policy),
        )

    # Results

    def _finish(self, status: str, reason: str) -> dict[str, Any]:
        """Write dataset, summary and report as they stand now."""
        log = self.run.changes()
        final = changes.corrected_labels(
            log, self.prepared.task, self.prepared.given, self.prepared.dataset.ids.to_pylist()
        )
        if status != "running":
            self._write_dataset(self.run.path, "dataset", final)
        numbers = range(1, len(self._tallies) + 1)
        made = make_summary(
            self.prepared,
            self.judge,
            self._tallies,
            [verdict for number in numbers for verdict in self.run.verdicts(number)],
            final,
            status=status,
            reason=reason,
            seconds=self._seconds_before + time.monotonic() - self._began,
            rolled_back=changes.undone_by_people(log),
            versions=versions(),
        )
        self.run.write_summary(made)
        if status != "running":
            write_report(self.run, made)
        return made

    def _write_dataset(self, folder: Path, stem: str, labels: Targets) -> None:
        task, given = self.prepared.task, self.prepared.given
        rows = np.flatnonzero(task.differs(given, labels)).tolist()
        self.prepared.dataset.write(folder, stem, {row: task.decode(labels, row) for row in rows})

    def _earlier_seconds(self) -> float:
        if not self.run.summary_path.exists():
            return 0.0
        return float(self.run.summary().get("seconds", 0.0))


def _told(tally: RoundTally) -> str:
    text = (
        f"Round {tally.number}: {tally.flagged:,} flagged, {tally.judged:,} judged: "
        f"{tally.replaced:,} replaced, {tally.kept:,} kept, {tally.abstained:,} abstained, "
        f"{tally.failed:,} failed"
    )
    after = tally.gold.get("labels_after")
    return text + (f"; labels now right: {after:.1%}" if after is not None else "")
