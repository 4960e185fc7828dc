"""`llm-relabel help`: the pages of the manual, and the help of every command."""

from __future__ import annotations

import sys

import click

from llm_relabel.errors import JobError, nearest
from llm_relabel.manual import TOPICS, heading, page
from llm_relabel.progress import visible


@click.command("help", short_help="Show a page of the manual; alone, list its topics.")
@click.argument("topic", required=False)
@click.pass_context
def help_(ctx: click.Context, topic: str | None) -> None:
    """Show the page TOPIC of the manual, or the options of the command TOPIC.

    Without TOPIC, list all topics. What is piped on is plain Markdown.
    """
    if topic is None:
        click.echo(_topics())
    elif topic in TOPICS:
        _show(page(topic))
    else:
        click.echo(_help_of_command(ctx, topic))


def _topics() -> str:
    width = max(map(len, TOPICS))
    listed = [f"  {name:<{width}}  {heading(name)}" for name in TOPICS]
    return "\n".join(["Topics:", *listed, "", "llm-relabel help TOPIC shows one."])


def _help_of_command(ctx: click.Context, name: str) -> str:
    """Raises JobError where there is no such command."""
    above = ctx.find_root()
    commands = above.command.commands if isinstance(above.command, click.Group) else {}
    found = commands.get(name)
    if found is None:
        raise JobError(
            f"there is no topic {visible(name)!r}{nearest(name, [*TOPICS, *commands])}; topics are "
            f"{', '.join(TOPICS)}"
        )
    return found.get_help(click.Context(found, info_name=name, parent=above))


def _show(text: str) -> None:
    """Laid out where a terminal shows it, and as it is written everywhere else."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, 100))
