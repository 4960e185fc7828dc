"""Puts the gold items to judges: one variant of the job for each prompt or set of definitions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from llm_relabel.config.job import Job
from llm_relabel.config.judges import PEOPLE, JudgeMember
from llm_relabel.errors import DefinitionsError, JobError, nearest
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.files import journal
from llm_relabel.judge.asking import ask_all
from llm_relabel.judge.opening import open_judges
from llm_relabel.judge.seam import Judge, Judges, RoundEvidence
from llm_relabel.prepared import Prepared, prepare
from llm_relabel.progress import Progress, unheard
from llm_relabel.records import Ask, LabelIssue, Verdict
from llm_relabel.rounds.ask import AskPlanner
from llm_relabel.run_folder.lines import verdict_line, verdict_of
from llm_relabel.units import column, differs, has_label, label_json

VERDICTS = "verdicts.jsonl"
OWN = "the job's own"


@dataclass(frozen=True)
class Variant:
    """The job as one prompt or one set of definitions makes it; `name` is the file's."""

    name: str
    prepared: Prepared
    predicted: Predicted


def job_to_evaluate(job: Job, judges: Sequence[str], recorded: Sequence[str]) -> Job:
    """The job with exactly the judges that shall be compared, each asked once about an item.

    `judges` name members of the job or further models; `recorded` are files of answers. Neither
    given, all members of the job are asked. Raises JobError.
    """
    section = job.judge
    known = dict(zip(section.member_names, section.members, strict=True))
    members = [known.get(name) or further_member(name, section.members) for name in judges]
    members += [JudgeMember(model=f"recorded/{_from_job(job, path)}") for path in recorded]
    if not members:
        members = list(section.members)
    if any(member.provider == PEOPLE for member in members):
        raise JobError(
            "the judge `people` cannot be asked by `eval`; name the judges to compare with "
            "--judge, and give people's answers as --recorded FILE (rows of `id` and `label`)"
        )
    first, *others = members
    own = {name: getattr(first, name) for name in JudgeMember.model_fields}
    panel = tuple(_plain(member) for member in others)
    changed = section.model_copy(
        update={**own, "panel": panel, "escalate": (), "samples": 1, "controls": None}
    )
    names = changed.member_names
    if len(set(names)) < len(names):
        raise JobError(f"a judge is named twice: {', '.join(names)}")
    return job.model_copy(update={"judge": changed})


def _plain(member: JudgeMember) -> JudgeMember:
    return JudgeMember.model_construct(
        **{name: getattr(member, name) for name in JudgeMember.model_fields}
    )


def _from_job(job: Job, path: str) -> str:
    """A path that starts where the user stands, as one that starts at the job file."""
    full = Path(path).expanduser().resolve()
    return str(full.relative_to(job.folder) if full.is_relative_to(job.folder) else full)


def further_member(model: str, members: Sequence[JudgeMember]) -> JudgeMember:
    """A judge that the job does not name: where and how to ask it is as for its provider's."""
    try:
        fresh = JudgeMember(model=model)
    except ValidationError as error:
        names = [member.model for member in members]
        told = "; ".join(str(each["msg"]).removeprefix("Value error, ") for each in error.errors())
        raise JobError(f"--judge {model!r}{nearest(model, names)}: {told}") from None
    for member in members:
        if member.provider == fresh.provider:
            return _plain(member).model_copy(update={"model": model, "prices": None})
    return fresh


def variant_of(base: Variant, path: Path, name: str) -> Variant:
    """The job with another prompt template (`.jinja`, or the name of a bundled form) or other
    definitions (`.yaml`).

    Raises JobError or DefinitionsError.
    """
    job, bundled = base.prepared.job, not path.suffix and not path.exists()
    path = path if bundled else path.resolve()
    if bundled or path.suffix in (".jinja", ".j2"):
        judge = job.judge.model_copy(update={"template": str(path)})
        return Variant(name, prepare(job.model_copy(update={"judge": judge})), base.predicted)
    if path.suffix not in (".yaml", ".yml"):
        raise JobError(
            f"--prompt {str(path)!r}: expected a template (.jinja) or label definitions (.yaml)"
        )
    prepared = prepare(job.model_copy(update={"labels": str(path)}))
    names, wanted = prepared.task.names, base.prepared.task.names
    if set(names) != set(wanted):
        differing = ", ".join(sorted(set(names) ^ set(wanted)))
        raise DefinitionsError(
            f"--prompt {str(path)!r} must define the same labels as the job; only one of them "
            f"defines {differing}"
        )
    found, task = base.predicted.predictions, prepared.task
    # A tuple of labels stands in the order of the definitions.
    labels = column(task.check(label_json(label)) for label in found.labels.tolist())
    predicted = Predicted(task, prepared.given, prepared.given, replace(found, labels=labels))
    return Variant(name, prepared, predicted)


