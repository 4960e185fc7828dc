"""The order of an evaluation: gold, the small model, the judges, the figures, the files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_relabel.agreement.judged import Answers, right
from llm_relabel.config.job import Job, open_job
from llm_relabel.errors import JobError
from llm_relabel.evaluation import writing
from llm_relabel.evaluation.anchoring import run_arms
from llm_relabel.evaluation.asking import (
    OWN,
    Variant,
    VariantAsker,
    job_to_evaluate,
    open_desk,
    variant_of,
)
from llm_relabel.evaluation.conclusion import GIVEN, MODEL, conclusion, constant_judges
from llm_relabel.evaluation.figures import answers_of, compare
from llm_relabel.evaluation.gold_set import GoldSet, read_gold
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files.journal import write_lines
from llm_relabel.judge.asking import outside_event_loops
from llm_relabel.measure import described
from llm_relabel.models import Predictions
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.progress import Progress, Silent
from llm_relabel.provenance import now, versions
from llm_relabel.records import Verdict
from llm_relabel.rounds.train import load_saved, train
from llm_relabel.tasks import is_one_choice
from llm_relabel.units import label_json


@dataclass(frozen=True)
class Agreement:
    """What an evaluation found. `figures` is `agreement.json`, `path` the folder with the files."""

    path: Path
    figures: Mapping[str, Any]

    @property
    def conclusion(self) -> str:
        """Who wins, by how much, and whether that is proved, in one sentence."""
        return str(self.figures["conclusion"])

    @property
    def markdown(self) -> str:
        """The same as `agreement.md` has it."""
        return (self.path / writing.MARKDOWN).read_text(encoding="utf-8")


def evaluate(
    job: Job | str | Path | Mapping[str, Any],
    gold: str | Path | None = None,
    *,
    judges: Sequence[str] = (),
    prompts: Sequence[str | Path] = (),
    recorded: Sequence[str | Path] = (),
    anchoring: int = 0,
    small_model: bool = True,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Agreement:
    """Hold judges, prompts, the given labels and the small model against gold.

    `gold` is a file joined by id (None: the job's `data.gold` column). `judges` are members of
    the job or further models, `recorded` files of answers; neither given, all of the job's are
    asked. `prompts` are templates or definitions tried beside the job's own. `anchoring` items
    go through five arms. `output` defaults to the job's output with `-eval` behind it.
    `small_model` False trains nothing, where no judge needs predictions.

    Raises Paused where it stopped on purpose and can go on, any other RelabelError before money
    is spent.
    """
    opened = job_to_evaluate(
        open_job(job, overrides), judges, [str(Path(each)) for each in recorded]
    )
    folder = Path(output) if output is not None else Path(f"{opened.output_path}-eval")
    work = _Evaluation(opened, folder, progress if progress is not None else Silent())
    return outside_event_loops(
        lambda: work.go(
            None if gold is None else Path(gold), [Path(each) for each in prompts], anchoring,
            small_model=small_model,
        )
    )  # fmt: skip


class _Evaluation:
    def __init__(self, job: Job, folder: Path, progress: Progress) -> None:
        self._job = job
        self._folder = folder
        self._progress = progress
        self._answers: dict[str, Answers] = {}
        self._took: dict[str, dict[str, Any]] = {}
        self._lines: list[dict[str, Any]] = []

    def go(
        self, gold_file: Path | None, prompts: Sequence[Path], anchoring: int, *, small_model: bool
    ) -> Agreement:
        with self._progress.step("Reading and checking the data"):
            prepared = prepare(self._job, trained=False)
            gold = read_gold(prepared, None if gold_file is None else gold_file.resolve())
        for warning in (*prepared.warnings, *gold.warnings):
            self._progress.note(f"Warning: {warning}")
        self._check(prepared, anchoring, small_model=small_model)
        base = Variant(OWN, prepared, self._predicted(prepared, wanted=small_model))
        # All variants are read before the first question is paid for.
        names = [path.name for path in prompts]
        variants = [base]
        for path in dict.fromkeys(prompts):
            name = path.name if names.count(path.name) == 1 else str(path)
            variants.append(variant_of(base, path, name))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._references(base, gold, small_model=small_model)
        arms: dict[str, Any] = {}
        for variant in variants:
            found = self._ask(variant, gold, anchoring, several=len(variants) > 1)
            if found is not None:
                arms[variant.name] = found
        return self._conclude(prepared, gold, arms)

    def _check(self, prepared: Prepared, anchoring: int, *, small_model: bool) -> None:
        section = prepared.job.judge
        if anchoring and prepared.job.data.image is not None:
            raise JobError(
                "anchoring compares answers with and without candidates, and of boxes a judge is "
                "asked only which of the candidates is right; leave it out"
            )
        llm = any(member.provider not in ("embedded", "recorded") for member in section.members)
        needs = anchoring or (llm and section.evidence == "referenced")
        if not small_model and needs:
            raise JobError(
                "the judges are shown the small model's prediction (judge.evidence: referenced, "
                "or anchoring); leave the small model in, or set judge.evidence=blind"
            )

    def _predicted(self, prepared: Prepared, *, wanted: bool) -> Predicted:
        """The small model's predictions: the user's, those of the job's run, or made now."""
        if not wanted:  # nothing reads them
            given = prepared.given
            return Predicted(prepared.task, given, given, Predictions(given, {}, ()))
        if (why := prepared.untrainable) is not None and prepared.own_predictions is None:
            raise JobError(f"data {prepared.job.data.path!r}: {why}; leave it out with --no-model")
        path = prepared.job.output_path / "round-1" / "predictions.parquet"
        if (saved := load_saved(path, prepared, prepared.given)) is not None:
            return saved
        with self._progress.step("Small model, out of fold") as step:
            return train(prepared, prepared.small_model(step), prepared.given)

    def _references(self, base: Variant, gold: GoldSet, *, small_model: bool) -> None:
        """The given labels and the small model, held against gold as if they were judges."""
        prepared, rows = base.prepared, gold.rows
        nothing = np.full(len(rows), np.nan)
        self._answers[GIVEN] = Answers(prepared.given[rows], nothing)
        if small_model:
            labels, belief = base.predicted.labels, nothing
            if is_one_choice(prepared.task):
                belief = base.predicted.quality_of(labels)[rows].astype(np.float64)
            self._answers[MODEL] = Answers(labels[rows], belief)

    def _ask(
        self, variant: Variant, gold: GoldSet, anchoring: int, *, several: bool
    ) -> dict[str, Any] | None:
        with asyncio.Runner() as loop:
            desk = open_desk(variant, self._folder, loop, self._progress)
            try:
                asks = desk.label_asks(gold.rows)
                title = f"{len(gold.rows):,} items with gold"
                verdicts = desk.put(asks, title + (f", {variant.name}" if several else ""))
                for judge in desk.judges:
                    name = f"{judge.name}, {variant.name}" if several else judge.name
                    theirs = {
                        ask.id: verdicts[ask.ask_id] for ask in asks if ask.judge == judge.name
                    }
                    self._keep(desk, gold, name, theirs)
                    if not judge.is_llm:
                        self._took[name]["calls"] = 0
                return run_arms(desk, gold, anchoring) if anchoring else None
            finally:
                loop.run(desk.judges.aclose())

    def _keep(
        self, desk: VariantAsker, gold: GoldSet, name: str, verdicts: Mapping[str, Verdict]
    ) -> None:
        prepared = desk.variant.prepared
        ids = prepared.dataset.ids
        wanted = [ids[row].as_py() for row in gold.rows.tolist()]
        # By the gold's own task: a variant may list the labels in another order.
        answers, took = answers_of(gold.task, wanted, verdicts)
        self._answers[name], self._took[name] = answers, took
        hits = right(gold.truth, answers)
        for place, item_id in enumerate(wanted):
            verdict = verdicts[item_id]
            self._lines.append({
                "id": item_id, "judge": name, "label": verdict.answer,
                "confidence": verdict.confidence, "rationale": verdict.rationale,
                "outcome": verdict.outcome, "reason": verdict.reason,
                "gold": label_json(gold.truth[place]), "right": bool(hits[place]),
                "prompt_sha256": verdict.prompt_sha256,
            })  # fmt: skip

    def _conclude(self, prepared: Prepared, gold: GoldSet, arms: Mapping[str, Any]) -> Agreement:
        with self._progress.step("Figures"):
            compared = compare(prepared.task, gold, self._answers, seed=prepared.job.seed)
        for name, took in self._took.items():
            compared["judges"][name]["took"] = took
        section = prepared.job.judge
        figures = {
            "at": now(),
            "items": len(gold.rows),
            "rows": len(prepared.dataset),
            "classes": list(prepared.task.names),
            "exclusive": is_one_choice(prepared.task),
            "evidence": section.evidence,
            **described(prepared.task.measure),
            "warnings": [
                *prepared.warnings,
                *gold.warnings,
                *constant_judges(prepared.task, gold.truth, self._answers),
            ],
            **compared,
            **({"anchoring": dict(arms)} if arms else {}),
            "identity": prepared.identity(),
            "versions": versions(),
        }
        figures["conclusion"] = conclusion(figures)
        write_lines(self._folder / writing.ANSWERS, self._lines)
        writing.write(self._folder, figures)
        return Agreement(self._folder, figures)
