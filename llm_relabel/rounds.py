"""The order of the stages. The only file that knows it.

A round trains the small model out of fold on the current labels, flags label issues, asks the
judge, decides, and writes the next version of the dataset; then it begins again. Every stage
leaves its result in the run folder, and every stage first looks there: running again is how a
run resumes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel import beliefs, changes, controls, decide, journal, pilot, runs
from llm_relabel.agreement import flagging_against_gold, label_accuracy
from llm_relabel.audit import Evidence, decide_by
from llm_relabel.combine import Opinion
from llm_relabel.deciding import Deciding
from llm_relabel.detect import within_budget
from llm_relabel.errors import Paused
from llm_relabel.job import Job
from llm_relabel.judge import Judges, RoundEvidence, open_judges
from llm_relabel.judge.asking import outside_event_loops
from llm_relabel.judging import Judged, Judging
from llm_relabel.planning import AskPlanner, flag
from llm_relabel.predictions import Predictions, load_saved, save_predictions, train
from llm_relabel.preparation import labels_sha256, prepare
from llm_relabel.progress import Progress, Silent, Step
from llm_relabel.provenance import now, versions
from llm_relabel.records import LabelIssue, Targets
from llm_relabel.report import write_report
from llm_relabel.review import read_answers
from llm_relabel.runs import RunFolder
from llm_relabel.sheets import changes_sheet
from llm_relabel.summary import RoundTally, make_summary

PILOT = "pilot.json"


class JobRunner:
    """One process's work on one run folder."""

    def __init__(
        self, job: Job, *, progress: Progress | None = None, pilot_size: int | None = None
    ) -> None:
        """`pilot_size`: judge so many issues of the first round, and stop with a projection,
        unless that was done before."""
        self.job = job
        self._pilot = pilot_size
        self.progress: Progress = progress if progress is not None else Silent()
        self.run = RunFolder(job.output_path)
        # The model is made once and reports to whichever step is under way.
        self._steps: list[Step] = []
        self._tallies: list[RoundTally] = []
        self._asked: set[str] = set()
        self._heard: set[int] = set()

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
            self.judges = self._open_judges()
            self.run.start(self.job, self.prepared.identity())
            self._judging = Judging(self.prepared, self.run, self.judges, self._loop, self.progress)
            return self._work()

    def _open_judges(self) -> Judges:
        spent = sum(
            verdict.cost or 0.0
            for number in range(1, self.job.rounds + 1)
            for verdict in self.run.verdicts(number)
        )
        return open_judges(
            self.job,
            self.prepared.task,
            self.prepared.definitions,
            cache=self.prepared.cache,
            embed=self.model.encode,
            spent=spent,
            folder=self.run.path,
        )

    def _work(self) -> dict[str, Any]:
        self._began = time.monotonic()
        self._seconds_before = self._earlier_seconds()
        self._deciding = Deciding(self.prepared)
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
            self._loop.run(self.judges.aclose())
        return self._finish(status, reason)

    def _rounds(self) -> str:
        for number in range(1, self.job.rounds + 1):
            if not self._round(number):
                return f"round {number} changed nothing, so a further round would see the same"
            if (veto := self._veto(number)) is not None:
                return veto
        return f"all {self.job.rounds} rounds are done"

    def _veto(self, number: int) -> str | None:
        """Take a round back whose labels make the small model worse on `data.dev`; say so."""
        before = self._tallies[-1].facts.get("dev", {}).get("accuracy")
        if before is None:
            return None
        after = self._predictions(number + 1).facts["dev"]["accuracy"]
        self._tallies[-1].facts["dev_after"] = after
        if after >= before:
            return None
        why = (
            f"round {number} was rolled back: trained on its labels the small model is right in "
            f"{after:.1%} of data.dev, before in {before:.1%}"
        )
        undo = changes.roll_back(
            self.run.changes(), lambda line: bool(line["round"] == number),
            why=why, at=now(), source=changes.VETOED,
        )  # fmt: skip
        self.run.append_changes(undo)
        self._tallies[-1].facts["rolled_back"] = why
        self.progress.note(why)
        return why

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
            [issue for issue in issues if self._is_worth_asking(issue)],
            self.job.detect.budget,
            len(self.prepared.dataset),
            self._asked,
        )
        folder = self.run.round(number)
        journal.write_lines(folder / "issues.jsonl", self._issue_lines(issues))
        judged = self._judge(number, to_judge, issues, predictions.pred_probs)
        # Also after a pause: what was paid for is decided and written, and the rest waits for
        # the same command.
        changed = self._decide(tally, to_judge, judged.opinions, predictions.pred_probs)
        tally.facts.update(self._control_facts(number))
        tally.deferred = tally.flagged - tally.judged
        self._write_dataset(folder, "dataset", self._deciding.current)
        if self.prepared.gold is not None:
            accuracy = label_accuracy(
                self.prepared.task, self._deciding.current, self.prepared.gold
            )
            tally.gold["labels_after"] = accuracy
        self.progress.note(tally.told())
        self._finish("running", "")
        if judged.pause is not None:
            raise judged.pause
        return changed

    # Train

    def _predictions(self, number: int) -> Predictions:
        path = self.run.round(number) / "predictions.parquet"
        saved = load_saved(path, self._deciding.current)
        if saved is not None:
            return saved
        with self.progress.step(f"Round {number}: small model, out of fold") as step:
            self._steps = [step]
            predictions = train(self.prepared, self.model, self._deciding.current)
            save_predictions(path, self.prepared, self._deciding.current, predictions)
        return predictions

    def _report_step(self, done: int, total: int) -> None:
        for step in self._steps:
            step(done, total)

    # Flag

    def _flag(self, pred_probs: NDArray[np.float32]) -> list[LabelIssue]:
        open_rows = ~self.prepared.dataset.locked
        open_rows[list(self._deciding.frozen)] = False
        return flag(self.prepared, self._deciding.current, pred_probs, open_rows)

    def _measure_flags(
        self, tally: RoundTally, issues: Sequence[LabelIssue], pred_probs: NDArray[np.float32]
    ) -> None:
        gold, task = self.prepared.gold, self.prepared.task
        if gold is None:
            return
        flagged = np.zeros(len(self.prepared.dataset), dtype=np.bool_)
        flagged[[issue.row for issue in issues]] = True
        quality = task.label_quality(self._deciding.current, pred_probs)
        tally.gold = dict(
            flagging_against_gold(task, self._deciding.current, gold, flagged, quality)
        )

    def _issue_lines(self, issues: Sequence[LabelIssue]) -> Iterator[dict[str, Any]]:
        texts = self.prepared.dataset.text.take(np.array([i.row for i in issues], dtype=np.int64))
        for issue, text in zip(issues, texts, strict=True):
            yield runs.issue_line(issue, text.as_py())

    def _is_worth_asking(self, issue: LabelIssue) -> bool:
        """Whether a verdict could change the label. Under `fuse` an earlier one still counts."""
        policy = self._deciding.policy
        heard = policy == "fuse" and issue.row in self._heard and self.judges.first.settled
        return decide.can_change(policy, issue) and not heard

    # Judge

    def _judge(
        self,
        number: int,
        to_judge: Sequence[LabelIssue],
        issues: Sequence[LabelIssue],
        pred_probs: NDArray[np.float32],
    ) -> Judged:
        states = {
            judge.name: labels_sha256(self._deciding.current)
            for judge in self.judges
            if not judge.settled
        }
        planner = AskPlanner(self.prepared, number, pred_probs, states)
        trusted = self._deciding.current.known.copy()
        trusted[[issue.row for issue in issues]] = False
        evidence = RoundEvidence(
            embeddings=lambda: self.model.embeddings,
            targets=self._deciding.current,
            trusted=trusted,
            groups=self.prepared.dataset.groups,
            number=number,
        )
        if number > 1:
            return self._judging.judge(planner, to_judge, issues, evidence)
        known = pilot.load(self.run.path / PILOT)
        if self._pilot is not None and known is None:
            return self._judge_pilot(planner, to_judge, issues, evidence)
        factor = self.job.judge.breakers.replacement
        watch = None
        if known is not None and factor is not None:
            window = self.job.judge.breakers.window
            watch = pilot.ReplacementWatch(known, to_judge, factor=factor, window=window).hear
        return self._judging.judge(planner, to_judge, issues, evidence, watch=watch)

    def _judge_pilot(
        self,
        planner: AskPlanner,
        to_judge: Sequence[LabelIssue],
        issues: Sequence[LabelIssue],
        evidence: RoundEvidence,
    ) -> Judged:
        """Judge a few issues, and stop with what they foretell."""
        assert self._pilot is not None
        began = time.monotonic()
        drawn = pilot.draw(to_judge, self._pilot, self.job.seed)
        judged = self._judging.judge(planner, drawn, issues, evidence, controls=False)
        if judged.pause is not None or not judged.opinions:
            return judged
        # Too few verdicts to fuse; how often the judge would be followed is what is projected.
        policy = "replace" if self._deciding.policy == "fuse" else self._deciding.policy
        task = self.prepared.task
        found = pilot.measured(
            drawn,
            len(to_judge),
            judged.opinions,
            [
                decision
                for issue in drawn
                if issue.id in judged.opinions
                for decision in decide.decide(issue, judged.opinions[issue.id], task, policy)
            ],
            self.run.verdicts(planner.number),
            time.monotonic() - began,
        )
        pilot.save(self.run.path / PILOT, found)
        judged.pause = Paused(
            f"{found.told()}\nThe same command, with or without --pilot, judges the rest."
        )
        return judged

    # Decide

    def _decide(
        self,
        tally: RoundTally,
        issues: Sequence[LabelIssue],
        opinions: Mapping[str, Opinion],
        pred_probs: NDArray[np.float32],
    ) -> bool:
        number = tally.number
        numbers = range(1, number + 1)
        said = beliefs.gather(
            [line for each in numbers for line in self.run.asks(each)],
            runs.latest([verdict for each in numbers for verdict in self.run.verdicts(each)]),
            self.prepared.task,
            self.prepared.row_of,
        )
        believed = beliefs.believe(self.prepared.task, self.prepared.given, pred_probs, said)
        checks = read_answers(self.run, self.prepared.task)
        evidence = Evidence(
            self.prepared.task, self.prepared.given, pred_probs, said, believed.judged
        )
        audited = decide_by(checks, number, self.prepared, evidence)
        decided = self._deciding.decide(number, issues, opinions, believed, audited)
        decided.count(tally)
        tally.facts["sources"] = decided.facts
        self._asked.update(opinions)
        self._heard.update(np.flatnonzero(believed.judged & ~believed.silent).tolist())
        journal.write_lines(
            self.run.round(number) / "decisions.jsonl",
            [runs.decision_line(decision) for decision in decided.decisions],
        )
        self.run.append_changes(
            changes.reconcile(self.run.changes(), number, decided.changes, now())
        )
        beliefs.save(
            self.run.round(number) / beliefs.FILE, self.prepared.dataset.ids, believed,
            self._deciding.current, decided.at_odds,
        )  # fmt: skip
        return bool(decided.changes)

    def _control_facts(self, number: int) -> dict[str, Any]:
        """What the round's controls say of the judge, if there were any."""
        if not self.job.judge.controls:
            return {}
        verdicts = runs.latest(self.run.verdicts(number))
        found = controls.measure(self.run.asks(number), verdicts, self.prepared.task)
        return {"controls": found} if found else {}

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
            self.judges,
            self._tallies,
            [line for number in numbers for line in self.run.asks(number)],
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
            changes_sheet(self.run)
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
