"""The `judge` section of a job: who answers, how fast, for how much, and when to stop."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PEOPLE = "people"
WITHOUT_LLM = ("embedded", "recorded", PEOPLE)


def share_of(value: Any) -> Any:
    """`5%` as 0.05; anything else as it is. Raises ValueError for a share outside 0..100%."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*%\s*", value):
        value = float(value.strip().rstrip("% ")) / 100
        if not 0 < value <= 1:
            raise ValueError("a share must be above 0% and at most 100%")
    return value


class Section(BaseModel):
    """A mapping of the job file: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


class Prices(Section):
    """US dollars for one million tokens. A cached or cache-written input token that has no
    price of its own costs what other input costs."""

    input: float = Field(ge=0)
    """Of input tokens."""
    output: float = Field(ge=0)
    """Of output tokens."""
    cached_input: float | None = Field(default=None, ge=0)
    """Of input tokens that the provider read from its prompt cache."""
    cache_write: float | None = Field(default=None, ge=0)
    """Of input tokens that the provider wrote to its prompt cache."""


class JudgeMember(Section):
    """One judge: its endpoint, its parameters, its limits and its prices."""

    model: str
    """Who answers: see the topic `judges`."""
    base_url: str | None = None
    """A server of your own that speaks the provider's protocol. It gets no key but the one of
    `api_key_env`."""
    api_key_env: str | None = None
    """The environment variable whose key is sent to `base_url`."""
    structured_output: Literal["schema", "prompt"] = "schema"
    """`prompt`: the schema is written in the prompt, for servers that enforce none."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Sampling parameters as the provider names them, such as `{temperature: 0}`."""
    max_output_tokens: int = Field(default=1024, ge=16)
    """The longest answer."""
    concurrency: int = Field(default=32, ge=1, le=4096)
    """The most calls at once. Fewer are made while the provider says that it is too many."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """The provider's limit, where its headers do not tell it."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same, of all tokens."""
    input_tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same, of input tokens."""
    output_tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same, of output tokens."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds that one call may take."""
    prices: Prices | None = None
    """US dollars for a million tokens, where the price table lacks the model."""
    batch: bool = False
    """`true`: the provider's batch API (`openai/`, `anthropic/`): half the price, hours instead of
    minutes."""

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        value = value.strip()
        head, slash, tail = value.partition("/")
        if head == PEOPLE and slash:
            raise ValueError(
                "must be `people` and nothing more: who answers says so on the review page, by "
                "`review serve RUN --reviewer NAME`"
            )
        if value not in ("embedded", PEOPLE) and (not slash or not head or not tail):
            raise ValueError(
                "must be `embedded`, `people`, or PROVIDER/NAME such as openai/gpt-4o-mini, "
                "anthropic/NAME, hf/NAME_OR_FOLDER, recorded/FILE, or litellm's own naming"
            )
        return value

    @model_validator(mode="after")
    def _batch_is_offered(self) -> JudgeMember:
        if self.batch and self.provider not in ("openai", "anthropic"):
            raise ValueError(
                f"batch: true needs an openai/ or anthropic/ judge; {self.model!r} has no batch API"
            )
        return self

    @property
    def provider(self) -> str:
        """The part of `model` before the first slash."""
        return self.model.partition("/")[0]

    @property
    def name(self) -> str:
        """The part of `model` after the first slash; for `embedded` and `people` the word."""
        return self.model.partition("/")[2] or self.model


class Escalation(JudgeMember):
    """A judge that is asked only where those before it gave no answer or are not sure of it.

    `below` is a confidence in 0..1; an answer under it, or one that states none, is asked again.
    """

    below: float = Field(default=0.8, ge=0, le=1)
    """The judge is asked where those before it abstain, fail, or are less sure than this."""


