"""Stops what a provider still holds of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from llm_relabel.errors import Paused, ProviderError, TransientError
from llm_relabel.judge.batch.api import BatchApi
from llm_relabel.judge.batch.log import BatchLog, Submission, listed
from llm_relabel.judge.batch.search import Search, moment

TRIES = 4
FIRST_WAIT = 1.0


async def cancel_batches(api: BatchApi, folder: Path, *, judge: str) -> list[str]:
    """Cancel every batch of one judge of a run that has not ended; what was done, in words.

    What was answered by then is paid, and the next `run` collects it; that `run` also submits
    the rest again, so a cancelled job is left alone or given another configuration.
    A batch is cancelled only when it is certainly this run's. Raises Paused, with everything
    that was done, when the provider refuses.
    """
    log, told, refused = BatchLog(folder, judge), [], 0
    try:
        for submission in log.read({}):
            if submission.open:
                try:
                    told.append(await _patiently(api, log, submission))
                except ProviderError as error:
                    refused += 1
                    told.append(f"{_named(submission)} was NOT cancelled: {error}")
    finally:
        log.close()
    if refused:
        raise Paused("\n".join(told))
    return told


async def _cancel(api: BatchApi, log: BatchLog, submission: Submission) -> str:
    if submission.batch_id is None:
        found = await Search(api, log, submission).look()
        if found.batch is None:
            return _not_found(submission, [batch.batch_id for batch in found.suspects])
        log.submitted(submission, found.batch.batch_id)
    assert submission.batch_id is not None
    name = _named(submission)
    state = await api.state(submission.batch_id)
    if state.ended:
        return f"{name} has ended already; the next run collects what it holds"
    if submission.cancelled:
        return f"{name} is being cancelled already"
    await api.cancel(submission.batch_id)
    log.cancelled(submission)
    return (
        f"{name} is being cancelled; what was answered by now is paid, and the next run "
        "collects it and submits the rest again"
    )


def _not_found(submission: Submission, suspects: Sequence[str]) -> str:
    begun = f"{submission.judge}: of a submission begun at {moment(submission.at)}"
    if not suspects:
        return f"{begun} the provider lists nothing"
    return (
        f"{begun} it cannot be known yet whether it became {listed(suspects)}, which was NOT "
        f"cancelled: it has as many requests ({submission.total}), and may be somebody else's. If "
        "you know it to be this run's, cancel it in the provider's console"
    )


def _named(submission: Submission) -> str:
    return f"{submission.judge}: batch {submission.batch_id} ({submission.total} requests)"


async def _patiently(api: BatchApi, log: BatchLog, submission: Submission) -> str:
    for attempt in range(TRIES):
        try:
            return await _cancel(api, log, submission)
        except TransientError as error:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(max(FIRST_WAIT * 2.0**attempt, error.retry_after or 0.0))
    raise AssertionError("unreachable")
