"""One question to any provider."""

from __future__ import annotations

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
