"""`cancel RUN`: stop what a provider's batch API still holds of a run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llm_relabel.judge.batch import cancel_batches
from llm_relabel.judge.batch.opening import open_batch_api
from llm_relabel.run_folder.folder import RunFolder


def cancel_run(path: Path) -> str:
    """Cancel every batch of the run that has not ended; says what was done, in words.

    Answers that were made before the cancellation are paid, and the next `run` takes them.
    Raises RunError when `path` is no run folder, RunLocked while a process works in it.
    """
    run = RunFolder(path)
    job = run.as_job()
    told: list[str] = []

    async def cancel_all() -> None:
        for name, member in zip(job.judge.member_names, job.judge.members, strict=True):
            if not member.batch:
                continue
            api = open_batch_api(member, job.folder)
            try:
                told.extend(await cancel_batches(api, path, judge=name))
            finally:
                await api.aclose()

    with run.held():
        asyncio.run(cancel_all())
    return "\n".join(told) or "Nothing to cancel: no provider holds a batch of this run."
