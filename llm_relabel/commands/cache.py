"""`llm-relabel cache`: the verdict cache that all runs share."""

from __future__ import annotations

import click

from llm_relabel.commands.accepting import Commands
from llm_relabel.commands.saying import say


@click.group(cls=Commands, short_help="The verdict cache, shared by all runs.")
def cache() -> None:
    """The verdict cache, shared by all runs (folder: LLM_RELABEL_CACHE)."""


@cache.command()
def stats() -> None:
    """What the cache holds."""
    from llm_relabel.files.cache_store import cache_folder
    from llm_relabel.judge.cache import VerdictCache

    verdicts = VerdictCache(cache_folder())
    say(f"{len(verdicts):,} verdicts, {verdicts.volume() / 1e6:.1f} MB in {verdicts.folder}")
    verdicts.close()


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Forget every cached verdict; the next run pays for them again."""
    from llm_relabel.files.cache_store import cache_folder
    from llm_relabel.judge.cache import VerdictCache

    verdicts = VerdictCache(cache_folder())
    if not yes:
        click.confirm(f"Forget {len(verdicts):,} paid verdicts?", abort=True)
    say(f"{verdicts.clear():,} verdicts forgotten")
    verdicts.close()
