"""One question to any provider."""

from __future__ import annotations

from typing import Any

import httpx

from llm_relabel.judge.chat import ChatRequest
from llm_relabel.records import Message

LABELS = ["NUM", "LOC", "HUM"]
SCHEMA = {
    "type": "object",
    "properties": {
        "rationale": {"type": "string"},
        "label": {"type": "string", "enum": LABELS},
        "confidence": {"type": "number"},
    },
    "required": ["rationale", "label", "confidence"],
    "additionalProperties": False,
}
SYSTEM, QUESTION = "You label questions.", "How far is the moon? ä 😀 \u202e"


REQUEST = ChatRequest(
    (Message("system", SYSTEM), Message("user", QUESTION)), SCHEMA, {"temperature": 0}, 64
)


def bare(kind: type[BaseException]) -> Any:
    """An instance without its constructor, with what the boundary reads of a real one."""
    error: Any = kind.__new__(kind)
    error.args = ("text",)
    error.status_code, error.body = 418, {"error": {"message": "text"}}
    error.response = httpx.Response(418, headers={"retry-after": "1"})
    error.message, error.num_retries, error.max_retries = "text", None, None
    error.original_exception = error.request_id = None
    return error
