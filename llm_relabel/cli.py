"""The command line: arguments in, one call, readable output. Heavy imports wait for a command."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from llm_relabel import __version__
from llm_relabel.commands.cache import cache
from llm_relabel.commands.evaluate import evaluate_
from llm_relabel.commands.manual import help_
from llm_relabel.commands.order import InOrderOfUse
from llm_relabel.commands.review import review
from llm_relabel.commands.saying import as_json, say, say_json
from llm_relabel.commands.tune import tune_
from llm_relabel.errors import Paused, RelabelError

DONE, FAULT, BAD_INPUT, PAUSED, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = """\b
Exit codes: 0 done; 1 a fault of ours; 2 bad command, job or data (nothing was
spent); 3 stopped on purpose, the same command goes on; 130 interrupted, likewise."""


@click.group(
    cls=InOrderOfUse,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="llm-relabel")
def cli() -> None:
    """Repair the labels of a training set.

    A small model finds the doubtful labels, a judge decides them, every change is explained
    and can be undone. Begin with `llm-relabel demo`.
    """


@cli.command()
@click.option(
    "-o", "--output", default="demo-run", show_default=True, help="The run folder to make."
)
@click.option(
    "--task", type=click.Choice(["classification", "tagging", "detection"]),
    default="classification", show_default=True, help="Which of the demos.",
)  # fmt: skip
def demo(output: str, task: str) -> None:
    """Relabel a bundled real dataset: no key, no network.

    Takes less than two minutes. The tagging demo's sentences and answers are made up, and so are
    the answers of the detection demo.
    """
    from llm_relabel.demo import run_demo
    from llm_relabel.progress import for_stderr

    say(run_demo(Path(output), for_stderr(), task))


@cli.command()
@click.argument("data")
@click.option("--task", default="classification", show_default=True, help="The task type.")
@click.option("--text", "text", multiple=True, help="A text column; may repeat.")
@click.option("--image", help="Of detection: the column with each picture's file.")
@click.option("--image-folder", help="Where those are [default: the dataset's folder].")
@click.option("--boxes", help="What a box's four numbers are, such as xywh, where none can tell.")
@click.option(
    "--label", multiple=True,
    help="The label column; may repeat: a column for each class, with 0 or 1 in it.",
)  # fmt: skip
@click.option("--id", "id_", help="A column with a unique id.")
@click.option("--gold", help="A column of trusted labels, to measure with.")
@click.option("--group", help="A column: rows that share its value never vouch for each other.")
@click.option(
    "--label-separator", metavar="TEXT",
    help="What stands between several labels in a cell; `list`: written lists; `none`: nothing.",
)  # fmt: skip
@click.option(
    "--missing", multiple=True, metavar="VALUE",
    help="A value that means 'no label'; may repeat. '': there is none but the empty cell.",
)  # fmt: skip
@click.option("--split", help="The split of a dataset that has several [default: train].")
@click.option("--subset", help="The subset (configuration) of a Hugging Face dataset.")
@click.option("--sheet", help="The sheet of an Excel workbook: its name, or its number from 1.")
@click.option("--encoding", help="The text encoding of the file [default: utf-8].")
@click.option("--delimiter", help="What stands between cells; `tab` or \\t for a tab.")
@click.option("--quoting", type=click.Choice(["none"]), help="none: quotes are plain text in it.")
@click.option(
    "--skip-lines", type=click.IntRange(min=0), metavar="N", help="Lines above the column names."
)
@click.option(
    "--discover", type=click.IntRange(min=2), metavar="N",
    help="There are no labels: put the texts in N groups to look at.",
)  # fmt: skip
@click.option("--writer", metavar="MODEL", help="A chat model that drafts the definitions.")
@click.option("--max-cost", type=float, metavar="DOLLARS", help="The cap for the writer.")
@click.option("-o", "--output", default=".", show_default=True, help="Folder for the two files.")
def init(
    data: str, task: str, text: tuple[str, ...], label: tuple[str, ...], id_: str | None,
    missing: tuple[str, ...], output: str, discover: int | None, writer: str | None,
    max_cost: float | None, **keys: Any,
) -> None:  # fmt: skip
    """Write job.yaml and labels.yaml for DATA, ready to edit."""
    from llm_relabel import engine
    from llm_relabel.progress import for_stderr

    if bool(text) == bool(keys.get("image")):
        raise click.UsageError("name the text column with --text, or that of pictures with --image")
    columns = {"text": list(text), "label": list(label), "id": id_, **keys}
    if (sheet := columns.get("sheet")) and sheet.isdecimal():
        columns["sheet"] = int(sheet)
    if missing:
        columns["missing"] = [value for value in missing if value]
    if discover is not None:
        from llm_relabel.tune.discover import discover as find_groups

        if label:
            raise click.UsageError("--discover is for data without labels: leave out --label")
        say(find_groups(data, columns, discover, Path(output), for_stderr()))
        return
    if not label:
        raise click.UsageError(
            "name the label column with --label (or --discover N: there is none)"
        )
    say(engine.init_job(data, task, columns, Path(output)))
    if writer is not None:
        from llm_relabel.tune.drafting import write_definitions

        say(write_definitions(Path(output), writer, max_cost, for_stderr()))


@cli.command(short_help="Show what a run would ask and cost; no judge is called.")
@click.argument("job", type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a job key.")
@click.option("--prompts", default=2, show_default=True, help="Sample prompts to show.")
@as_json
def plan(job: str, overrides: tuple[str, ...], prompts: int, as_json: bool) -> None:
    """Train and flag, call no judge: issues, sample prompts, projected calls and money."""
    from llm_relabel import engine
    from llm_relabel.progress import for_stderr

    made = engine.plan_job(engine.open_job(job, overrides), for_stderr(), prompts=prompts)
    if as_json:
        say_json(made.as_json())
    else:
        say(made.told())


@cli.command()
@click.argument("job", type=click.Path())
@click.option("--limit", type=click.IntRange(min=1), help="Judge at most this many items.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a job key.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the verdict cache.")
@click.option(
    "--min-precision", metavar="P",
    help="With spot-checks: apply only changes proved right in a share P, such as 90%.",
)  # fmt: skip
@click.option(
    "--pilot", type=click.IntRange(min=1),
    help="Judge so many issues first and stop with a projection; run again to go on.",
)  # fmt: skip
def run(
    job: str,
    limit: int | None,
    overrides: tuple[str, ...],
    no_cache: bool,
    pilot: int | None,
    min_precision: str | None,
) -> None:
    """Run a job unattended. The same command goes on with a run that stopped."""
    from llm_relabel import engine
    from llm_relabel.progress import for_stderr

    added = [f"detect.budget={limit}"] if limit is not None else []
    added += ["judge.cache=false"] if no_cache else []
    added += [f"decide.min_precision={min_precision}"] if min_precision is not None else []
    opened = engine.open_job(job, [*overrides, *added])
    say(engine.run_job(opened, progress=for_stderr(), pilot_size=pilot).told())


@cli.command()
@click.argument("run", type=click.Path())
@as_json
def status(run: str, as_json: bool) -> None:
    """Where a run stands."""
    from llm_relabel import engine

    found = engine.status_of(Path(run))
    if as_json:
        say_json(found.as_json())
    else:
        say(found.told())


@cli.command()
@click.argument("run", type=click.Path())
def report(run: str) -> None:
    """Write a run's report.html anew and print it as Markdown."""
    from llm_relabel import engine

    say(engine.report_of(Path(run)))


