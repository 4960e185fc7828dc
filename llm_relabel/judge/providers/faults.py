"""HTTP faults to our errors: one table of statuses for every provider.

The SDKs name the same statuses differently, so each provider's boundary reads the
status, the headers and the body off its own exception and asks here.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from llm_relabel.errors import (
    AccessDenied,
    ContentRefused,
    NoSuchModel,
    ProviderError,
    RateLimited,
    RequestRejected,
    SchemaRefused,
    TransientError,
)

MESSAGE_LIMIT = 600

# Code words are looked for in `code` and `type` only. A message is free text: OpenAI's plain
# rate limit mentions "billing", Gemini's "quota", and some servers repeat the item in it.
_NO_CREDIT_CODE = re.compile(
    r"insufficient_quota|insufficient_balance|billing|spend_limit|organization_on_hold"
    r"|account_deactivated|access_terminated",
    re.IGNORECASE,
)
_NO_CREDIT_MESSAGE = re.compile(r"credit balance is too low|insufficient balance", re.IGNORECASE)
_UNSAFE_CODE = re.compile(
    r"content_filter|content_policy|invalid_prompt|responsibleai|data_inspection|moderation",
    re.IGNORECASE,
)
_UNSAFE_MESSAGE = re.compile(
    r"content management policy|violating our (usage|content) policy|input was flagged"
    r"|rejected (by|as a result of) our safety system|content filtering policy",
    re.IGNORECASE,
)
_NO_MODEL_CODE = re.compile(
    r"model_not_found|invalid_model|unknown_model|deploymentnotfound", re.IGNORECASE
)
_NO_MODEL_MESSAGE = re.compile(
    r"\A.{0,120}?(\bmodel\b.{0,120}\b(does not exist|not found|is not available)"
    r"|is not a valid model|(unknown|no such|invalid) model\b)",
    re.IGNORECASE | re.DOTALL,
)
# What servers say of a parameter that they do not know, or of a schema that is too much for them.
_NO_SCHEMA = re.compile(
    r"response_format|json_schema|output_config|output_format|guided_json|structured.?output"
    r"|(invalid|unsupported|too complex|complex).{0,40}(schema|grammar)"
    r"|(schema|grammar).{0,60}(invalid|unsupported|not support|too (complex|large|many|deep)"
    r"|exceeds)|failed to (parse|initialize|compile).{0,20}(grammar|schema)",
    re.IGNORECASE | re.DOTALL,
)
# The 401 of some providers repeats the start and the end of the key that was sent.
_LOOKS_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]{4,}")
# Some servers repeat the request, and an image of it must not end in a journal.
_LOOKS_LIKE_AN_IMAGE = re.compile(
    r"(?<![A-Za-z0-9+/])(?:data:image/[\w.+-]+;base64,)?[A-Za-z0-9+/]{200,}={0,2}"
)
_HALF_HIDDEN = r"[\w-]*(?:\*|\.\.|…|•)[\w*.…•-]*"


def scrub(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets and what looks like a key or an image, in a line or two."""
    text = _LOOKS_LIKE_AN_IMAGE.sub("[base64]", without(text, secrets))
    text = " ".join(_LOOKS_LIKE_A_KEY.sub("sk-***", text).split())
    return text if len(text) <= MESSAGE_LIMIT else text[:MESSAGE_LIMIT] + " [cut]"


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets, whole or half hidden behind stars."""
    for secret in secrets:
        if secret and secret[:4] in text:
            text = text.replace(secret, "***")
            text = re.sub(re.escape(secret[:4]) + _HALF_HIDDEN, "***", text)
    return text


class Unlogged(logging.Filter):
    """Takes secrets out of what an SDK logs: at its debug level it shows what a server echoes."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = tuple(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes, its message and traceback as text without the secrets."""
        record.msg, record.args = without(record.getMessage(), self._secrets), ()
        if record.exc_info:
            told = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = without(told, self._secrets), None
        return True


