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
from llm_relabel.commands import Commands, EitherOrder
from llm_relabel.errors import Paused, RelabelError
from llm_relabel.progress import visible

DONE, FAULT, BAD_INPUT, PAUSED, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = """\b
Exit codes: 0 done; 1 a fault of ours; 2 bad command, job or data (nothing was
spent); 3 stopped on purpose, the same command goes on; 130 interrupted, likewise."""


@click.group(
    cls=Commands,
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
def demo(output: str) -> None:
    """Relabel the bundled real dataset: no key, no network, under two minutes."""
    from llm_relabel.demo import run_demo
    from llm_relabel.progress import for_stderr

    _say(run_demo(Path(output), for_stderr()))


@cli.command()
@click.argument("data")
@click.option("--task", default="classification", show_default=True, help="The task type.")
@click.option("--text", "text", multiple=True, required=True, help="A text column; may repeat.")
@click.option(
    "--label", multiple=True, required=True,
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
@click.option("--encoding", help="The text encoding of the file [default: utf-8].")
@click.option("--delimiter", help="What stands between cells; `tab` or \\t for a tab.")
@click.option("--quoting", type=click.Choice(["none"]), help="none: quotes are plain text in it.")
@click.option(
    "--skip-lines", type=click.IntRange(min=0), metavar="N", help="Lines above the column names."
)
@click.option("-o", "--output", default=".", show_default=True, help="Folder for the two files.")
def init(
    data: str, task: str, text: tuple[str, ...], label: tuple[str, ...], id_: str | None,
    missing: tuple[str, ...], output: str, **keys: Any,
) -> None:  # fmt: skip
    """Write job.yaml and labels.yaml for DATA, ready to edit."""
    from llm_relabel.starting import write_job

    columns = {"text": list(text), "label": list(label), "id": id_, **keys}
    if missing:
        columns["missing"] = [value for value in missing if value]
    _say(write_job(data, task, columns, Path(output)))


@cli.command()
@click.argument("job", type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a job key.")
@click.option("--prompts", default=2, show_default=True, help="Sample prompts to show.")
def plan(job: str, overrides: tuple[str, ...], prompts: int) -> None:
    """Train and flag, call no judge: issues, sample prompts, projected calls and money."""
    from llm_relabel.job import load_job
    from llm_relabel.progress import for_stderr
    from llm_relabel.projection import project

    _say(project(load_job(job, overrides), for_stderr(), prompts=prompts))


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
    from llm_relabel.job import load_job
    from llm_relabel.progress import for_stderr
    from llm_relabel.report import told_summary
    from llm_relabel.rounds import JobRunner

    added = [f"detect.budget={limit}"] if limit is not None else []
    added += ["judge.cache=false"] if no_cache else []
    added += [f"decide.min_precision={min_precision}"] if min_precision is not None else []
    opened = load_job(job, [*overrides, *added])
    summary = JobRunner(opened, progress=for_stderr(), pilot_size=pilot).go()
    _say(told_summary(summary, opened.output_path))


@cli.command("eval")
@click.argument("job", type=click.Path())
@click.option("--gold", help="A file of trusted labels, joined by id; else the data.gold column.")
@click.option("--judge", "judges", multiple=True, help="A judge of the job, or another model.")
@click.option("--recorded", multiple=True, help="A file of answers collected elsewhere.")
@click.option(
    "--prompt", "prompts", multiple=True,
    help="A template (.jinja) or label definitions (.yaml) to try beside the job's own.",
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
    _say(found.markdown)
    _say(f"Written to {found.path}: agreement.md, agreement.json, answers.jsonl")


@cli.command()
@click.argument("run", type=click.Path())
def status(run: str) -> None:
    """Where a run stands."""
    from llm_relabel.report import told_summary
    from llm_relabel.runs import RunFolder

    path = Path(run)
    _say(told_summary(RunFolder(path).summary(), path))


@cli.command()
@click.argument("run", type=click.Path())
def report(run: str) -> None:
    """Write a run's report.html anew and print it as Markdown."""
    from llm_relabel.report import markdown_report, write_report
    from llm_relabel.runs import RunFolder

    folder = RunFolder(Path(run))
    summary = folder.summary()
    write_report(folder, summary)
    _say(markdown_report(folder, summary))


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
    _say(f"{undone:,} changes undone; the dataset is rewritten: {opened.dataset_path()}")


@cli.command()
@click.argument("run", type=click.Path())
def cancel(run: str) -> None:
    """Cancel what a provider's batch API still holds of a run."""
    from llm_relabel.cancelling import cancel_run

    _say(cancel_run(Path(run)))


@cli.group(cls=EitherOrder)
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

    _say(draw_sample(Review(Path(run)), size, effort).told())


@review.command("export")
@click.argument("run", type=click.Path())
@click.option(
    "--format", "kind", type=click.Choice(["csv", "jsonl", "label-studio", "argilla"]),
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

    _say(export_items(open_review(Path(run), as_judge), Path(output), kind, reviewer))


@review.command("import")
@click.argument("run", type=click.Path())
@click.argument("file", type=click.Path())
@click.option("--reviewer", help="Who answered; a labeling tool's export names its annotators.")
@_which
def review_import(run: str, file: str, reviewer: str | None, as_judge: bool | None) -> None:
    """Take over the answers in FILE: CSV, JSONL, Label Studio's or Argilla's export."""
    from llm_relabel.review import import_answers, open_review

    opened = open_review(Path(run), as_judge, must_say=True)
    _say(import_answers(opened, Path(file), reviewer).told())


@review.command("serve")
@click.argument("run", type=click.Path())
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--reviewer", default="reviewer", show_default=True, help="Who answers.")
@_which
def review_serve(run: str, port: int, reviewer: str, as_judge: bool | None) -> None:
    """Review on a page in your browser, on this machine only. Each answer is kept at once."""
    from llm_relabel.review.server import serve

    serve(Path(run), reviewer, port, _say, as_judge=as_judge)


@cli.group(cls=Commands)
def cache() -> None:
    """The verdict cache, shared by all runs (folder: LLM_RELABEL_CACHE)."""


@cache.command()
def stats() -> None:
    """What the cache holds."""
    from llm_relabel.judge.cache import VerdictCache
    from llm_relabel.store import cache_folder

    verdicts = VerdictCache(cache_folder())
    _say(f"{len(verdicts):,} verdicts, {verdicts.volume() / 1e6:.1f} MB in {verdicts.folder}")
    verdicts.close()


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Forget every cached verdict; the next run pays for them again."""
    from llm_relabel.judge.cache import VerdictCache
    from llm_relabel.store import cache_folder

    verdicts = VerdictCache(cache_folder())
    if not yes:
        click.confirm(f"Forget {len(verdicts):,} paid verdicts?", abort=True)
    _say(f"{verdicts.clear():,} verdicts forgotten")
    verdicts.close()


def _say(text: str, *, err: bool = False) -> None:
    """Print for people. Data may be in it: nothing of that reaches the terminal as a command."""
    click.echo(visible(text), err=err)


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
        _say(f"Paused: {pause}", err=True)
        return PAUSED
    except RelabelError as error:
        _say(f"Error: {error}", err=True)
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        _say("Interrupted; the same command goes on.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return DONE
    except Exception:
        _say(
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
