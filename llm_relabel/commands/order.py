"""`--help` lists the commands in the order in which a user needs them, not by the alphabet."""

from __future__ import annotations

import click

from llm_relabel.commands.accepting import Commands

ORDER = (
    "demo",
    "init",
    "plan",
    "run",
    "status",
    "report",
    "review",
    "rollback",
    "eval",
    "tune",
    "cancel",
    "cache",
    "help",
)


class InOrderOfUse(Commands):
    """A group that lists its commands by ORDER; one that has no place there comes last."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of use."""
        places = {name: place for place, name in enumerate(ORDER)}
        return sorted(super().list_commands(ctx), key=lambda name: places.get(name, len(ORDER)))
