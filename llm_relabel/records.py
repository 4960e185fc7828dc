"""The frozen records that flow from stage to stage. They hold data and know no stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from llm_relabel.images import ImagePart
from llm_relabel.units import LabelValue

Role = Literal["system", "user", "assistant"]
Evidence = Literal["referenced", "blind"]
Outcome = Literal["answer", "abstain", "failed"]
AbstainOrFailure = Literal["none_fits", "unsure", "refused", "invalid", "transport", "not_recorded"]
Action = Literal["keep", "replace", "abstain", "failed", "review"]
Purpose = Literal["label", "panel", "sample", "escalation", "control", "anchoring"]
ControlKind = Literal["repeat", "confirmed", "planted"]
Source = Literal["judge", "model", "fused", "human"]


@dataclass(frozen=True, slots=True)
class Item:
    """What a judge may see of one row. `fields` maps column name to text, in shown order.

    `words` are where the words of the first field begin and end, where it came as words. `picture`
    opens its picture (`data.pictures.Picture`). `anchor` is its given label as the dataset holds
    it, which is never shown: what a judge leaves open stays like it. `posed` is what an answer
    speaks of by number.
    """

    id: str
    row: int
    fields: Mapping[str, str]
    words: tuple[tuple[int, int], ...] | None = None
    picture: Any = None
    anchor: Any = None
    posed: Any = None


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """One row that a judge is asked about. `label_quality` is in 0..1, LOWER is worse.

    Flagged are those whose reason is one of the first three; the others nobody doubted: they were
    `drawn` at random, or the run `extended` to them.
    """

    row: int
    id: str
    given_label: LabelValue
    current_label: LabelValue
    predicted_label: LabelValue
    label_quality: float
    reason: Literal["disagreement", "low_quality", "missing", "drawn", "extended"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of a message."""

    text: str

    def __str__(self) -> str:
        return self.text


Part: TypeAlias = TextPart | ImagePart


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One chat message. The system message comes first and never changes within a job.

    Only a user's message can show images, for no provider takes them elsewhere. Its text speaks
    of them by their number: some are sent all images first, whatever their place here.
    """

    role: Role
    content: tuple[Part, ...]

    def __init__(self, role: Role, content: str | Iterable[Part]) -> None:
        """`content` is parts, or mere text."""
        parts = (TextPart(content),) if isinstance(content, str) else tuple(content)
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "content", parts)
        if role != "user" and self.images:
            raise ValueError(f"only a user's message can show images, and this is of {role!r}")

    def __str__(self) -> str:
        """The message for a person's eyes, with a line in the place of each image."""
        return "\n".join(map(str, self.content))

    @property
    def text(self) -> str:
        """All of its text."""
        first = self.content[0] if len(self.content) == 1 else None
        if isinstance(first, TextPart):
            return first.text
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """Its images, in order."""
        return tuple([part for part in self.content if isinstance(part, ImagePart)])


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts as the provider reported them.

    `input` is all input; of it the provider had `cached` tokens already, and put `written`
    tokens into its cache.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.written + other.written,
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """One planned question to one judge. `candidates` are the label values in shown order.

    `wave` counts from 0; a wave is planned from completed waves only. `control` is set where
    the question checks the judge and decides nothing; `control_label` is then the label that a
    person confirmed, or the wrong one that was planted among the candidates.
    """

    ask_id: str
    id: str
    row: int
    purpose: Purpose
    evidence: Evidence
    candidates: tuple[LabelValue, ...]
    judge: str
    repeat: int = 0
    wave: int = 0
    control: ControlKind | None = None
    control_label: LabelValue = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge answer, or why there is none.

    `answer` is the task's label value as JSON (None unless `outcome` is "answer");
    `confidence` is the judge's own belief in 0..1 or None; `reason` is set when there is no
    answer. `cost` is in US dollars, None when no price is known. `cached` says nothing was paid.
    `calls` counts attempts put to the judge, re-asks and retries included. `seconds` is the
    time the provider took for the answer, None where it was not measured. `repaired`: the answer
    was taken out of a wrapping that was not asked for.
    """

    ask_id: str
    id: str
    outcome: Outcome
    answer: Any = None
    confidence: float | None = None
    rationale: str = ""
    reason: AbstainOrFailure | None = None
    prompt_sha256: str | None = None
    tokens: Tokens = field(default_factory=Tokens)
    cost: float | None = None
    cached: bool = False
    calls: int = 1
    seconds: float | None = None
    error: str | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What happened to one unit of one flagged item; `old` and `new` are the unit's JSON values."""

    id: str
    row: int
    unit: str
    action: Action
    old: Any
    new: Any
    source: Source
    confidence: float | None
    why: str
    ask_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One unit whose value changed, and why. A rollback is a change back (`kind`)."""

    id: str
    unit: str
    round: int
    old: Any
    new: Any
    source: str
    why: str
    ask_ids: tuple[str, ...]
    judge: str | None
    prompt_sha256: str | None
    definitions_sha256: str
    policy: str
    kind: Literal["change", "rollback"] = "change"
