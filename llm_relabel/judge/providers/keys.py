"""Which key goes to which judge, and nothing else.

A provider's own variable serves its own endpoint only. A custom `base_url` gets the key
that `api_key_env` names, or a dummy: never OPENAI_API_KEY by accident. Keys come from the
environment or a `.env` file, never from the job file, and are never exported.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import JobError

OFFICIAL_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
}
KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
KEYLESS_PROVIDERS = frozenset({"embedded", "recorded", "people", "hf"})
DUMMY = "none"

# Read by the SDKs behind our back. None of the first two groups is obeyed.
_REDIRECTS = {
    "openai": (
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "OPENAI_ORG_ID",
        "OPENAI_ORGANIZATION",
        "OPENAI_PROJECT_ID",
        "OPENAI_CUSTOM_HEADERS",
    ),
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"),
}
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Key:
    """A key and where it came from; its value is in no repr. `variable` is None for a dummy."""

    value: str = field(repr=False)
    variable: str | None = None
    source: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown: nothing for a dummy."""
        return (self.value,) if self.variable else ()


def is_custom(section: JudgeMember) -> bool:
    """Whether the calls go elsewhere than the provider's own endpoint."""
    if section.base_url is None:
        return False
    return section.base_url.strip().rstrip("/") != OFFICIAL_URLS.get(section.provider)


def endpoint(section: JudgeMember) -> str | None:
    """The base URL that calls go to; None when litellm or no network decides. Raises JobError."""
    if section.base_url is None:
        return OFFICIAL_URLS.get(section.provider)
    url = section.base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname
        hidden = parts.username is not None or parts.password is not None
        _ = parts.port
    except ValueError:
        wrong, hidden = True, False
    if hidden:
        # Not repeated: it holds a password.
        raise JobError(
            "judge.base_url holds a user name or password; put the key into an environment "
            "variable and name it in judge.api_key_env"
        )
    if wrong:
        raise JobError(
            f"judge.base_url {section.base_url!r} is not a web address; expected one like "
            "http://localhost:8000/v1"
        )
    return url


def is_private(url: str) -> bool:
    """Whether a URL's host is this machine or a private network's."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name without a dot resolves only inside a private network (compose services, hosts).
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))
    return address.is_private or address.is_loopback or address.is_link_local


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this very machine."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_own(url: str) -> bool:
    """Whether a URL's host is this machine or one of its own network, and no provider's."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))


def resolve_key(section: JudgeMember, folder: Path, environ: Mapping[str, str]) -> Key | None:
    """The one key that this judge may be sent, before anything is spent.

    None when there is no key to send (no network), or when litellm finds the
    provider's own. Raises JobError naming the variable that is missing and the fix.
    """
    if section.provider in KEYLESS_PROVIDERS:
        return None
    variable = section.api_key_env
    if variable is None:
        if is_custom(section):
            return Key(DUMMY)
        variable = KEY_VARIABLES.get(section.provider)
        if variable is None:
            return None
    elif not _is_variable_name(variable):
        # Not repeated: it may be the key itself.
        raise JobError(
            "judge.api_key_env must be the NAME of an environment variable, such as MY_KEY, "
            "not the key; what it holds does not look like a name"
        )
    key = find_key(variable, folder, environ)
    if key is None:
        raise JobError(
            f"{section.model} needs a key: the environment variable {variable} is not set, and no "
            f".env file beside the job or in the current folder has it. Run "
            f"`export {variable}=...`, or write a line {variable}=... into {folder / '.env'}"
        )
    return key


def find_key(variable: str, folder: Path, environ: Mapping[str, str]) -> Key | None:
    """`variable` from the environment, else the job's `.env`, else the current folder's."""
    sources: list[tuple[str, Mapping[str, str | None]]] = [("the environment", environ)]
    sources += read_dotenv(folder)
    for source, values in sources:
        value = (values.get(variable) or "").strip()
        if not value:
            continue
        if not value.isascii() or not value.isprintable():
            raise JobError(
                f"the key in {variable} (from {source}) holds characters that no key has; "
                "copy it again"
            )
        return Key(value, variable, source)
    return None


def read_dotenv(folder: Path) -> list[tuple[str, dict[str, str | None]]]:
    """The `.env` files beside the job and in the current folder, nearest first, not exported."""
    found: list[tuple[str, dict[str, str | None]]] = []
    for path in dict.fromkeys((folder.resolve() / ".env", Path.cwd() / ".env")):
        if not path.is_file():
            continue
        try:
            # No interpolation: a key may hold a dollar sign.
            found.append((str(path), dotenv_values(path, interpolate=False)))
        except (OSError, UnicodeDecodeError) as error:
            raise JobError(f"{str(path)!r} cannot be read: {error}") from error
    return found


def redirect_warnings(section: JudgeMember, environ: Mapping[str, str]) -> list[str]:
    """One sentence for each variable that would send an SDK elsewhere, or does."""
    if section.provider in KEYLESS_PROVIDERS:
        return []
    warnings = []
    url = endpoint(section)
    for variable in _REDIRECTS.get(section.provider, ()):
        if environ.get(variable):
            warnings.append(
                f"{variable} is set and NOT obeyed: calls go to {url} with the key of the job; "
                "set judge.base_url and judge.api_key_env to change that"
            )
    if section.provider not in OFFICIAL_URLS:
        own = section.provider.upper().replace("-", "_")
        for variable in (f"{own}_API_BASE", f"{own}_BASE_URL"):
            if environ.get(variable):
                effect = (
                    "NOT obeyed: judge.base_url is"
                    if section.base_url
                    else "obeyed by litellm: calls and their key go there"
                )
                warnings.append(f"{variable} is set and {effect}")
    if url is None or not is_loopback(url):
        for variable in _PROXIES:
            if environ.get(variable) or environ.get(variable.lower()):
                warnings.append(f"{variable} is set: calls go through that proxy")
    return warnings


def _is_variable_name(text: str) -> bool:
    """Whether `text` can be a variable's name and does not look like a pasted key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        return False
    return text.isupper() or len(text) < 20
