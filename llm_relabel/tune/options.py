"""The command line's words as settings of a tuning."""

from __future__ import annotations

from llm_relabel.config.judges import share_of
from llm_relabel.errors import JobError
from llm_relabel.tune.outcome import Settings
from llm_relabel.tune.split import parse_shares


def settings_of(
    *, writer: str, max_calls: int, change: str, labels: str | None, copy: str, alpha: str,
    split: str, seed: int,
) -> Settings:  # fmt: skip
    """Settings as the options of `tune` write them. Raises JobError."""
    share = share_of(alpha)
    if isinstance(share, str):
        try:
            share = float(share)
        except ValueError:
            share = None
    if not isinstance(share, float) or not 0 < share < 0.5:
        raise JobError(f"--alpha {alpha!r}: expected a share above 0 and below 50%, such as 5%")
    return Settings(
        writer=None if writer == "none" else writer, max_calls=max_calls,
        change=tuple(part.strip() for part in change.split(",") if part.strip()),
        labels=tuple(part.strip() for part in (labels or "").split(",") if part.strip()),
        copy=copy == "examples", alpha=share, shares=parse_shares(split), seed=seed,
    )  # fmt: skip
