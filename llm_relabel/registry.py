"""The task types, by name. To add one: write its file and its template, and name it here.

Nothing is imported until a job asks for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

TASKS: dict[str, str] = {
    "classification": "llm_relabel.tasks.classification:Classification",
    "detection": "llm_relabel.tasks.detection:Detection",
    "tagging": "llm_relabel.tasks.tagging:Tagging",
}


def load(place: str) -> Any:
    """What `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
