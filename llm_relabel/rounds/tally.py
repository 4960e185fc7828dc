"""One round's counts and facts, as `summary.json` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_relabel.audit.run_checks import SpotCheckFacts
from llm_relabel.measure import title, told

COUNTS = (
    "flagged", "judged", "replaced", "kept", "abstained", "failed", "deferred", "revised", "frozen",
)  # fmt: skip


@dataclass(frozen=True)
class SourceFacts:
    """What the sources are believed to be worth.

    `accuracy_believed` is how often each is right, 0..1, without a guarantee; `model_weight` above
    1 says that the small model was too modest; `spot_checks_to_settle` foresees how many would
    certify the labels, where none did. `believed_before` and `believed_after` are the mean belief,
    0..1, in the labels as they came and as the round leaves them, a missing one believed 0: what
    the sources make each other believe, and no measurement. `view` is whose small model explained
    best what all said, `lean` (log-odds) how much the texts vouch for the verdicts where they
    differ from the given labels, below 0 for the given labels, None where too little is known.
    """

    accuracy_believed: Mapping[str, float]
    model_weight: float
    believed_before: float
    believed_after: float
    view: str = "current"
    lean: float | None = None
    doubts: tuple[str, ...] = ()
    spot_checks: SpotCheckFacts | None = None
    spot_checks_to_settle: int | None = None
    foreseen: bool = False

    def as_json(self) -> dict[str, Any]:
        """As a round of `summary.json` has it."""
        return {
            "accuracy_believed": dict(self.accuracy_believed),
            "model_weight": self.model_weight,
            "believed": {"before": self.believed_before, "after": self.believed_after},
            "view": self.view,
            "lean": self.lean,
            "doubts": list(self.doubts),
            **({"spot_checks": self.spot_checks.as_json()} if self.spot_checks else {}),
            **({"spot_checks_to_settle": self.spot_checks_to_settle} if self.foreseen else {}),
        }


@dataclass(frozen=True)
class RoundTally:
    """Counts are items, not asks: `judged` is the sum of the four after it.

    `deferred` were flagged and not judged: over the budget, or nothing a verdict could change.
    `revised` were changed by the evidence as a whole, without a verdict in this round; `frozen`
    came back to a label they had left, and are not touched again. `beyond` counts what was judged
    beyond the flagged, `drawn` at random and `extended` to, with `why` no more. `reasons` say why
    verdicts abstained or failed.

    `model` are the small model's own figures: what it is, its score on `data.dev`; `dev_after` that
    score on the labels after the round. `stopped` is why no further call was worth it. `gold`,
    where it is known: the labels' measure after the round, how good the flags were. `rolled_back`
    is why the round was taken back.
    """

    number: int
    flagged: int = 0
    judged: int = 0
    replaced: int = 0
    kept: int = 0
    abstained: int = 0
    failed: int = 0
    deferred: int = 0
    revised: int = 0
    frozen: int = 0
    beyond: Mapping[str, Any] | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    stopped: Mapping[str, Any] | None = None
    sources: SourceFacts | None = None
    controls: Mapping[str, Any] | None = None
    dev_after: float | None = None
    rolled_back: str | None = None
    gold: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> str:
        """The round in one line."""
        text = (
            f"Round {self.number}: {self.flagged:,} flagged, {self.judged:,} judged: "
            f"{self.replaced:,} replaced, {self.kept:,} kept, {self.abstained:,} abstained, "
            f"{self.failed:,} failed"
        )
        if self.beyond is not None:
            text += f"; of the judged {self.beyond['drawn']:,} drawn at random"
            if self.beyond.get("extended"):
                text += f" and {self.beyond['extended']:,} beyond them"
        if self.revised:
            text += f"; {self.revised:,} more changed without a new verdict"
        after = self.gold.get("labels_after")
        if after is not None:
            text += f"; {title(self.gold).lower()} now: {told(after, self.gold)}"
        return text

    def as_json(self) -> dict[str, Any]:
        """The round as `summary.json` holds it."""
        facts = {
            "beyond": self.beyond,
            "stopped": self.stopped,
            "sources": self.sources.as_json() if self.sources is not None else None,
            "controls": self.controls,
            "dev_after": self.dev_after,
            "rolled_back": self.rolled_back,
        }
        return {
            "round": self.number,
            **{name: getattr(self, name) for name in COUNTS},
            "reasons": dict(self.reasons),
            **self.model,
            **{name: value for name, value in facts.items() if value is not None},
            **({"gold": dict(self.gold)} if self.gold else {}),
        }
