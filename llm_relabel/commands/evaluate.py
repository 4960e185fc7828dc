"""`llm-relabel eval`: judges and prompts against gold labels."""

from __future__ import annotations

import click

from llm_relabel.commands.saying import say


@click.command("eval", short_help="Hold judges, prompts and definitions against gold labels.")
@click.argument("job", type=click.Path())
@click.option("--gold", help="A file of trusted labels, joined by id; else the data.gold column.")
@click.option("--judge", "judges", multiple=True, help="A judge of the job, or another model.")
@click.option("--recorded", multiple=True, help="A file of answers collected elsewhere.")
@click.option(
    "--prompt", "prompts", multiple=True,
    help="A template (.jinja, or the name of a bundled form) or label definitions (.yaml) to try "
    "beside the job's own.",
)  # fmt: skip
@click.option(
    "--anchoring", type=click.IntRange(min=1), metavar="N", default=None,
    help="Ask about N items with and without the labels shown: does the judge lean to them?",
)  # fmt: skip
@click.option("--no-model", is_flag=True, help="Train no small model where none is needed.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a job key.")
@click.option("-o", "--output", help="The folder for the results [default: OUTPUT-eval].")
def evaluate_(
    job: str, gold: str | None, judges: tuple[str, ...], recorded: tuple[str, ...],
    prompts: tuple[str, ...], anchoring: int | None, no_model: bool, overrides: tuple[str, ...],
    output: str | None,
) -> None:  # fmt: skip
    """Hold judges and prompts against gold labels, each other and the labels as they are."""
    from llm_relabel.evaluation import evaluate
    from llm_relabel.progress import for_stderr

    found = evaluate(
        job, gold, judges=judges, recorded=recorded, prompts=prompts, anchoring=anchoring or 0,
        small_model=not no_model, overrides=overrides, output=output, progress=for_stderr(),
    )  # fmt: skip
    say(found.markdown)
    say(f"Written to {found.path}: agreement.md, agreement.json, answers.jsonl")
    say(found.conclusion)