@cli.command()
@click.argument("run", type=click.Path())
@click.option("--id", "ids", multiple=True, help="Undo the changes of this item; may repeat.")
@click.option("--label", "labels", multiple=True, help="Undo changes from or to this label.")
@click.option("--round", "rounds", multiple=True, type=int, help="Undo the changes of this round.")
@click.option("--source", "sources", multiple=True, help="Undo changes of this source: judge, ...")
@click.option(
    "--sheet", type=click.Path(), help="Undo the changes marked in the `undo` column of this CSV."
)
@click.option("--all", "everything", is_flag=True, help="Undo every change.")
def rollback(
    run: str, ids: tuple[str, ...], labels: tuple[str, ...], rounds: tuple[int, ...],
    sources: tuple[str, ...], sheet: str | None, everything: bool,
) -> None:  # fmt: skip
    """Undo changes. Several kinds of choice narrow each other; the run's log keeps both."""
    from llm_relabel.api import Run

    opened = Run(run)
    undone = opened.rollback(
        ids=ids, labels=labels, rounds=rounds, sources=sources, sheet=sheet, everything=everything
    )
    say(f"{undone:,} changes undone; the dataset is rewritten: {opened.dataset_path()}")


@cli.command()
@click.argument("run", type=click.Path())
def cancel(run: str) -> None:
    """Cancel what a provider's batch API still holds of a run."""
    from llm_relabel import engine

    say(engine.cancel_run(Path(run)))


for _command in (evaluate_, tune_, review, cache, help_):
    cli.add_command(_command)


def main() -> None:
    """The entry point: runs a command and turns errors into exit codes."""
    signal.signal(signal.SIGTERM, _interrupt)
    # An encoder on disk is all the bundled job needs; this also stops a warning at each start.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except Paused as pause:
        say(f"Paused: {pause}", err=True)
        return PAUSED
    except RelabelError as error:
        say(f"Error: {error}", err=True)
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        say("Interrupted; the same command goes on.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return DONE
    except Exception:
        say(
            f"A fault of llm_relabel {__version__}, not of your data. Please report this:\n\n"
            + traceback.format_exc(),
            err=True,
        )
        return FAULT
    return DONE


def _interrupt(number: int, frame: Any) -> None:  # noqa: ARG001 - the signature is signal's
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        raise KeyboardInterrupt  # started in the background, where Ctrl-C is meant for others
    # As Ctrl-C: the event loop then cancels what is in flight and journals stay whole.
    signal.raise_signal(signal.SIGINT)
