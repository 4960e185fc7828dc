"""From a judge section to the provider that answers it; only that provider's SDK is imported."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from llm_relabel.config.judges import WITHOUT_LLM, JudgeMember
from llm_relabel.errors import JobError
from llm_relabel.judge.chat import ChatProvider
from llm_relabel.judge.providers.keys import redirect_warnings, resolve_key

log = logging.getLogger(__name__)


def open_provider(section: JudgeMember, folder: Path) -> ChatProvider:
    """The provider of `section.model`, its key resolved; `folder` is the job file's.

    Nothing is sent. Raises JobError when the model, the key or the address is wrong.
    """
    provider = section.provider
    if provider == "hf":
        from llm_relabel.judge.providers.hf import HFProvider

        return HFProvider(section, folder)
    if provider in WITHOUT_LLM:
        raise JobError(f"judge.model {section.model!r} is not a chat provider")
    key = resolve_key(section, folder, os.environ)
    for warning in redirect_warnings(section, os.environ):
        log.warning(warning)
    if provider == "openai":
        from llm_relabel.judge.providers.openai import OpenAIProvider

        return OpenAIProvider(section, key)
    if provider == "anthropic":
        from llm_relabel.judge.providers.anthropic import AnthropicProvider

        return AnthropicProvider(section, key)
    from llm_relabel.judge.providers.litellm import LitellmProvider

    return LitellmProvider(section, key, folder)
