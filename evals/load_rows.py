"""Reading many short rows: time, memory, and that a row costs no Python objects.

    python evals/load_rows.py

Each size is read in a process of its own, once with an id column and once with ids made from
the content. A file of one row is read first, so that what is imported on the first use is not
counted. `objects` is what `len(gc.get_objects())` grew by while the dataset is held; text and
numbers are unknown to gc, so `blocks` is the same for `sys.getallocatedblocks()`, which counts
everything that Python allocates. `peak_mb` is the whole process, its libraries included
(`start_mb` before reading).
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import facts, keep, table

from llm_relabel.config.job import DataSection
from llm_relabel.data import read_dataset

SIZES = (10_000, 100_000, 1_000_000)


def measure(path: str, small: str, ids: str) -> None:
    """Read one file and print what it took as JSON; runs in a process of its own."""
    section = DataSection(path=path, text="text", label="label", id=ids or None)
    read_dataset(section.model_copy(update={"path": small}), Path)
    gc.collect()
    start = peak_mb()
    objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
    began = time.monotonic()
    data = read_dataset(section, Path)
    seconds = time.monotonic() - began
    gc.collect()
    objects, blocks = len(gc.get_objects()) - objects, sys.getallocatedblocks() - blocks
    print(json.dumps({"rows": len(data), "ids": ids or "from content", "seconds": round(seconds, 2),
                      "start_mb": start, "peak_mb": peak_mb(), "objects": objects,
                      "blocks": blocks}))  # fmt: skip


def peak_mb() -> int:
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def write(path: Path, size: int) -> None:
    """`size` rows of one short message each."""
    with path.open("w", encoding="utf-8") as file:
        for row in range(size):
            line = {"id": f"r{row}", "text": f"a short message, number {row}",
                    "label": f"class {row % 20}"}  # fmt: skip
            file.write(json.dumps(line) + "\n")


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "1.jsonl"
        write(small, 1)
        for size in SIZES:
            path = Path(folder) / f"{size}.jsonl"
            write(path, size)
            for ids in ("id", ""):
                command = [sys.executable, __file__, str(path), str(small), ids]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found.append(json.loads(done.stdout))
            path.unlink()
    about = facts("llm_relabel", "pyarrow", "numpy")
    lines = [[f"{f['rows']:,}", f["ids"], f["seconds"], f["start_mb"], f["peak_mb"], f["objects"],
              f["blocks"]] for f in found]  # fmt: skip
    markdown = (
        "# Reading short JSONL rows\n\n`python evals/load_rows.py`. What Python holds does not "
        "grow with the rows.\n\n"
        + table(
            [
                "rows",
                "ids",
                "seconds",
                "MB before",
                "peak MB",
                "gc objects more",
                "Python blocks more",
            ],
            lines,
        )
        + f"\n\nMeasured on: {about}\n"
    )
    keep("load_rows", {"about": about, "results": found}, markdown)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:])
    else:
        main()
