"""From `--writer MODEL` to a writer, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from llm_relabel.config.job import Job
from llm_relabel.config.judges import WITHOUT_LLM, JudgeMember, Prices
from llm_relabel.errors import JobError
from llm_relabel.evaluation.asking import further_member
from llm_relabel.files.journal import Journal
from llm_relabel.judge.cache import VerdictCache
from llm_relabel.judge.chat import ChatProvider
from llm_relabel.judge.opening import priced
from llm_relabel.judge.providers.opening import open_provider
from llm_relabel.tune.asking import Desk
from llm_relabel.tune.pairs import Miss
from llm_relabel.tune.pool import Pool
from llm_relabel.tune.rewrite import Writer


def open_writer(
    job: Job, model: str, desk: Desk, journal: Journal, pool: Pool, *,
    text_of: Callable[[Miss], str], id_of: Callable[[int], str], forbidden: Collection[str],
    note: Callable[[str], None], cache: Path, instruction: bool,
) -> Writer:  # fmt: skip
    """The writer that `model` names; it spends from the desk's budget. Raises JobError."""
    provider, member, prices = member_of(job, model)
    return Writer(
        provider, member, prices,
        budget=desk.budget, cache=VerdictCache(cache) if job.judge.cache else None,
        journal=journal, pool=pool, text_of=text_of, id_of=id_of, forbidden=forbidden,
        run=desk.run, note=note, instruction=instruction,
    )  # fmt: skip


def member_of(job: Job, model: str) -> tuple[ChatProvider, JudgeMember, Prices | None]:
    """The provider of `model`, asked as the job's judge of the same one. Raises JobError."""
    section = job.judge
    known = dict(zip(section.member_names, section.members, strict=True))
    member = known.get(model) or further_member(model, section.members)
    if member.provider in (*WITHOUT_LLM, "hf"):
        raise JobError(
            f"--writer {model!r} cannot write: name a chat model such as openai/NAME or "
            "anthropic/NAME, or `none`"
        )
    return open_provider(member, job.folder), member, priced(member, section)