def scrub_chain(exc: BaseException | None, secrets: Iterable[str]) -> None:
    """Take the secrets out of an exception and its causes, in place.

    Our errors keep the foreign one as their cause, so a printed traceback would
    otherwise show what a server echoed.
    """
    secrets = [secret for secret in secrets if secret]
    seen: set[int] = set()
    while secrets and exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        exc.args = tuple(_argument(arg, secrets) for arg in exc.args)
        # litellm's classes print their `message`, not their args.
        if isinstance(message := getattr(exc, "message", None), str):
            exc.message = scrub(message, secrets)  # type: ignore[attr-defined]
        exc = exc.__cause__ or exc.__context__


def _argument(argument: Any, secrets: list[str]) -> Any:
    """An exception's argument without the secrets; anything but text that shows one, as text."""
    if isinstance(argument, str):
        return scrub(argument, secrets)
    shown = repr(argument)
    return scrub(shown, secrets) if any(secret in shown for secret in secrets) else argument


def error_for_status(
    status: int,
    *,
    who: str,
    body: Any,
    headers: Mapping[str, str],
    secrets: Iterable[str] = (),
) -> ProviderError:
    """The error for an HTTP status that is not a success.

    `body` is the parsed JSON of the answer, or its text; `who` starts the message.
    """
    error = _error_for_status(status, who, body, headers, secrets)
    error.headers = headers
    return error


def _error_for_status(
    status: int, who: str, body: Any, headers: Mapping[str, str], secrets: Iterable[str]
) -> ProviderError:
    detail, codes = _read(body)
    message = f"{who} answered HTTP {status}: {scrub(detail, secrets) or 'no explanation'}"
    wait = retry_after(headers)
    advice = headers.get("x-should-retry", "").strip().lower()

    broke = _NO_CREDIT_CODE.search(codes) or _NO_CREDIT_MESSAGE.search(detail)
    unsafe = _UNSAFE_CODE.search(codes) or _UNSAFE_MESSAGE.search(detail)
    if status == 402 or (status in (400, 403, 429) and broke):
        return AccessDenied(f"{message}; add credit or raise the account's limit")
    if status in (400, 403, 422) and unsafe:
        return ContentRefused(message)
    if status in (401, 403):
        return AccessDenied(message)
    if status in (429, 529):
        return RateLimited(message, retry_after=wait)
    if status in (400, 422, 500, 501) and _NO_SCHEMA.search(detail[:MESSAGE_LIMIT]):
        return SchemaRefused(message)
    if status in (408, 409, 425, 499) or status >= 500 or advice == "true":
        if advice == "false":
            return RequestRejected(f"{message} (the provider says that a retry will not help)")
        return TransientError(message, retry_after=wait)
    missing = _NO_MODEL_CODE.search(codes) or _NO_MODEL_MESSAGE.search(detail)
    if status == 404 or (status in (400, 422) and missing):
        return NoSuchModel(
            f"{message}; check the model's name, and that base_url is the root the SDK expects"
        )
    if 300 <= status < 400:
        # Followed, a redirect would hand the key to a host that nobody named.
        message += "; redirects are not followed, write the final address in judge.base_url"
    return RequestRejected(message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the provider asks to wait, never negative; None when it does not say.

    `retry-after-ms` is the finer one and wins; `retry-after` is seconds or an HTTP date.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _read(body: Any) -> tuple[str, str]:
    """What to show of an error body, and its code words."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        return str(error or ""), ""
    shown = error.get("message") or error.get("detail") or dict(error)
    words = [error.get("code"), error.get("type")]
    # Azure and Anthropic keep the finer reason one level down.
    for inner in (error.get("innererror"), error.get("details")):
        if isinstance(inner, Mapping):
            words += [inner.get("code"), inner.get("error_code")]
    return str(shown), " ".join(str(word) for word in words if word)
