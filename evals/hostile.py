"""The hostile corpus through every provider's payload and through whole runs.

    python evals/hostile.py

Every text of `tests/support/hostile.py`, referenced and blind, in one field and in two, goes
through the real SDKs to a server on 127.0.0.1 that does what the text demands or answers with
something broken; then through batch lines and through whole runs of the program, whose files,
pages, sheets and terminal output are searched. What a provider has of its own to leak is planted
and searched for by `tests/test_leaks.py`. Target: 0 escapes, 0 leaks, 0 crashes."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from machine import facts, keep, table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from hostile import corpus
from hostile_checks import WIRES, Found, check_batch_lines, check_payloads
from hostile_runs import check_run
from loopback import LoopbackServer

KEY = "sk-planted-4f9c2b7e81d6a350"
FREE = {"failures_in_a_row": None, "failed": None, "invalid": None, "replacement": None}


def through_a_run(folder: Path, form: str, model: str) -> Found:
    """The whole corpus as one dataset, with one judge."""
    with LoopbackServer() as server:
        judge = {"model": model, "breakers": FREE}
        if "/" in model:
            judge |= {"base_url": server.openai_url, "api_key_env": "PLANTED_KEY"}
        return check_run(folder, corpus(), judge, form=form)


def search_for_key(found: Found, folder: Path) -> None:
    """Note every file below `folder` that holds the key or a half of it."""
    parts = [part.encode() for part in (KEY[:16], KEY[-12:])]
    for path in folder.rglob("*"):
        if path.is_file() and any(part in path.read_bytes() for part in parts):
            found.leaks.append(str(path.relative_to(folder)))


def measured(check: Callable[[Path], Found]) -> tuple[Found, float]:
    """What a check found in a folder of its own, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LLM_RELABEL_CACHE"] = str(Path(folder) / "cache")
        began, home = time.monotonic(), Path.cwd()
        work = Path(folder) / "work"
        work.mkdir()
        os.chdir(work)
        try:
            found = check(work)
        finally:
            os.chdir(home)
        search_for_key(found, Path(folder))
        return found, time.monotonic() - began


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["PLANTED_KEY"] = KEY
    checks: list[Callable[[Path], Found]] = [
        *(lambda folder, wire=wire: check_payloads(wire, folder) for wire in WIRES),
        *(lambda folder, wire=wire: check_batch_lines(wire, folder)
          for wire in ("openai", "anthropic")),
        lambda folder: through_a_run(folder, "jsonl", "openai/toy"),
        lambda folder: through_a_run(folder, "csv", "openai/toy"),
        lambda folder: through_a_run(folder, "jsonl", "embedded"),
    ]  # fmt: skip
    results = [measured(check) for check in checks]
    about = facts("llm_relabel", "openai", "anthropic", "litellm", "jinja2")
    families = Counter(item.family for item in corpus())
    lines = [
        [found.wire, sum(found.items.values()), found.requests or "", ", ".join(
            f"{count:,} {word}" for word, count in sorted(found.outcomes.items())),
         len(found.escapes), len(found.leaks), len(found.crashes), f"{seconds:.0f}"]
        for found, seconds in results
    ]  # fmt: skip
    header = ["through", "items", "requests", "ended as", "escapes", "leaks", "crashes", "seconds"]
    markdown = (
        f"# The hostile corpus: {len(corpus())} texts\n\n"
        "`python evals/hostile.py`. Families: "
        + ", ".join(f"{family} {count}" for family, count in families.items())
        + ".\n\nPayloads: every item in four forms, the server on the attacker's side, a third\n"
        "of the questions first answered with a broken body. An escape is part of an item outside\n"
        "of its fence, a verdict outside of the schema, a file or element that an item made, a\n"
        "control character on the terminal, a formula in a sheet, a changed byte of a row. Runs\n"
        "leave out rows without text, and in CSV what UTF-8 cannot hold.\n\n"
        + table(header, lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep("hostile", {"about": about, "families": families,
                     "checks": [found.as_json() for found, _ in results]}, markdown)  # fmt: skip
    if not all(found.clean for found, _ in results):
        sys.exit("something got out, see evals/results/hostile.json")


if __name__ == "__main__":
    main()
