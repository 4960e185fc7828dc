"""Any other `PROVIDER/NAME`: litellm's own naming, for the providers without an SDK file here.

litellm costs four times the CPU of an SDK and seconds to import, so it is imported when the
first such judge is opened and not before.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import (
    AccessDenied,
    CallTimedOut,
    ContentRefused,
    JobError,
    ProviderError,
    RequestRejected,
    TransientError,
    Unreachable,
)
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.providers.faults import error_for_status, scrub, scrub_chain
from llm_relabel.judge.providers.keys import Key, endpoint, read_dotenv
from llm_relabel.judge.providers.wire import AnswerFormat, causes, chat_content, within

# They sign with credentials found on the machine, and no api_key argument takes their place.
AMBIENT_CREDENTIALS = frozenset(
    (
        *("bedrock", "bedrock_mantle", "sagemaker", "sagemaker_chat", "sagemaker_nova"),
        *("vertex_ai", "vertex_ai_beta", "oci", "watsonx", "watsonx_text", "snowflake", "sap"),
        *("github_copilot", "chatgpt", "gigachat"),
    )
)

_REFUSED_CONNECTIONS = frozenset({"ConnectError", "ClientConnectorError"})

# Where a provider's variables do not begin with its own name.
_STEMS = {
    "bedrock": ("AWS_",),
    "sagemaker": ("AWS_",),
    "vertex_ai": ("VERTEX", "GOOGLE_"),
    "gemini": ("GEMINI_", "GOOGLE_"),
    "huggingface": ("HUGGINGFACE_", "HF_"),
    "together_ai": ("TOGETHER",),
}

# By name, before the status is looked at: litellm gives some classes a status of its own making.
_OTHERS: dict[str, type[ProviderError]] = {
    "Timeout": CallTimedOut,
    "APIConnectionError": Unreachable,
    "APIResponseValidationError": TransientError,
    "ContentPolicyViolationError": ContentRefused,
    "GuardrailRaisedException": ContentRefused,
    "BlockedPiiEntityError": ContentRefused,
    "ModifyResponseException": ContentRefused,
    "SensitiveDataRouteException": ContentRefused,
    "PaymentRequiredError": AccessDenied,
    "BudgetExceededError": AccessDenied,
    "ModelNotMappedError": RequestRejected,
    "OpenAIError": RequestRejected,
}


class LitellmProvider:
    """One model through litellm. It makes single attempts."""

    def __init__(self, section: JudgeMember, key: Key | None, folder: Path) -> None:
        self.name = section.model
        self.provider = section.provider
        self.model = section.name
        self.base_url = endpoint(section)
        self._key = key
        self._secrets = key.secrets if key else ()
        if self.base_url is not None and self.provider in AMBIENT_CREDENTIALS:
            raise JobError(
                f"judge.base_url cannot be used with {self.provider!r}: it would send the "
                "machine's own credentials there; leave it out, or use openai/NAME for a "
                "compatible server"
            )
        self._format = AnswerFormat(bounds=False)
        self._litellm = load_litellm()
        if key is None:
            self._secrets = find_credentials(section, folder, os.environ, self._litellm)

    async def complete(self, request: ChatRequest, *, timeout: float) -> Completion:
        """One attempt. Raises a ProviderError, nothing else."""
        return await within(self._complete(request, timeout), timeout, self.name)

    async def aclose(self) -> None:
        """Close the connections that litellm keeps for the whole process."""
        await self._litellm.close_litellm_async_clients()
        # Closed clients left in its cache would serve the next judge of this process.
        self._litellm.in_memory_llm_clients_cache.flush_cache()

    def arguments(self, request: ChatRequest) -> dict[str, Any]:
        """What litellm is called with, but for the timeout."""
        arguments: dict[str, Any] = {
            "model": self.name,
            "messages": [
                {"role": message.role, "content": chat_content(message)}
                for message in request.messages
            ],
            "max_tokens": request.max_output_tokens,
            "num_retries": 0,
            "max_retries": 0,
            **request.params,
        }
        if request.schema is not None:
            arguments["response_format"] = self._format.of(request.schema)
        if self._key is not None:
            # Given explicitly, also as a dummy: litellm would look up a key of its own.
            arguments["api_key"] = self._key.value
        if self.base_url is not None:
            arguments["api_base"] = self.base_url
        return arguments

    async def _complete(self, request: ChatRequest, timeout: float) -> Completion:
        from llm_relabel.judge.providers.openai import read_completion

        started = time.perf_counter()
        try:
            response = await self._litellm.acompletion(**self.arguments(request), timeout=timeout)
        # A hundred providers' code lies behind this one call, and what it raises is not always
        # one of litellm's own classes.
        except Exception as exc:
            scrub_chain(exc, self._secrets)
            found = translate(exc, self.name, self._secrets)
            raise found or RequestRejected(
                f"{self.name}: {type(exc).__name__}: {scrub(str(exc), self._secrets)}"
            ) from exc
        return read_completion(
            response.model_dump(),
            who=self.name,
            headers={},
            secrets=self._secrets,
            seconds=time.perf_counter() - started,
        )


def load_litellm() -> Any:
    """litellm, quiet and offline.

    Without the two variables it reads every `.env` into the environment and fetches its
    price table when it is imported.
    """
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm: Any = importlib.import_module("litellm")
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for logger in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    return litellm


def find_credentials(
    section: JudgeMember, folder: Path, environ: MutableMapping[str, str], litellm: Any
) -> tuple[str, ...]:
    """Give litellm what the `.env` files hold for this provider, and check that a key is there.

    litellm reads credentials from the process's environment only, so these few variables
    are the one thing that is exported; what is set already stays. Returns the secrets.
    Raises JobError when the provider needs a key and has none.
    """
    stems = _STEMS.get(section.provider, (section.provider.split("_")[0].upper() + "_",))
    missing = list(litellm.validate_environment(model=section.model)["missing_keys"])
    for _, values in read_dotenv(folder):
        for name, value in values.items():
            # An address is taken from a file only where the provider cannot do without one.
            address = name.endswith(("_API_BASE", "_BASE_URL")) and name not in missing
            if value and not address and (name in missing or name.startswith(stems)):
                environ.setdefault(name, value)
    ours = [name for name in environ if name in missing or name.startswith(stems)]
    secrets = {name: environ[name] for name in ours if name.endswith(("KEY", "TOKEN", "SECRET"))}
    still = [name for name in missing if not environ.get(name)]
    # A machine's own role may stand in for other credentials than a plain key.
    plain = still and all(name.endswith(("_API_KEY", "_TOKEN")) for name in still)
    if plain and not any(secrets.values()):
        raise JobError(
            f"{section.model} needs a key: set the environment variable {' or '.join(still)}, or "
            f"write it into {folder / '.env'}"
        )
    return tuple(secret for secret in secrets.values() if len(secret) >= 8)


def translate(exc: Exception, who: str, secrets: tuple[str, ...]) -> ProviderError | None:
    """Our error for one of litellm's, None for a class that nobody has thought about yet."""
    kind = type(exc)
    message = f"{who}: {scrub(str(exc), secrets)}"
    if kind.__name__ == "UnsupportedParamsError":
        return RequestRejected(
            f"{message}; take a parameter out with `params: {{NAME: null}}`, or ask for the "
            "answer in words with `structured_output: prompt`"
        )
    for known in kind.__mro__:
        if known.__module__.startswith("litellm") and known.__name__ in _OTHERS:
            return _may_be_billed(_OTHERS[known.__name__](message), exc)
    if any(type(cause).__name__ in _REFUSED_CONNECTIONS for cause in causes(exc)):
        return Unreachable(message)
    status = getattr(exc, "status_code", None)
    if isinstance(status, int) and status < 300:
        # An answer came, and litellm could not read it.
        return TransientError(message, may_be_billed=True)
    if isinstance(status, int):
        return error_for_status(
            status,
            who=who,
            body=getattr(exc, "body", None) or str(exc),
            headers=_headers(exc),
            secrets=secrets,
        )
    return None


def _may_be_billed(error: ProviderError, exc: Exception) -> ProviderError:
    """A connection that was made and then lost may have carried a whole request."""
    if isinstance(error, Unreachable):
        refused = any(type(cause).__name__ in _REFUSED_CONNECTIONS for cause in causes(exc))
        error.may_be_billed = not refused
    return error


def _headers(exc: Exception) -> Mapping[str, str]:
    """The answer's headers, in lower case; litellm keeps them in one of two places."""
    response = getattr(exc, "response", None)
    found = getattr(exc, "litellm_response_headers", None) or getattr(response, "headers", None)
    return {str(name).lower(): str(value) for name, value in dict(found or {}).items()}
