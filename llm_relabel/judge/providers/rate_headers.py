"""Rate-limit headers, as OpenAI (and those who copy it) and Anthropic send them.

Both describe token buckets: how much fits (`limit`), how much is left (`remaining`), and when
it will be full again (`reset`: OpenAI a duration such as `6m0s`, Anthropic a moment in RFC
3339). The refill rate follows: what is missing, over the time it takes to come back.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

# Header names by what they count. {} is limit, remaining or reset.
_NAMES = (
    ("requests", "x-ratelimit-{}-requests"),
    ("tokens", "x-ratelimit-{}-tokens"),
    ("requests", "anthropic-ratelimit-requests-{}"),
    ("input", "anthropic-ratelimit-input-tokens-{}"),
    ("output", "anthropic-ratelimit-output-tokens-{}"),
)
_HEADERS = tuple(
    (kind, *(name.format(part) for part in ("limit", "remaining", "reset")))
    for kind, name in _NAMES
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit as the provider sees it.

    `rate` is what comes back in a second, None where nothing is missing.
    """

    limit: float
    remaining: float
    rate: float | None


def read_rates(headers: Mapping[str, str]) -> dict[str, Rate]:
    """The limits that an answer's headers tell, by what they count; empty if they tell none."""
    found: dict[str, Rate] = {}
    for kind, limit_name, remaining_name, reset_name in _HEADERS:
        limit, remaining = _number(headers.get(limit_name)), _number(headers.get(remaining_name))
        if limit is None or remaining is None or not 0 <= remaining <= limit or limit <= 0:
            continue
        seconds = _seconds(headers.get(reset_name))
        missing = limit - remaining
        rate = missing / seconds if seconds and missing > 0 else None
        found[kind] = Rate(limit, remaining, rate)
    return found


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _seconds(text: str | None) -> float | None:
    """Seconds from now that a reset header means; None if it cannot be read or has passed."""
    if text is None:
        return None
    text = text.strip()
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    number = _number(text)
    if number is not None:
        return number if number > 0 else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    left = moment.timestamp() - time.time()
    return left if left > 0 else None
