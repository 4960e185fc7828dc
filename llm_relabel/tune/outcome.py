"""What a tuning may do, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm_relabel.tune.guideline import FIELDS
from llm_relabel.tune.search import Found
from llm_relabel.tune.split import SHARES

MAX_CALLS = 1200


@dataclass(frozen=True)
class Settings:
    """What one tuning may do. `writer` is a model, None: no LLM writes. `labels` empty: all."""

    writer: str | None = None
    max_calls: int = MAX_CALLS
    change: tuple[str, ...] = FIELDS
    labels: tuple[str, ...] = ()
    copy: bool = False
    alpha: float = 0.05
    shares: tuple[float, float, float] = SHARES
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """As `tune.json` holds it."""
        return {
            "writer": self.writer or "none", "max_calls": self.max_calls,
            "change": list(self.change), "labels": list(self.labels),
            "copy": "examples" if self.copy else "none", "alpha": self.alpha,
            "split": "/".join(f"{100 * share:g}" for share in self.shares), "seed": self.seed,
        }  # fmt: skip


@dataclass
class Tested:
    """The one test: what the tuned guideline fixed and broke on items that nobody had seen."""

    items: int
    fixed: int
    broken: int
    right_before: int
    right_after: int
    lost: int
    p: float
    alpha: float
    look: int
    fell: list[dict[str, Any]] = field(default_factory=list)

    @property
    def proved(self) -> bool:
        """Whether chance alone is ruled out."""
        return self.p <= self.alpha


@dataclass
class Outcome:
    """What a tuning found. `status` is proved, not proved, nothing found, proposals only, or
    stopped early; `told` says it in words. `form` is a form of the prompt that served better.
    """

    status: str
    told: str
    found: Found
    searches: list[Found]
    tested: Tested | None
    questions: int
    form: str | None = None
    advice: list[dict[str, Any]] = field(default_factory=list)
    suspects: list[dict[str, Any]] = field(default_factory=list)
