"""`llm-relabel review`: blind spot-checks by people, and the questions of the judge `people`."""

from __future__ import annotations

from pathlib import Path

import click

from llm_relabel.commands.accepting import EitherOrder
from llm_relabel.commands.saying import say


@click.group(cls=EitherOrder, short_help="Let people check blindly, or judge.")
def review() -> None:
    """Blind spot-checks by people, and the questions of the judge `people`."""


_which = click.option(
    "--judge/--spot-checks", "as_judge", default=None,
    help="The questions of the judge `people`, or the blind spot-checks [default: the questions "
    "where people judge and some are there].",
)  # fmt: skip


@review.command("sample")
@click.argument("run", type=click.Path())
@click.option(
    "--size", type=click.IntRange(min=0), default=100, show_default=True,
    help="How many more items to draw at random.",
)  # fmt: skip
@click.option(
    "--effort", type=click.IntRange(min=0), default=0, metavar="N",
    help="Besides, up to N items whose judge abstained or was overruled.",
)  # fmt: skip
def review_sample(run: str, size: int, effort: int) -> None:
    """Draw items for people to look at. Again, it adds to them."""
    from llm_relabel.review import Review, draw_sample

    say(draw_sample(Review(Path(run)), size, effort).told())


@review.command("export")
@click.argument("run", type=click.Path())
@click.option(
    "--format", "kind", type=click.Choice(["csv", "jsonl", "label-studio", "argilla", "doccano"]),
    help="[default: jsonl for a file named so, otherwise csv]",
)  # fmt: skip
@click.option("-o", "--output", required=True, help="The file to write.")
@click.option("--reviewer", help="Leave out what this person has answered already.")
@_which
def review_export(
    run: str, kind: str | None, output: str, reviewer: str | None, as_judge: bool | None
) -> None:
    """Write the items to review for a spreadsheet or a labeling tool."""
    from llm_relabel.review import export_items, open_review

    say(export_items(open_review(Path(run), as_judge), Path(output), kind, reviewer))


@review.command("import", short_help="Take over the answers in a file.")
@click.argument("run", type=click.Path())
@click.argument("file", type=click.Path())
@click.option("--reviewer", help="Who answered; a labeling tool's export names its annotators.")
@_which
def review_import(run: str, file: str, reviewer: str | None, as_judge: bool | None) -> None:
    """Take over the answers in FILE: CSV, JSONL, Label Studio's or Argilla's export."""
    from llm_relabel.review import import_answers, open_review

    opened = open_review(Path(run), as_judge, must_say=True)
    say(import_answers(opened, Path(file), reviewer).told())


@review.command("serve")
@click.argument("run", type=click.Path())
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--reviewer", default="reviewer", show_default=True, help="Who answers.")
@_which
def review_serve(run: str, port: int, reviewer: str, as_judge: bool | None) -> None:
    """Review on a page in your browser, on this machine only. Each answer is kept at once."""
    from llm_relabel.review.server import serve

    serve(Path(run), reviewer, port, say, as_judge=as_judge)
