"""`llm-relabel tune`: better label definitions, proved on gold; accepted label by label."""

from __future__ import annotations

import click

from llm_relabel.commands.saying import say


@click.command("tune", short_help="Find better label definitions and prove them on gold.")
@click.argument("job", type=click.Path())
@click.option("--gold", help="A file of trusted labels, joined by id; else the data.gold column.")
@click.option("--plan", "only_plan", is_flag=True, help="What it can prove and costs; no call.")
@click.option(
    "--probe", "only_probe", is_flag=True, help="Does this judge read definitions? 80 calls."
)
@click.option("--writer", default="none", show_default=True, metavar="MODEL",
              help="A chat model that writes definitions, such as openai/NAME.")  # fmt: skip
@click.option("--max-calls", type=click.IntRange(min=1), default=1200, show_default=True,
              help="The most calls, of judge and writer, the test among them.")  # fmt: skip
@click.option("--change", default="definition,examples,not", show_default=True, metavar="FIELDS",
              help="What may change.")  # fmt: skip
@click.option("--labels", metavar="A,B", help="Change only these labels.")
@click.option("--copy", type=click.Choice(["none", "examples"]), default="none", show_default=True,
              help="`examples`: texts of gold may become examples.")  # fmt: skip
@click.option("--alpha", default="5%", show_default=True, metavar="P",
              help="How often a useless guideline may pass, over all looks.")  # fmt: skip
@click.option("--split", default="30/20/50", show_default=True, metavar="P/S/T",
              help="Shares of gold that propose, select and test, from 150 items on.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--judge", help="Test the tuned definitions under another judge.")
@click.option(
    "--accept", multiple=True, metavar="LABEL", help="Take over a label's new words, or `all`."
)
@click.option("--reject", multiple=True, metavar="LABEL", help="Put a label's proposal aside.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a job key.")
@click.option("-o", "--output", help="The folder for the results [default: OUTPUT-tune].")
def tune_(
    job: str, gold: str | None, only_plan: bool, only_probe: bool, writer: str, max_calls: int,
    change: str, labels: str | None, copy: str, alpha: str, split: str, seed: int,
    judge: str | None, accept: tuple[str, ...], reject: tuple[str, ...],
    overrides: tuple[str, ...], output: str | None,
) -> None:  # fmt: skip
    """Find better label definitions and prove them on gold that the search did not see.

    Ends with 0 also where nothing is proved. The same command goes on with a tuning that stopped.
    """
    from llm_relabel import tune
    from llm_relabel.progress import for_stderr
    from llm_relabel.tune.options import settings_of

    if accept or reject:
        say(tune.accept(job, accept, reject, overrides=overrides, output=output))
        return
    settings = settings_of(
        writer=writer, max_calls=max_calls, change=change, labels=labels, copy=copy, alpha=alpha,
        split=split, seed=seed,
    )  # fmt: skip
    if only_plan:
        say(tune.plan_tuning(job, gold, settings=settings, overrides=overrides, output=output))
        return
    if only_probe:
        say(tune.probe(
            job, gold, settings=settings, overrides=overrides, output=output,
            progress=for_stderr(),
        ).told)  # fmt: skip
        return
    if judge is not None:
        say(tune.holds_elsewhere(
            job, judge, gold, settings=settings, overrides=overrides, output=output,
            progress=for_stderr(),
        )["told"])  # fmt: skip
        return
    found = tune.tune(
        job, gold, settings=settings, overrides=overrides, output=output, progress=for_stderr()
    )
    say(found.markdown)
    say(f"Written to {found.path}: tune.html, tune.md, tune.json, labels.tuned.yaml, labels.diff")
