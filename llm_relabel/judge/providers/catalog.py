"""Facts about models, from the table that litellm carries: prices and what a model accepts.

The table is read as a file. Importing litellm takes seconds and reaches for the network.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import JobError
from llm_relabel.judge.providers.keys import KEYLESS_PROVIDERS, is_custom

TABLE_FILE = "model_prices_and_context_window_backup.json"
SDK_PROVIDERS = ("openai", "anthropic")

# What we write ourselves; a job that set it would break the answer, the bill or the key rules.
RESERVED_PARAMS = frozenset(
    (
        *("model", "messages", "system", "stream", "n", "response_format"),
        *("max_tokens", "max_completion_tokens"),
        *("tools", "tool_choice", "functions", "function_call"),
        *("api_key", "api_base", "base_url", "organization", "custom_llm_provider"),
        *("headers", "extra_headers", "extra_query", "extra_body"),
        *("timeout", "request_timeout", "max_retries", "num_retries", "fallbacks"),
        "mock_response",
    )
)


@cache
def table() -> Mapping[str, Mapping[str, Any]]:
    """Model name to facts; empty when litellm's table cannot be found."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(next(iter(spec.submodule_search_locations))) / TABLE_FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: facts for name, facts in entries.items() if isinstance(facts, dict)}


def facts_of(section: JudgeMember) -> Mapping[str, Any] | None:
    """The table's entry for this judge's model, None when it has none.

    The table spells some models with their provider and some without, so a bare name
    counts only when its entry belongs to this provider.
    """
    if section.provider in KEYLESS_PROVIDERS:
        return None
    names = [section.model, section.name]
    if section.name.startswith("ft:"):
        # ft:BASE:ORG::ID is priced as ft:BASE.
        names.append(":".join(section.name.split(":")[:2]))
    for name in names:
        facts = table().get(name)
        if facts is None:
            continue
        owner = str(facts.get("litellm_provider", ""))
        if name == section.model or owner == section.provider:
            return facts
        # `bedrock_converse`, `cohere_chat`, `vertex_ai-language-models` and the like.
        if section.provider not in SDK_PROVIDERS and owner.startswith(section.provider):
            return facts
    return None


def supports_temperature(section: JudgeMember) -> bool:
    """Whether a temperature may be sent: reasoning models refuse the whole request for it.

    Servers of one's own take one. A model that the table does not know, at OpenAI's or
    Anthropic's own endpoint, is newer than the table, and there the newer ones refuse it.
    """
    if is_custom(section) and section.provider in SDK_PROVIDERS:
        return True
    facts = facts_of(section)
    if facts is None:
        return section.provider not in SDK_PROVIDERS
    if "supports_sampling_params" in facts:
        return bool(facts["supports_sampling_params"])
    # Elsewhere a reasoning model takes a temperature; OpenAI's do not.
    openai_made = section.provider in ("openai", "azure")
    return not (openai_made and facts.get("supports_reasoning"))


def sampling_params(section: JudgeMember, *, sampled: bool = False) -> dict[str, Any]:
    """What goes into every request: temperature 0 where it is accepted, then the job's `params`.

    `sampled` leaves the temperature to the provider: repeats at 0 would say the same again.
    A null in `params` takes a default away. Raises JobError for a parameter that we write.
    """
    taken = sorted(RESERVED_PARAMS.intersection(section.params))
    if taken:
        raise JobError(
            f"judge.params may not set {', '.join(map(repr, taken))}: llm_relabel writes these "
            "itself, from judge.max_output_tokens, base_url, timeout and the answer's schema"
        )
    cold = supports_temperature(section) and not sampled
    params: dict[str, Any] = {"temperature": 0} if cold else {}
    params.update(section.params)
    return {name: value for name, value in params.items() if value is not None}
