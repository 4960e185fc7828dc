"""From a judge section to the batch API that answers it."""

from __future__ import annotations

import os
from pathlib import Path

from llm_relabel.config.judges import JudgeMember
from llm_relabel.judge.batch.api import BatchApi
from llm_relabel.judge.providers.keys import resolve_key


def open_batch_api(section: JudgeMember, folder: Path) -> BatchApi:
    """The batch API of `section.model`'s provider; `folder` is the job file's. Raises JobError."""
    key = resolve_key(section, folder, os.environ)
    if section.provider == "openai":
        from llm_relabel.judge.batch.openai import OpenAIBatches

        return OpenAIBatches(section, key)
    from llm_relabel.judge.batch.anthropic import AnthropicBatches

    return AnthropicBatches(section, key)
