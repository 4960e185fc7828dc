"""Judges' JSON texts, as far as they are alike in every task."""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_relabel.tasks.task import InvalidAnswer

# Characters of an unusable answer that a message repeats. They may be the item's own words, and
# the message goes back to the judge.
SHOWN = 100

_CODE_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class Reply(BaseModel):
    """What every task's answer has beside its label."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    rationale: str = ""
    confidence: float | None = Field(default=None, ge=0, le=1)


Form = TypeVar("Form", bound=Reply)


def parsed(form: type[Form], text: str) -> Form:
    """A judge's text as its task's form, without a code fence or spoken thoughts around it.

    Raises InvalidAnswer, which names the place and what is wrong there.
    """
    text = _THINKING.sub("", text)
    if fenced := _CODE_FENCE.match(text):
        text = fenced[1]
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(str(part) for part in found["loc"])
        raise InvalidAnswer(f"{place + ': ' if place else ''}{found['msg'][:SHOWN]}") from None
