"""The demo, the README's own commands, and the wheel installed somewhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import toy

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo from a built wheel, unpacked far from the checkout: its run folder and output."""
    home = tmp_path_factory.mktemp("elsewhere")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(home), "."],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    wheel = next(home.glob("*.whl"))
    site = home / "site"
    zipfile.ZipFile(wheel).extractall(site)
    # -P and PYTHONPATH: the unpacked wheel is imported, not the checkout.
    code = (
        "import llm_relabel, sys; print(llm_relabel.__file__); from llm_relabel.cli import main; "
    )
    code += "sys.argv = ['llm-relabel', 'demo']; main()"
    env = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1",
           "LLM_RELABEL_CACHE": str(home / "cache")}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=home, env=env, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(site))
    return home / "demo-run", done.stdout


def test_the_demo_mends_labels_and_says_so(demo: tuple[Path, str]) -> None:
    folder, said = demo
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    gold = summary["gold"]
    assert gold["labels_after"] > gold["labels_before"]
    assert summary["judge"]["is_llm"] is False
    assert "no LLM was used" in said
    assert "llm-relabel init" in said
    assert "nobody flipped" in said


def test_a_later_round_leaves_what_the_first_model_stood_by(demo: tuple[Path, str]) -> None:
    folder, _ = demo

    def lines(name: str) -> list[dict[str, Any]]:
        text = (folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    doubted = {line["id"] for line in lines("round-1/issues.jsonl")}
    later = lines("round-2/decisions.jsonl")
    assert {line["id"] for line in later if line["action"] == "replace"} <= doubted
    held = [line for line in later if "before any was repaired" in line["why"]]
    assert held  # so there were some that would have been changed
    assert not {line["id"] for line in held} & doubted


def test_the_demo_s_files_agree(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    source = (ROOT / "llm_relabel" / "demo" / "banking20.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in source.splitlines()]
    after = [json.loads(line) for line in (folder / "dataset.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    fixed = sum(a["label"] == r["gold"] != r["label"] for r, a in zip(rows, after, strict=True))
    broken = sum(r["label"] == r["gold"] != a["label"] for r, a in zip(rows, after, strict=True))
    assert (summary["gold"]["fixed"], summary["gold"]["broken"]) == (fixed, broken)
    assert [{**a, "label": 0} for a in after] == [{**r, "label": 0} for r in rows]


def test_the_wheel_holds_prompts_and_demo(demo: tuple[Path, str]) -> None:
    site = demo[0].parent / "site" / "llm_relabel"
    assert (site / "templates" / "classification.jinja").is_file()
    assert (site / "demo" / "ATTRIBUTION.md").is_file()
    assert (site / "demo" / "tagging" / "sentences.jsonl").is_file()
    assert len(list((site / "demo" / "detection" / "images").glob("*.jpg"))) == 40
    assert (site / "demo" / "detection" / "LICENSE-BCCD.txt").is_file()
    assert (site / "py.typed").is_file()
    for page in (ROOT / "llm_relabel" / "manual").glob("*.md"):
        assert (site / "manual" / page.name).read_bytes() == page.read_bytes()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_s_commands_work(work: toy.Work, tmp_path: Path) -> None:
    """Bring-your-own-data as written: only the program's path and the editor stand in."""
    own = next(block for block in blocks("console") if "init" in block)
    lines = [line for line in own.splitlines() if not line.startswith(". ")]
    (work.folder / "job.yaml").unlink()
    (work.folder / "labels.yaml").unlink()
    work.data.rename(work.folder / "train.jsonl")
    for line in lines:
        if line.startswith("$EDITOR"):
            path = work.folder / line.split()[1]
            path.write_text(path.read_text().replace("TO WRITE", "Written"), encoding="utf-8")
            continue
        program, *words = line.split()
        assert program == "llm-relabel"
        done = work.run(*words)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert (work.folder / "runs" / "train" / "dataset.jsonl").is_file()


def test_the_readme_s_python_works(work: toy.Work) -> None:
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=work.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "labels changed" in done.stdout


def test_make_knows_the_readme_s_two_commands() -> None:
    (two,) = [block for block in blocks("console") if "make" in block]
    makefile = (ROOT / "Makefile").read_text()
    for line in two.split("\n"):
        if line:
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
