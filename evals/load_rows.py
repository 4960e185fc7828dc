"""Reading many short rows: time, memory, and that a row costs no Python objects.

    python evals/load_rows.py

Each size is read in a process of its own. `objects` is what `len(gc.get_objects())` grew by
while the dataset is held.
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

from llm_relabel.data import read_dataset
from llm_relabel.job import DataSection

SIZES = (10_000, 100_000, 1_000_000)


def measure(path: str) -> None:
    """Read one file and print what it took as JSON; runs in a process of its own."""
    section = DataSection(path=path, text="text", label="label", id="id")
    gc.collect()
    objects, began = len(gc.get_objects()), time.monotonic()
    data = read_dataset(section, Path)
    seconds = time.monotonic() - began
    gc.collect()
    grown = len(gc.get_objects()) - objects
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": len(data), "seconds": round(seconds, 2), "objects": grown,
                      "peak_mb": round(peak)}))  # fmt: skip


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for row in range(size):
                    line = {"id": f"r{row}", "text": f"a short message, number {row}",
                            "label": f"class {row % 20}"}  # fmt: skip
                    file.write(json.dumps(line) + "\n")
            done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True,
                                  text=True, check=True)  # fmt: skip
            found.append(json.loads(done.stdout))
            path.unlink()
    about = facts("llm_relabel", "pyarrow", "numpy")
    lines = [[f"{f['rows']:,}", f["seconds"], f["peak_mb"], f["objects"]] for f in found]
    markdown = (
        "# Reading short JSONL rows\n\n`python evals/load_rows.py`\n\n"
        + table(["rows", "seconds", "peak MB", "Python objects more"], lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep("load_rows", {"about": about, "results": found}, markdown)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        main()
