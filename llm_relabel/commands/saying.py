"""How commands speak: to people on a terminal, and to programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from llm_relabel.progress import visible

as_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for a program.")


def say(text: str, *, err: bool = False) -> None:
    """Print for people. Data may be in it: nothing of that reaches the terminal as a command."""
    click.echo(visible(text), err=err)


def say_json(facts: Mapping[str, Any]) -> None:
    """Print for a program. JSON in ASCII: nothing of it is a command to a terminal."""
    click.echo(json.dumps(facts, indent=1))
