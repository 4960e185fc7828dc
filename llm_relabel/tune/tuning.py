"""One tuning from gold to verdict: split, teachers, search, the one test, what is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.job import Job
from llm_relabel.config.judges import PEOPLE
from llm_relabel.errors import DefinitionsError, JobError, Paused, nearest
from llm_relabel.evaluation.asking import job_to_evaluate
from llm_relabel.evaluation.gold_set import read_gold
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files.journal import Journal, write_lines
from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.progress import Progress
from llm_relabel.prompts.builder import bundled_forms
from llm_relabel.rounds.train import load_saved, train
from llm_relabel.tune import proof, split
from llm_relabel.tune.advice import advise, missing_advice
from llm_relabel.tune.allowed import Allowed
from llm_relabel.tune.asking import WRITER, Desk
from llm_relabel.tune.guideline import FIELDS, FORM, INSTRUCTION, Proposal, shingles
from llm_relabel.tune.lessons import Lessons
from llm_relabel.tune.looks import Looks
from llm_relabel.tune.outcome import Outcome, Settings
from llm_relabel.tune.pairs import Miss
from llm_relabel.tune.pool import Pool, pool_of
from llm_relabel.tune.rewrite import Writer
from llm_relabel.tune.search import Candidate, Found, OutOfCalls, Proposer, Search, moved
from llm_relabel.tune.split import FIRST, PROPOSE, SECOND, SELECT, TEST, Mode, mode_of, parts_of
from llm_relabel.tune.testing import in_words, tested
from llm_relabel.tune.writer import open_writer

# The pooled test of two halves is a little too generous; so much of alpha makes up for it.
CROSS_FIT = 0.6


class Tuning:
    """A tuning of one job, opened: gold is split, nothing is asked yet."""

    def __init__(
        self, job: Job, gold: Path | None, settings: Settings, folder: Path, progress: Progress
    ) -> None:
        self.settings, self.folder, self.progress = settings, folder, progress
        self.job = _one_judge(job)
        with progress.step("Reading and checking the data"):
            self.prepared = _prepared(self.job)
            self.gold = read_gold(self.prepared, None if gold is None else gold.resolve())
        for warning in (*self.prepared.warnings, *self.gold.warnings):
            progress.note(f"Warning: {warning}")
        self._check()
        self.looks = Looks(self._gold_path(gold))
        self.mode: Mode = mode_of(len(self.gold.rows))
        self.parts = self._split()
        self.start: LabelDefinitions = self.prepared.definitions
        self._predicted: Predicted | None = None
        self.took: dict[str, Any] = {}

    def _gold_path(self, gold: Path | None) -> Path:
        if gold is not None:
            return gold.resolve()
        data = self.job.resolve(self.job.data.path)
        return data if data.is_file() else self.folder / "gold"

    def _check(self) -> None:
        names = self.prepared.task.names
        if unknown := [name for name in self.settings.labels if name not in names]:
            raise JobError(
                f"--labels {unknown[0]!r} is not a defined label{nearest(unknown[0], names)}; "
                f"defined are {', '.join(names[:30])}"
            )
        may = (*FIELDS, INSTRUCTION, FORM)
        if strange := [each for each in self.settings.change if each not in may]:
            raise JobError(f"--change {strange[0]!r}: what may change is {', '.join(may)}")
        if INSTRUCTION in self.settings.change and self.settings.writer is None:
            raise JobError("--change instruction: only a writer writes one; add --writer MODEL")
        if len(self.gold.rows) < 10:
            raise JobError(
                f"gold has {len(self.gold.rows)} items with a label, and a tuning learns from at "
                "least 10; proofs begin with 60, and 150 or more are a good gold set"
            )

    def _split(self) -> dict[str, NDArray[np.int64]]:
        """The places of gold by part; parts of a half are called `first half: propose`."""
        rows, seed = self.gold.rows, self.settings.seed
        groups = self.prepared.dataset.groups[rows]
        units = self.prepared.task.units({"given": self.prepared.given})
        codes = self.prepared.task.codes(units, self.prepared.given)
        firsts = np.minimum(units.starts[:-1], max(len(units) - 1, 0))
        strata = codes[firsts][rows].astype(np.int64)

        return parts_of(self.mode, self.settings.shares, groups, strata, seed)

    # What is reckoned before anything is asked

    @property
    def test_items(self) -> int:
        """How many items prove."""
        if self.mode == "cross-fit":
            return len(self.gold.rows)
        return len(self.parts.get(TEST, ()))

    def tested_as(self, guide: LabelDefinitions, form: str | None) -> str:
        """What a look is known by: this guideline against the start, by this judge."""
        asked = [self.start.sha256(), guide.sha256(), self.job.judge.member_names[0], self.mode]
        asked += [form] if form is not None else []
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    def alpha(self, look: int) -> float:
        """What this look may use."""
        share = CROSS_FIT if self.mode == "cross-fit" else 1.0
        return share * proof.alpha_of_look(self.settings.alpha, look)

    def test_ids(self) -> list[str]:
        """The ids of the items that prove."""
        return self._ids(self._secret())

    def _ids(self, places: NDArray[np.int64]) -> list[str]:
        ids = self.prepared.dataset.ids
        return [ids[row].as_py() for row in self.gold.rows[places].tolist()]

    # The tuning itself

    def go(self) -> Outcome:
        """Search and test. Raises Paused where it stopped on purpose and can go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_split()
        desk = self.desk()
        journal = Journal(self.folder / WRITER)
        writer: Writer | None = None
        try:
            pool, embed = self.teachers()
            if self.settings.writer is not None:
                writer = open_writer(
                    self.job, self.settings.writer, desk, journal, pool,
                    text_of=self.text_of, id_of=self.id_of, forbidden=self.forbidden(),
                    instruction=INSTRUCTION in self.settings.change,
                    note=self.progress.note, cache=self.prepared.cache,
                )  # fmt: skip
            lessons = Lessons(pool, embed, self.text_of, self.id_of, copies=self.settings.copy)
            outcome = self._outcome(desk, pool, [writer or lessons])
            outcome.advice, outcome.suspects = advise(
                desk.known, self.gold, {part: self.parts[part] for part in (PROPOSE, SELECT)},
                self._ids(np.arange(len(self.gold.rows))), self.predicted.labels[self.gold.rows],
                self.start, outcome.found.best.guide,
            )  # fmt: skip
            known = sorted(desk.fits_none - set(self.test_ids() if self.mode == "locked" else ()))
            rows = [self.prepared.row_of[each] for each in known]
            outcome.advice += missing_advice(
                known, [self.prepared.dataset.text[row].as_py() for row in rows]
            )
            self.took = {
                "questions": desk.questions, "calls": desk.budget.calls,
                "dollars": desk.budget.spent if desk.budget.cap is not None else None,
            }  # fmt: skip
            return outcome
        finally:
            if writer is not None:
                desk.run(writer.aclose())
            journal.close()
            desk.close()

    def desk(self) -> Desk:
        """Where its judge is asked; to be closed."""
        return Desk(
            self.prepared, self.predicted, self.gold, self.parts, self.folder, self.progress
        )

    @property
    def predicted(self) -> Predicted:
        """The small model's predictions: the user's, those of the job's run, or made now."""
        if self._predicted is None:
            prepared = self.prepared
            path = prepared.job.output_path / "round-1" / "predictions.parquet"
            saved = load_saved(path, prepared, prepared.given)
            if saved is None:
                with self.progress.step("Small model, out of fold") as step:
                    saved = train(prepared, prepared.small_model(step), prepared.given)
            self._predicted = saved
        return self._predicted

    def teachers(self) -> tuple[Pool, Any]:
        """The rows that can teach, and what makes vectors of texts."""
        section = self.job.model
        encoder = Encoder(section.encoder, cache=self.prepared.cache, folder=self.job.folder)
        with self.progress.step("Rows that can teach"):
            pool = pool_of(
                self.prepared, self.predicted, self.gold.rows, encoder.embed,
                tested=self.gold.rows[self._secret()],
            )  # fmt: skip
        if lacking := [name for name in self.prepared.task.names if not len(pool.of(name))]:
            self.progress.note(
                f"No row can teach {len(lacking)} labels ({', '.join(lacking[:5])}): label and "
                "small model agree on none of up to 160 characters that is not in gold and shares "
                "no five words with the test"
            )
        return pool, encoder.embed

    def _secret(self) -> NDArray[np.int64]:
        """The places of gold that nothing may be learned from: those that test."""
        if self.mode == "locked":
            return self.parts[TEST]
        return np.arange(len(self.gold.rows) if self.mode == "cross-fit" else 0)

    def text_of(self, miss: Miss) -> str:
        """How a missed unit of gold stands as an example."""
        item = self.prepared.dataset.item(int(self.gold.rows[self._place(miss.place)]))
        return self.prepared.task.example(item, miss.key)

    def id_of(self, place: int) -> str:
        """The id of a missed item."""
        return self._ids(np.array([self._place(place)]))[0]

    def _place(self, place: int) -> int:
        return int(self.parts[self._propose][place])

    def forbidden(self) -> set[str]:
        """Runs of words that no proposal may copy: those of gold, of the test in any case."""
        places = self._secret()
        if not self.settings.copy:
            places = np.arange(len(self.gold.rows))
        rows = self.gold.rows[places].tolist()
        dataset = self.prepared.dataset
        return shingles(text for row in rows for text in dataset.item(row).fields.values())

    _propose = PROPOSE

    def _outcome(self, desk: Desk, pool: Pool, proposers: Sequence[Proposer]) -> Outcome:
        may = Allowed(self.settings, self.start)
        drafts = may.drafts(pool)
        limited = [may.limited(each) for each in proposers]
        tests = 2 * self.test_items if self.mode != "proposals" else 0
        room = self.settings.max_calls - tests
        if room < len(self.parts[SELECT]):
            raise JobError(
                f"--max-calls {self.settings.max_calls:,} leaves {max(room, 0):,} calls for the "
                f"search after the {tests:,} of the test; at least "
                f"{tests + 3 * len(self.parts[SELECT]) + len(self.parts[PROPOSE]):,} are of use"
            )
        if self.mode == "cross-fit":
            return self._cross_fitted(desk, drafts, limited, room)
        desk.allow(room)
        if self.mode == "locked" and (why := self._hopeless(desk)):
            best = Candidate(0, None, self.start, (), "start", kept=True)
            found = Found(best, [best], why)
            return Outcome("stopped early", why, found, [found], None, desk.questions)
        desk.form = self._best_form(desk)
        found = self._search(desk, "", drafts, limited)
        if self.mode == "proposals":
            return Outcome(
                "proposals only",
                f"{len(self.gold.rows)} items with gold prove nothing: the proposals are unproved. "
                f"From {split.FEW} items on halves can test each other, from {split.MANY} on a "
                "part is locked away for the test",
                found, [found], None, desk.questions, desk.form,
            )  # fmt: skip
        if found.best.parent is None and desk.form is None:
            return Outcome("nothing found", self._nothing(found), found, [found], None,
                           desk.questions)  # fmt: skip
        return self._tested(desk, [found], [(TEST, found.best.guide)])

    def _hopeless(self, desk: Desk) -> str | None:
        """Why no guideline could be proved better, as far as `select` tells."""
        base, items = desk(self.start, SELECT), len(self.parts[SELECT])
        needed = math.ceil(-math.log2(self.alpha(1)))  # of any look: a rerun goes the same way
        wrong = items - base.right
        if wrong / items * self.test_items >= needed:
            return None
        return (
            f"the judge is right on {base.right} of {items} items; were all of the others mended, "
            f"the {self.test_items} items of the test would hardly prove it (at least {needed} "
            "must be mended and none broken)"
        )

    def _nothing(self, found: Found) -> str:
        select = len(self.parts[SELECT])
        return (
            f"none of {len(found.tried) - 1} guidelines did better than yours on the {select} "
            f"items that choose ({found.tried[0].right} right); your definitions stay, and the "
            "test was not looked at"
        )

    def _cross_fitted(
        self, desk: Desk, drafts: Sequence[Sequence[Proposal]], proposers: Sequence[Proposer],
        room: int,
    ) -> Outcome:  # fmt: skip
        found = list[Found]()
        desk.allow(room // 3)
        desk.form = self._best_form(desk)
        for number, half in enumerate(("", FIRST, SECOND), start=1):
            desk.allow(room * number // 3)
            found.append(self._search(desk, half, drafts, proposers))
        whole, first, second = found
        if whole.best.parent is None and desk.form is None:
            return Outcome("nothing found", self._nothing(whole), whole, found, None,
                           desk.questions)  # fmt: skip
        tests = [(SECOND, first.best.guide), (FIRST, second.best.guide)]
        return self._tested(desk, found, tests)

    def _best_form(self, desk: Desk) -> str | None:
        """The bundled form of the prompt that does best where guidelines are chosen, if it beats
        the job's own template."""
        if FORM not in self.settings.change:
            return None
        own, best, most = desk(self.start, SELECT), None, 0
        for form in bundled_forms(self.prepared.task):
            fixed, broken = moved(own, desk.in_form(form)(self.start, SELECT))
            self.progress.note(f"Form {form!r} of the prompt: {fixed} fixed, {broken} broken")
            if fixed - broken > most:
                best, most = form, fixed - broken
        return best

    def _search(
        self, desk: Desk, half: str, drafts: Sequence[Sequence[Proposal]],
        proposers: Sequence[Proposer],
    ) -> Found:  # fmt: skip
        propose, select = (f"{half}: {part}" if half else part for part in (PROPOSE, SELECT))
        self._propose = propose
        truth = self.gold.truth[self.parts[propose]]
        search = Search(self.prepared.task, truth, desk, propose, select, self._note)
        return search.run(self.start, drafts, proposers)

    def _note(self, tried: Candidate) -> None:
        kept = "kept" if tried.kept else "not kept"
        self.progress.note(
            f"Guideline {tried.number} ({tried.by}, {len(tried.proposals)} labels): "
            f"{tried.fixed} fixed, {tried.broken} broken; {kept}"
        )

    def _tested(
        self, desk: Desk, searches: list[Found], tests: Sequence[tuple[str, LabelDefinitions]]
    ) -> Outcome:
        """The test of what the first of the searches found. The look is put down before it."""
        ids, tested_as = self.test_ids(), self.tested_as(searches[0].best.guide, desk.form)
        alpha = self.alpha(self.looks.number(ids, tested_as))
        look = self.looks.begin(ids, tested_as, alpha)
        desk.allow(self.settings.max_calls)
        try:
            asks = desk.in_form(None), desk.in_form(desk.form)
            found = tested(asks, self.gold, self.parts, self.start, tests, alpha=alpha, look=look)
        except OutOfCalls as error:
            raise Paused(f"the test is not done: {error}; raise --max-calls to go on") from error
        status = "proved" if found.proved else "not proved"
        told = in_words(found, halves=self.mode == "cross-fit")
        return Outcome(status, told, searches[0], searches, found, desk.questions, desk.form)

    def _write_split(self) -> None:
        whole = {
            name: places for name, places in self.parts.items()
            if self.mode != "cross-fit" or name in (FIRST, SECOND)
        }  # fmt: skip
        lines = [
            {"id": item_id, "part": name}
            for name, places in whole.items() for item_id in self._ids(places)
        ]  # fmt: skip
        write_lines(self.folder / "split.jsonl", lines)


def _one_judge(job: Job) -> Job:
    """The job with its first judge alone, asked blind and one by one. Raises JobError."""
    first = job.judge.members[0]
    if job.data.image is not None:
        raise JobError(
            "tuning asks the judge without candidates, and of boxes it is asked only which of the "
            "candidates is right; compare two guidelines with `eval --prompt labels.yaml`"
        )
    if first.provider in (PEOPLE, "recorded"):
        raise JobError(
            f"judge.model {first.model!r} does not read the definitions, so there is nothing to "
            "tune; name a language model with --set judge.model=..."
        )
    alone = job_to_evaluate(job, [job.judge.member_names[0]], [])
    # The tuned gain must be the guideline's and not that of candidates beside it.
    section = alone.judge.model_copy(update={"evidence": "blind", "batch": False})
    return alone.model_copy(update={"judge": section})


def _prepared(job: Job) -> Prepared:
    """The job, read. Definitions that are still to be written are what a tuning begins with."""
    try:
        return prepare(job)
    except DefinitionsError as error:
        if "still to be written" not in str(error):
            raise
        raise DefinitionsError(
            f"{error}; write a first line for each (the label's name in plain words will do): "
            "tuning begins with it"
        ) from None
