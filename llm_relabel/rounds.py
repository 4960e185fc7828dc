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
from typing import Any

import numpy as np

from llm_relabel import beliefs, changes, controls, decide, journal, pilot, runs, vetoes
from llm_relabel.agreement import flagging_against_gold, labels_after
from llm_relabel.allocation import Allocation
from llm_relabel.audit import Audited, Evidence, decide_by, spot_checks_to_settle
from llm_relabel.beliefs import Beliefs, Said
from llm_relabel.controls import ControlPool
from llm_relabel.deciding import Deciding
from llm_relabel.errors import Paused
from llm_relabel.job import Job
from llm_relabel.judge import Judges, RoundEvidence, open_judges
from llm_relabel.judge.asking import outside_event_loops
from llm_relabel.judging import Judged, Judging
from llm_relabel.planning import AskPlanner, flag
from llm_relabel.predictions import Predicted, load_saved, save_predictions, train
from llm_relabel.preparation import prepare
from llm_relabel.progress import Progress, Silent, Step
from llm_relabel.provenance import now
from llm_relabel.records import LabelIssue
from llm_relabel.results import Results
from llm_relabel.review import confirmed_labels, read_answers, unanswered
from llm_relabel.runs import RunFolder
from llm_relabel.summary import RoundTally
from llm_relabel.units import differs, has_label

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
        self._audited: list[Audited | None] = []
        self._asked: set[str] = set()
        self._heard: set[int] = set()
        self._doubted: set[int] = set()

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
        self._allocation = Allocation(self.prepared)
        # Judges and model are opened before the folder is touched: a bad key or name leaves no run.
        self.model = self.prepared.small_model(self._report_step)
        if self.prepared.own_predictions is None:
            self.model.open()
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
            model=self.model,
            spent=spent,
            folder=self.run.path,
        )

    def _work(self) -> dict[str, Any]:
        self._results = Results(self.prepared, self.run, self.judges)
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

    def _finish(self, status: str, reason: str) -> dict[str, Any]:
        return self._results.write(self._tallies, self._audited, status=status, reason=reason)

    def _rounds(self) -> str:
        spot_checked = bool(read_answers(self.run, self.prepared.task))
        last = self._results.last_round(self.job.rounds, spot_checked=spot_checked)
        for number in range(1, last + 1):
            if not self._round(number):
                if self._allocation.stopped:
                    why = self._allocation.stopped["why"]
                    return f"round {number} changed nothing and asked no further: {why}"
                return f"round {number} changed nothing, so a further round would see the same"
            if (veto := self._veto(number)) is not None:
                return veto
        if last < self.job.rounds:
            return f"round {last} was decided again with the spot-checks; it had been the last"
        return f"all {self.job.rounds} rounds are done"

    def _veto(self, number: int) -> str | None:
        """Take a round back that lowers the audited accuracy, or the small model's on `data.dev`;
        say so."""
        if not self._by_machine:
            return None
        facts = self._tallies[-1].facts
        before, after = [None, *self._audited][-2:]
        why, source = vetoes.by_spot_checks(number, before, after), changes.SPOT_CHECKS
        if why is None and "dev" in facts:
            facts["dev_after"] = self._predict(number + 1).facts["dev"]["accuracy"]
            why = vetoes.by_dev(number, facts["dev"], facts["dev_after"])
            source = changes.DEV
        if why is None:
            return None
        undo = changes.roll_back(
            self.run.changes(),
            # What a person answered stays, whatever becomes of the round.
            lambda line: bool(line["round"] == number and line["source"] != "human"),
            why=why, at=now(), source=source,
        )  # fmt: skip
        self.run.append_changes(undo)
        facts["rolled_back"] = why
        self.progress.note(why)
        return why

    def _round(self, number: int) -> bool:
        """One round; whether it changed anything."""
        tally = RoundTally(number)
        self._tallies.append(tally)
        predicted = self._predict(number)
        tally.facts = predicted.facts
        issues = self._flag(predicted)
        tally.flagged = len(issues)
        self._doubted |= {issue.row for issue in issues if issue.reason != "low_quality"}
        self._measure_flags(tally, issues, predicted)
        folder = self.run.round(number)
        journal.write_lines(folder / "issues.jsonl", self._issue_lines(issues))
        judged = self._judge(number, issues, predicted)
        if self._allocation.stopped:
            tally.facts["stopped"] = self._allocation.stopped
        # Also after a pause: what was paid for is decided and written, and the rest waits for
        # the same command.
        changed = self._decide(tally, judged, predicted)
        tally.facts.update(self._control_facts(number))
        tally.deferred = tally.flagged - tally.judged
        self._results.write_dataset(folder, self._deciding.current)
        if self.prepared.gold is not None:
            task, current = self.prepared.task, self._deciding.current
            tally.gold |= labels_after(task, current, self.prepared.gold)
        self.progress.note(tally.told())
        self._finish("running", "")
        if judged.pause is not None:
            raise judged.pause
        return changed

    # Train

    def _predict(self, number: int) -> Predicted:
        path = self.run.round(number) / "predictions.parquet"
        # A round that is being decided again changes the labels that it had predictions of.
        current = self._deciding.current.copy()
        saved = load_saved(path, self.prepared, current)
        if saved is not None:
            return saved
        with self.progress.step(f"Round {number}: small model, out of fold") as step:
            self._steps = [step]
            predicted = train(self.prepared, self.model, current)
            save_predictions(path, self.prepared, predicted)
        return predicted

    def _report_step(self, done: int, total: int) -> None:
        for step in self._steps:
            step(done, total)

    # Flag

    def _flag(self, predicted: Predicted) -> list[LabelIssue]:
        open_rows = ~self.prepared.dataset.locked
        open_rows[list(self._deciding.frozen | self._deciding.settled)] = False
        return flag(self.prepared, predicted, open_rows, self._deciding.unaided)

    def _measure_flags(
        self, tally: RoundTally, issues: Sequence[LabelIssue], predicted: Predicted
    ) -> None:
        gold, labels = self.prepared.gold, self._deciding.unaided
        if gold is None:
            return
        flagged = np.zeros(len(self.prepared.dataset), dtype=np.bool_)
        flagged[[issue.row for issue in issues]] = True
        quality = predicted.quality_of(labels)
        tally.gold = dict(flagging_against_gold(labels, gold, flagged, quality))

    def _issue_lines(self, issues: Sequence[LabelIssue]) -> Iterator[dict[str, Any]]:
        texts = self.prepared.dataset.text.take(np.array([i.row for i in issues], dtype=np.int64))
        for issue, text in zip(issues, texts, strict=True):
            yield runs.issue_line(issue, text.as_py())

    # Judge

    def _judge(self, number: int, issues: Sequence[LabelIssue], predicted: Predicted) -> Judged:
        """Judge the flagged `issues`, part after part, as far as they are worth it."""
        states = {
            judge.name: self.prepared.labels_sha256(self._deciding.current)
            for judge in self.judges
            if not judge.settled
        }
        planner = AskPlanner(self.prepared, number, predicted, states)
        trusted = has_label(self._deciding.current)
        trusted[[issue.row for issue in issues]] = False
        evidence = RoundEvidence(
            model=self.model,
            labels=self._deciding.current,
            trusted=trusted,
            groups=self.prepared.dataset.groups,
            number=number,
        )
        open_issues = [issue for issue in issues if self._can_change(issue)]
        first, watch = list[LabelIssue](), None
        if number == 1 and (self._pilot is not None or (self.run.path / PILOT).exists()):
            foreseen = self._allocation.foreseen(open_issues, predicted)
            known = pilot.load(self.run.path / PILOT)
            if known is None:
                return self._judge_pilot(planner, foreseen, evidence)
            first = pilot.draw(foreseen, known.judged, self.job.seed)
            if self.job.judge.breakers.replacement is not None:
                watch = pilot.ReplacementWatch(known, open_issues, self.job.judge.breakers).hear
        pool = ControlPool(
            issues, self._deciding.current, confirmed_labels(self.run, self.prepared.task, number)
        )
        # The pilot's issues, which mostly are none, and the journals of the round.
        judged = self._judging.judge(planner, first, evidence, watch=watch, pool=pool)
        for part in self._allocation.parts(
            open_issues,
            self._asked,
            lambda done: self._believe(number, predicted, {issue.id for issue in done})[1],
            self._deciding.unaided,
            predicted.labels,
            done=first,
        ):
            if judged.pause is not None:
                break
            judged.add(self._judging.judge(planner, part, evidence, watch=watch, pool=pool))
        return judged

    def _can_change(self, issue: LabelIssue) -> bool:
        """Whether a verdict could change the label. Under `fuse` an earlier one still counts."""
        policy = self._deciding.policy
        heard = policy == "fuse" and issue.row in self._heard and self.judges.first.settled
        return decide.can_change(policy, issue) and not heard

    def _judge_pilot(
        self,
        planner: AskPlanner,
        foreseen: Sequence[LabelIssue],
        evidence: RoundEvidence,
    ) -> Judged:
        """Judge a few issues, and stop with what they foretell."""
        assert self._pilot is not None
        began = time.monotonic()
        drawn = pilot.draw(foreseen, self._pilot, self.job.seed)
        judged = self._judging.judge(planner, drawn, evidence)
        if judged.pause is not None or not judged.opinions:
            return judged
        # Too few verdicts to fuse; how often the judge would be followed is what is projected.
        policy = "replace" if self._deciding.policy == "fuse" else self._deciding.policy
        task = self.prepared.task
        found = pilot.measured(
            drawn,
            len(foreseen),
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
        judged: Judged,
        predicted: Predicted,
    ) -> bool:
        number = tally.number
        said, believed = self._believe(number, predicted)
        checks, left = read_answers(self.run, self.prepared.task), unanswered(self.run)
        doubted = np.zeros_like(believed.judged)
        doubted[list(self._doubted)] = True
        evidence = Evidence(predicted, said, doubted)
        audited = decide_by(checks, left, number, self.prepared, evidence)
        self._audited.append(audited)
        decided = self._deciding.decide(number, judged.issues, judged.opinions, believed, audited)
        decided.count(tally)
        self._by_machine = any(change.source != "human" for change in decided.changes)
        tally.facts["sources"] = decided.facts
        if audited is None or audited.choice is None:
            current, given = self._deciding.current, self.prepared.given
            tally.facts["sources"]["spot_checks_to_settle"] = spot_checks_to_settle(
                believed.judged, believed.belief_in(current), believed.belief_in(given),
                differs(given, current), self.prepared.dataset.locked,
            )  # fmt: skip
        self._asked.update(judged.opinions)
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

    def _believe(
        self, number: int, predicted: Predicted, only: set[str] | None = None
    ) -> tuple[dict[str, Said], Beliefs]:
        """What all judges said by round `number`, of which `only` these ids, and what follows."""
        numbers = range(1, number + 1)
        said = beliefs.gather(
            [
                line
                for each in numbers
                for line in self.run.asks(each)
                if only is None or each < number or line["id"] in only
            ],
            runs.latest([verdict for each in numbers for verdict in self.run.verdicts(each)]),
            self.prepared.task,
            self.prepared.row_of,
        )
        return said, beliefs.believe(predicted, said)

    def _control_facts(self, number: int) -> dict[str, Any]:
        """What the round's controls say of the judge, if there were any."""
        if not self.job.judge.controls:
            return {}
        verdicts = runs.latest(self.run.verdicts(number))
        found = controls.measure(self.run.asks(number), verdicts, self.prepared.task)
        return {"controls": found} if found else {}
