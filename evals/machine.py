"""What a result was measured on, printed with every benchmark and kept beside its figures."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def facts(*packages: str) -> dict[str, Any]:
    """Python, the named packages, cores and the date."""
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def data_folder(name: str) -> Path:
    """One set of the evaluation data; ends with a clear message where it is not there."""
    root = os.environ.get("LLM_RELABEL_DATA")
    if not root or not (folder := Path(root) / name).is_dir():
        sys.exit(
            f"set LLM_RELABEL_DATA to the folder that holds the evaluation sets; {name!r} "
            f"was looked for in {root!r}"
        )
    return folder


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of one evaluation set."""
    path = data_folder(name) / "data.jsonl"
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def keep(name: str, measured: Mapping[str, Any], markdown: str) -> None:
    """Print and write `results/NAME.json` and `results/NAME.md`."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(measured, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(markdown.rstrip() + "\n", encoding="utf-8")
    print(markdown)