class Breakers(Section):
    """When a run pauses by itself. Shares are of the last `window` verdicts; null turns one off.

    `replacement` is a factor: how far the share of changed labels may be from the pilot's.
    """

    failures_in_a_row: int | None = Field(default=20, ge=3)
    """So many failed verdicts, one after the other."""
    failed: float | None = Field(default=0.5, gt=0, le=1)
    """This share of failed verdicts."""
    invalid: float | None = Field(default=0.3, gt=0, le=1)
    """This share of answers that are none of the labels."""
    replacement: float | None = Field(default=2.0, gt=1)
    """Answers differ from the label so many times as often as the pilot foretells, or as seldom."""
    window: int = Field(default=100, ge=20)
    """How many verdicts the shares are of."""

    @field_validator("failed", "invalid", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        return share_of(value)


class JudgeSection(JudgeMember):
    """The first judge, those that join it, and what holds for all of them together."""

    model: str = "embedded"
    """Who answers: see the topic `judges`."""
    evidence: Literal["referenced", "blind"] = "referenced"
    """`referenced` shows the current label and the prediction, as neutral, shuffled candidates;
    `blind` shows neither."""
    template: str | None = None
    """A prompt template of your own (`.jinja`) instead of the task's, or a bundled form by name:
    `short` (classification, for small models: no rationale), `inline` (tagging: the answer is the
    text with tags)."""
    none: bool = True
    """Whether a judge may answer that no label fits. `false` for small models, which say so far
    too often; an item that fits no label then gets the nearest."""
    max_item_tokens: int = Field(default=8000, ge=100)
    """Of a longer item the judge sees head and tail, and how much is missing."""
    deadline: float | None = Field(default=None, gt=0)
    """Seconds for one process from its start, training included; `90m` and `8h` are understood."""
    max_cost: float | Literal["none"] | None = None
    """US dollars for the whole run, over all restarts. A paid judge needs it; `none` is no cap."""
    cache: bool = True
    """Reuse verdicts across runs."""
    samples: int = Field(default=1, ge=1, le=50)
    """How often the judge is asked the same, candidates shuffled anew. The majority counts."""
    panel: tuple[JudgeMember, ...] = ()
    """Further judges that are asked about every issue. The majority counts, a tie keeps the label.
    """
    escalate: tuple[Escalation, ...] = ()
    """Judges to be asked, in turn, only where those before abstain, fail, or are not sure."""
    controls: float | None = None
    """A share of extra questions that check the judge, such as `5%`; see the topic `overnight`."""
    breakers: Breakers = Breakers()
    """When a run pauses by itself."""

    @field_validator("panel", "escalate", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        value = [value] if isinstance(value, dict) else value
        listed = isinstance(value, list | tuple)
        if not listed or not all(isinstance(each, dict | JudgeMember) for each in value):
            raise ValueError(
                "must be a list of mappings like judge itself, such as [{model: openai/gpt-4o}]"
            )
        return value

    @field_validator("max_cost", mode="before")
    @classmethod
    def _dollars_or_none(cls, value: Any) -> Any:
        if value == "none" or value is None:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(value)
        raise ValueError("must be US dollars like 5.00, or `none` for no cap")

    @field_validator("deadline", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        """Seconds; `90m` and `8h` are understood."""
        pattern = r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*"
        if isinstance(value, str) and (found := re.fullmatch(pattern, value)):
            return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
        return value

    @field_validator("controls", mode="before")
    @classmethod
    def _control_share(cls, value: Any) -> Any:
        value = share_of(value)
        if value is None or (isinstance(value, float) and 0 < value <= 0.5):
            return value
        raise ValueError("must be a share of the questions above 0% and at most 50%, like 5%")

    @model_validator(mode="after")
    def _llm_only(self) -> JudgeSection:
        if self.provider in WITHOUT_LLM:
            answers = "is asked once" if self.provider == PEOPLE else "always repeats itself"
            for key, used in (("samples", self.samples > 1), ("controls", bool(self.controls))):
                if used:
                    raise ValueError(
                        f"{key} puts questions to a language model; the judge {self.model!r} "
                        f"calls none and {answers}"
                    )
        return self

    @model_validator(mode="after")
    def _people_come_last(self) -> JudgeSection:
        places = [at for at, member in enumerate(self.members) if member.provider == PEOPLE]
        if len(places) > 1:
            raise ValueError(
                "`people` is named twice as a judge; name it once: everybody who answers on the "
                "review page counts, by majority"
            )
        asked_after = max(len(self.panel), *places) + 1 if places else len(self.members)
        if asked_after < len(self.members):
            raise ValueError(
                f"escalate: {self.members[asked_after].model!r} would be asked after people and "
                "outrank their answers; take it out, or name `people` last in escalate"
            )
        return self

    @property
    def members(self) -> tuple[JudgeMember, ...]:
        """Every judge that may be asked: the first, the panel, the escalation."""
        return (self, *self.panel, *self.escalate)

    @property
    def member_names(self) -> tuple[str, ...]:
        """A name for each of `members`: its model, numbered where a model occurs again."""
        models = [member.model for member in self.members]
        return tuple(
            model if models.index(model) == at else f"{model}#{models[: at + 1].count(model)}"
            for at, model in enumerate(models)
        )