class VariantAsker:
    """Asks the judges of one variant and keeps every verdict in the evaluation's folder."""

    def __init__(
        self, variant: Variant, judges: Judges, folder: Path, loop: asyncio.Runner,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.variant = variant
        self.judges = judges
        self._folder = folder
        self._loop = loop
        self._progress = progress
        section = variant.prepared.job.judge
        self._asked = _fingerprints(variant.prepared)
        # What an earlier process of this evaluation was answered, also where nothing is cached.
        self._earlier = {
            (line["asked"], line["ask_id"]): verdict_of(line)
            for line in journal.read_lines(folder / VERDICTS)
            if line["outcome"] != "failed"
        }
        self._deadline = None if section.deadline is None else time.monotonic() + section.deadline

    def label_asks(self, rows: NDArray[np.int64]) -> list[Ask]:
        """One question for each judge and row, with the evidence that the job names."""
        prepared = self.variant.prepared
        states = {
            judge.name: prepared.labels_sha256(prepared.given)
            for judge in self.judges
            if not judge.repeatable
        }
        planner = AskPlanner(prepared, 0, self.variant.predicted, states)
        issues = as_issues(prepared, self.variant.predicted, rows)
        return [
            planner.ask(issue, judge=judge.name, purpose="label")
            for judge in self.judges
            for issue in issues
        ]

    def _known(self, ask: Ask) -> Verdict | None:
        """The verdict of an earlier process. A file or a formula is simply asked again."""
        if not self.judges[ask.judge].is_llm:
            return None
        return self._earlier.get((self._asked[ask.judge], ask.ask_id))

    def put(self, asks: Sequence[Ask], title: str) -> dict[str, Verdict]:
        """The verdicts by ask id. Raises Paused; what came until then is kept."""
        prepared = self.variant.prepared
        by_judge: dict[str, list[Ask]] = {}
        for ask in asks:
            by_judge.setdefault(ask.judge, []).append(ask)
        found = {ask.ask_id: known for ask in asks if (known := self._known(ask)) is not None}
        by_judge = {
            name: left for name, theirs in by_judge.items()
            if (left := [ask for ask in theirs if ask.ask_id not in found])
        }  # fmt: skip
        predicted, given = self.variant.predicted.labels, prepared.given
        # As in a run: the rows that the small model does not doubt. None votes for itself.
        trusted = has_label(given) & ~differs(given, predicted)
        with (
            journal.Journal(self._folder / VERDICTS) as written,
            self._progress.step(title) as step,
        ):
            model = prepared.small_model(step)
            evidence = RoundEvidence(model, given, trusted, prepared.dataset.groups)

            judge_of = {ask.ask_id: ask.judge for ask in asks}

            def hear(verdict: Verdict) -> None:
                line = verdict_line(verdict)
                written.append({"asked": self._asked[judge_of[verdict.ask_id]], **line})
                found[verdict.ask_id] = verdict
                step(len(found), len(asks))

            pairs: list[tuple[Judge, Sequence[Ask]]] = []
            for name, theirs in by_judge.items():
                self.judges[name].begin_round(evidence, theirs)
                pairs.append((self.judges[name], theirs))
            self._loop.run(
                ask_all(
                    pairs,
                    prepared.dataset.item,
                    on_verdict=hear,
                    breakers=prepared.job.judge.breakers,
                    deadline=self._deadline,
                )
            )
        return found


def open_desk(
    variant: Variant, folder: Path, loop: asyncio.Runner, progress: Progress
) -> VariantAsker:
    """The judges of a variant, ready; what earlier processes paid in `folder` counts."""
    prepared = variant.prepared
    model = prepared.small_model(unheard)
    spent = sum(line.get("cost") or 0.0 for line in journal.read_lines(folder / VERDICTS))
    judges = open_judges(
        prepared.job, prepared.task, prepared.definitions,
        cache=prepared.cache, model=model, spent=spent, folder=folder,
    )  # fmt: skip
    return VariantAsker(variant, judges, folder, loop, progress)


def _fingerprints(prepared: Prepared) -> dict[str, str]:
    """For each judge a hash of everything but the item that decides its answer."""
    section = prepared.job.judge
    alike = {"model", "base_url", "structured_output", "params", "max_output_tokens"}
    return {
        name: hashlib.sha256(
            json.dumps([prepared.prompts.sha256, member.model_dump(mode="json", include=alike)],
                       sort_keys=True).encode()
        ).hexdigest()
        for name, member in zip(section.member_names, section.members, strict=True)
    }  # fmt: skip


def as_issues(
    prepared: Prepared, predicted: Predicted, rows: NDArray[np.int64]
) -> list[LabelIssue]:
    """Rows as issues, whether anybody doubts them or not, so that they are asked about alike."""
    return [
        LabelIssue(
            row=row, id=prepared.dataset.ids[row].as_py(), given_label=prepared.given[row],
            current_label=prepared.given[row], predicted_label=predicted.labels[row],
            label_quality=1.0, reason="low_quality",
        )
        for row in rows.tolist()
    ]  # fmt: skip


__all__: Sequence[str] = (
    "OWN",
    "VERDICTS",
    "Variant",
    "VariantAsker",
    "as_issues",
    "job_to_evaluate",
    "open_desk",
    "variant_of",
)  # fmt: skip
