"""The jobs of `unchanged.py`: every way in which classification is run, into a folder.

    PYTHONPATH=CHECKOUT python evals/unchanged_jobs.py HOME --checkout CHECKOUT [--only NAME ...]
        [--take-over HOME_BEFORE]

A job writes data, job files and run folders below `HOME/NAME`; all of it is compared afterwards.
Only the public surface is used, the Python API and `python -m llm_relabel`, so that any checkout
can be the one that runs. What must hold within one side goes to `HOME/NAME/checks.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import loopback_job
import yaml
from sets import RecordedSet, answers_file, read_set
from unchanged_tools import (
    command,
    judge_server,
    many_labels,
    read_lines,
    recorded_job,
    write_checks,
    write_lines,
)

import llm_relabel as lr

FOMC, SEMEVAL = "fomc_stance", "semeval_relations"
JUDGES = {FOMC: "gpt-4", SEMEVAL: "mixtral-8x22b-instruct/fewshot"}
POLICIES = ("replace", "agree", "fuse", "auto")
LLM_ROWS, KILLED_ROWS, KILL_AFTER = 120, 400, 120

Job = Callable[[Path], None]
JOBS: dict[str, Job] = {}
# What a newer checkout takes over from an older one's folders: finished runs (the job, the run),
# and runs that stopped early (also the run that says what must come of them).
FINISHED = (
    ("recorded", "fomc_fuse"), ("recorded", "fomc_panel"), ("multi", "own_replace"),
    ("multi", "own_agree"), ("multi", "own_fuse"), ("multi", "encoder_fuse"),
    ("spot_checks", "fomc"), ("multi_spot_checks", "multi"), ("people", "people"),
)  # fmt: skip
STOPPED = (
    ("recorded", "fomc_fuse_begun", "fomc_fuse"), ("multi", "own_replace_begun", "own_replace"),
    ("multi", "own_fuse_begun", "own_fuse"), ("killed", "half", "undisturbed"),
)  # fmt: skip


def job(function: Job) -> Job:
    JOBS[function.__name__] = function
    return function


@job
def demo(home: Path) -> None:
    """The demo, as a user starts it, and what is said of it afterwards."""
    command(home, "demo", "-o", "run", name="demo")
    command(home, "status", "run", name="status")
    command(home, "report", "run", name="report")


@job
def recorded(home: Path) -> None:
    """Recorded LLMs on FOMC under every policy; several judges; a budget."""
    one = read_set(FOMC)
    first = _under_every_policy(home, "fomc", one)
    others = [{"model": f"recorded/{answers_file(model)}"} for model in sorted(one.answers)
              if model != JUDGES[FOMC]]  # fmt: skip
    variants: dict[str, dict[str, Any]] = {
        "panel": {"judge": {**first, "panel": others}},
        "panel_replace": {"judge": {**first, "panel": others}, "decide": {"policy": "replace"}},
        "escalate": {"judge": {**first, "escalate": others[:1]}},
        "blind": {"judge": {**first, "evidence": "blind"}},
        "budget": {"judge": first, "detect": {"budget": "15%"}},
        "quality": {"judge": first, "detect": {"quality": 0.6, "residual_noise": "8%"}},
    }
    for variant, changes in variants.items():
        lr.relabel(recorded_job(home, f"fomc_{variant}", one, **changes))
    begun = recorded_job(home, "fomc_fuse_begun", one, judge=first, decide={"policy": "fuse"})
    lr.relabel(begun, overrides=["rounds=1"])


@job
def semeval(home: Path) -> None:
    """A recorded LLM on SemEval under every policy; in a folder of its own, as each set's
    `data.jsonl` is taken over later."""
    _under_every_policy(home, "semeval", read_set(SEMEVAL))


def _under_every_policy(home: Path, short: str, one: RecordedSet) -> dict[str, Any]:
    """Runs named SHORT_POLICY; the judge's section that they share."""
    first = {"model": f"recorded/{answers_file(JUDGES[one.name])}"}
    for policy in POLICIES:
        made = f"{short}_{policy}"
        lr.relabel(recorded_job(home, made, one, judge=first, decide={"policy": policy}))
    return first


@job
def multi(home: Path) -> None:
    """Multi-label data, with own predictions and with the bundled encoder."""
    one, _ = many_labels()
    models: dict[str, dict[str, Any]] = {"own": {"predictions": "predictions.jsonl"}, "encoder": {}}
    for kind, model in models.items():
        for policy in ("replace", "agree", "fuse"):
            made = recorded_job(home, f"{kind}_{policy}", one, model=model,
                                decide={"policy": policy})  # fmt: skip
            lr.relabel(made)
    own = {"model": models["own"], "decide": {"policy": "replace"}}
    for name, changes in (
        ("own_budget", {"detect": {"budget": 50}}), ("own_quality", {"detect": {"quality": 0.7}}),
        ("embedded", {"judge": {"model": "embedded"}, "model": {}, "decide": {"policy": "fuse"}}),
    ):  # fmt: skip
        lr.relabel(recorded_job(home, name, one, **{**own, **changes}))
    for policy in ("replace", "fuse"):
        begun = recorded_job(home, f"own_{policy}_begun", one, model=models["own"],
                             decide={"policy": policy})  # fmt: skip
        lr.relabel(begun, overrides=["rounds=1"])


@job
def columns(home: Path) -> None:
    """`data.group`, locked rows, context, a dev set and rows without a label, out of a CSV."""
    one = read_set(FOMC)
    path = recorded_job(home, "embedded", one, judge={"model": "embedded"},
                        decide={"policy": "fuse"})  # fmt: skip
    rows = read_lines(home / "data.jsonl")[:600]
    import csv

    with (home / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label", "gold", "doc", "source", "reviewed"])
        for number, row in enumerate(rows):
            label = "" if number % 40 == 7 else row["label"]
            writer.writerow([row["id"], row["text"], label, row["gold"], f"d{number // 4}",
                             f"meeting {number // 50}", str(number % 25 == 0).lower()])  # fmt: skip
    write_lines(home / "dev.jsonl", read_lines(home / "data.jsonl")[600:800])
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["data"] |= {"path": "data.csv", "group": "doc", "context": "source", "locked": "reviewed"}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    lr.relabel(path)
    raw |= {"judge": {"model": f"recorded/{answers_file(JUDGES[FOMC])}"}, "output": "recorded",
            "decide": {"policy": "auto"}}  # fmt: skip
    raw["data"] |= {"context": [], "group": None}
    (home / "recorded.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    lr.relabel(home / "recorded.yaml")
    for issue_file, made in (("issues.jsonl", path), ("recorded_issues.jsonl",
                                                      home / "recorded.yaml")):  # fmt: skip
        issues = lr.find_label_issues(made)
        write_lines(home / issue_file, [
            {"id": x.id, "row": x.row, "given": x.given_label, "predicted": x.predicted_label,
             "quality": x.label_quality, "reason": x.reason}
            for x in issues
        ])  # fmt: skip


@job
def predictions(home: Path) -> None:
    """The user's own predictions, on data with one label."""
    one = read_set(FOMC)
    first = {"model": f"recorded/{answers_file(JUDGES[FOMC])}"}
    for policy in POLICIES:
        path = recorded_job(home, policy, one, model={"predictions": "predictions.jsonl"},
                            judge=first, decide={"policy": policy})  # fmt: skip
        lr.relabel(path)
    command(home, "plan", "auto.yaml", name="plan")


@job
def spot_checks(home: Path) -> None:
    """One round, spot-checks answered from gold, decided again, then a second round."""
    judge = {"model": f"recorded/{answers_file(JUDGES[FOMC])}"}
    _spot_checked(home, "fomc", read_set(FOMC), {"judge": judge})


@job
def multi_spot_checks(home: Path) -> None:
    """The same with several labels."""
    _spot_checked(home, "multi", many_labels()[0], {"model": {"predictions": "predictions.jsonl"}})


def _spot_checked(home: Path, name: str, one: RecordedSet, changes: Mapping[str, Any]) -> None:
    path = recorded_job(home, name, one, **changes)
    lr.relabel(path, overrides=["rounds=1"])
    command(home, "review", "sample", name, "--size", "100", "--effort", "8",
            name=f"{name}_sample")  # fmt: skip
    command(home, "review", "export", name, "-o", f"{name}_sheet.jsonl", name=f"{name}_export")
    sheet = home / f"{name}_sheet.jsonl"
    lines = [
        _answered(line, None if number % 20 == 3 else one.gold[line["id"]])
        for number, line in enumerate(read_lines(sheet))
    ]
    write_lines(sheet, lines)
    command(home, "review", "import", name, sheet.name, "--reviewer", "gold",
            name=f"{name}_import")  # fmt: skip
    for step, words in (
        ("decided", ["rounds=1"]), ("precise", ["rounds=1", "decide.min_precision=80%"]),
        ("again", ["rounds=2"]),
    ):  # fmt: skip
        lr.relabel(path, overrides=words)
        shutil.copytree(home / name, home / f"{name}_{step}")


def _answered(line: Mapping[str, Any], gold: Any) -> dict[str, Any]:
    """A line of a sheet as a person fills it in who knows the gold label, or is unsure (None)."""
    return {**line, "answer": gold, "unsure": gold is None}


@job
def people(home: Path) -> None:
    """People as the judge: the run waits, hears their answers from a sheet, and goes on."""
    one = read_set(FOMC)
    path = recorded_job(
        home, "people", one, model={"predictions": "predictions.jsonl"},
        judge={"model": "people"}, detect={"budget": 60},
    )  # fmt: skip
    for turn in (1, 2):
        command(home, "run", path.name, name=f"paused_{turn}", status=3)
        command(home, "review", "export", "people", "--judge", "-o", f"sheet_{turn}.jsonl",
                name=f"export_{turn}")  # fmt: skip
        lines = [
            _answered(line, None if number % 9 == 4 else one.gold[line["id"]])
            for number, line in enumerate(read_lines(home / f"sheet_{turn}.jsonl"))
        ]
        write_lines(home / f"sheet_{turn}.jsonl", lines if turn == 2 else lines[::2])
        command(home, "review", "import", "people", "--judge", f"sheet_{turn}.jsonl",
                "--reviewer", "gold", name=f"import_{turn}")  # fmt: skip
    command(home, "run", path.name, name="done")


@job
def evaluation(home: Path) -> None:
    """`eval` of recorded judges, with one label and with several."""
    one = read_set(FOMC)
    path = recorded_job(home, "fomc", one)
    files = [word for model in sorted(one.answers) for word in ("--recorded", answers_file(model))]
    command(home, "eval", path.name, "--gold", "gold.jsonl", *files, name="fomc_eval")
    path = recorded_job(home, "multi", many_labels()[0], model={"predictions": "predictions.jsonl"})
    command(home, "eval", path.name, "--recorded", "judge.jsonl", name="multi_eval")


@job
def llm(home: Path) -> None:
    """Language models over both wires: samples, controls, panel, escalation, faults, a pilot."""
    loopback_job.write_data(home, LLM_ROWS)
    rows = read_lines(home / "data.jsonl")
    write_lines(home / "data.jsonl", [
        {**row, "reviewed": number % 6 == 0} for number, row in enumerate(rows)
    ])  # fmt: skip
    data = {"path": "data.jsonl", "text": "text", "label": "label", "id": "id",
            "locked": "reviewed"}  # fmt: skip
    asked = {"samples": 3, "controls": "20%"}
    many = [{"model": "openai/second"}]
    variants: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, float]]] = {
        "samples": (asked, {"rounds": 2, "decide": {"policy": "fuse"}}, {}),
        "blind": ({"evidence": "blind"}, {}, {}),
        "in_words": ({"structured_output": "prompt"}, {}, {}),
        "panel": ({"panel": many}, {"decide": {"policy": "auto"}, "rounds": 2}, {}),
        "escalate": ({"escalate": many}, {}, {}),
        "faults": ({}, {}, {"off_schema": 0.1, "refusal": 0.1, "cut_answer": 0.1}),
        "pilot": ({"prices": {"input": 0.15, "output": 0.6}, "max_cost": 5.0}, {}, {}),
        "anthropic": ({"model": "anthropic/toy", **asked}, {"decide": {"policy": "agree"}}, {}),
    }
    for name, (changes, sections, faults) in variants.items():
        with judge_server(latency=0, varied=True, faults=faults, keep=True) as server:
            model = changes.get("model", "openai/toy")
            url = server.base_url(model)
            judge = {"model": model, "base_url": url, "max_cost": "none", **changes}
            for more in ("panel", "escalate"):
                judge |= {more: [{**each, "base_url": url} for each in judge.get(more, [])]}
            path = loopback_job.write_job(home, judge, data=data, **{**sections, "output": name})
            if name == "pilot":
                command(home, "plan", path.name, name="plan")
                command(home, "run", path.name, "--pilot", "30", name="pilot", status=3)
            lr.relabel(path)
            write_lines(home / f"{name}_payloads.jsonl", server.bodies())


@job
def multi_llm(home: Path) -> None:
    """Several labels out of a language model, also as an evaluation with anchoring."""
    one, _ = many_labels()
    raw = yaml.safe_load(
        recorded_job(home, "run", one, model={"predictions": "predictions.jsonl"})
        .read_text(encoding="utf-8")
    )  # fmt: skip
    for name, more in (
        ("run", {"samples": 3, "controls": "20%"}), ("blind", {"evidence": "blind"}),
    ):  # fmt: skip
        with judge_server(latency=0, varied=True, keep=True) as server:
            raw |= {"output": name, "judge": {"model": "openai/toy", "max_cost": "none",
                                              "base_url": server.openai_url, **more}}  # fmt: skip
            path = home / f"{name}.yaml"
            path.write_text(yaml.safe_dump(raw), encoding="utf-8")
            lr.relabel(path)
            if name == "blind":
                command(home, "plan", path.name, name="plan")
                command(home, "eval", path.name, "--anchoring", "30", "--set",
                        "detect.budget=60", name="eval")  # fmt: skip
            write_lines(home / f"{name}_payloads.jsonl", server.bodies())


@job
def killed(home: Path) -> None:
    """SIGKILL in the middle of judging and the same command again; beside it, undisturbed."""
    loopback_job.write_data(home, KILLED_ROWS)
    checks = {}
    for name in ("undisturbed", "killed"):
        with judge_server(latency=0.05, varied=True, keep=True) as server:
            loopback_job.write_job(
                home, {"model": "openai/toy", "base_url": server.openai_url, "concurrency": 8,
                       "max_cost": "none"},
            )  # fmt: skip
            process = loopback_job.start(home, name)
            if name == "killed":
                journal = home / "killed/round-1/verdicts.jsonl"
                while process.poll() is None and _count(journal) < KILL_AFTER:
                    time.sleep(0.01)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                shutil.copytree(home / "killed", home / "half")
                checks["the kill came in the middle"] = _unless(
                    _count(home / "half/round-1/verdicts.jsonl") < KILLED_ROWS, "all was judged"
                )
                process = loopback_job.start(home, name)
            if process.wait():
                raise RuntimeError((home / f"{name}.log").read_text(encoding="utf-8"))
            write_lines(home / f"{name}_payloads.jsonl", server.bodies())
        shutil.rmtree(home / "cache")
    for file in ("dataset.jsonl", "round-1/asks.jsonl"):
        same = _same(home / "killed", home / "undisturbed", file)
        checks[f"a kill changes nothing in {file}"] = _unless(same)
    write_checks(home, checks)


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _unless(holds: bool, why: str = "differs") -> str:
    return "" if holds else why


def _same(one: Path, other: Path, file: str) -> bool:
    return (one / file).read_bytes() == (other / file).read_bytes()


@job
def rollback(home: Path) -> None:
    """Changes undone by id, round, label, source, sheet, and all; then run, and report, again."""
    sets: dict[str, tuple[RecordedSet, dict[str, Any]]] = {
        "fomc": (read_set(FOMC), {"judge": {"model": f"recorded/{answers_file(JUDGES[FOMC])}"}}),
        "multi": (many_labels()[0], {}),
    }
    checks = {}
    for name, (one, changes) in sets.items():
        model = {"predictions": "predictions.jsonl"}
        path = recorded_job(home, name, one, model=model, decide={"policy": "fuse"}, **changes)
        run = lr.relabel(path)
        made = run.changes()
        ids = sorted({line["id"] for line in made})
        label = "card" if name == "multi" else "neutral"
        ways: dict[str, dict[str, Any]] = {
            "id": {"ids": ids[:3]}, "round": {"rounds": [made[0]["round"]]},
            "label": {"labels": [label]}, "source": {"sources": [made[0]["source"]]},
            "sheet": {"sheet": home / f"{name}_marked.csv"}, "all": {"everything": True},
        }  # fmt: skip
        text = (home / name / "changes.csv").read_bytes().decode("utf-8-sig")
        marked = [line.removesuffix('""') + '"x"' if number % 4 == 1 and line.endswith('""')
                  else line for number, line in enumerate(text.split("\r\n"))]  # fmt: skip
        (home / f"{name}_marked.csv").write_text("\r\n".join(marked), encoding="utf-8", newline="")
        undone = {}
        for way, chosen in ways.items():
            folder = home / f"{name}_{way}"
            shutil.copytree(home / name, folder)
            undone[way] = lr.Run(folder).rollback(**chosen)
            command(home, "report", folder.name, name=f"{folder.name}_report")
        for way in ("id", "round"):
            shutil.copytree(home / f"{name}_{way}", home / f"{name}_{way}_and_run")
            lr.relabel(path, overrides=[f"output={name}_{way}_and_run"])
        (home / f"{name}_undone.json").write_text(json.dumps(undone) + "\n", encoding="utf-8")
        given = (home / "data.jsonl").read_bytes()
        found = (home / f"{name}_all" / "dataset.jsonl").read_bytes()
        checks[f"{name}: all undone is the data as they came"] = _unless(given == found)
    write_checks(home, checks)


def take_over(home: Path, before: Path) -> None:
    """Go on with run folders that an older checkout wrote, report them, and undo all changes."""
    # Other jobs asked some of the same questions: their answers would stand for calls.
    os.environ["LLM_RELABEL_CACHE"] = str(home / "cache")
    checks: dict[str, str] = {}
    for folder, name, *whole in (*FINISHED, *STOPPED):
        try:
            checks |= _taken_over(home / folder, before / folder, name, (whole or [name])[0])
        except Exception as error:  # whatever it is, it is what this looks for
            checks[f"{folder}/{name}: goes on"] = f"{type(error).__name__}: {error}"
    write_checks(home, checks)


def _taken_over(home: Path, there: Path, name: str, whole: str) -> dict[str, str]:
    """Go on with the run NAME; it must then have the labels of the run WHOLE."""
    home.mkdir(exist_ok=True)
    shutil.copytree(there / name, home / name)
    path = there / ("job.yaml" if name == "half" else f"{name}.yaml")
    checks, overrides = {}, [f"output={home / name}"]
    with judge_server(latency=0, varied=True) as server:
        if name == "half":
            overrides.append(f"judge.base_url={server.openai_url}")
        lr.relabel(path, overrides=overrides)
        calls = sum(server.counts()["calls"].values())
    left = KILLED_ROWS - _count(there / "half/round-1/verdicts.jsonl") if name == "half" else 0
    checks["asks what has no verdict"] = _unless(calls == left, f"{calls} calls for {left} items")
    command(home, "report", name, name=f"{name}_report")
    kept = ["predictions.parquet"]
    if name == whole:
        kept += ["asks.jsonl", "verdicts.jsonl", "changes.jsonl"]
    for file in (there / name).rglob("*"):
        if file.name in kept:
            of = str(file.relative_to(there / name))
            checks[f"{of} untouched"] = _unless(_same(home / name, there / name, of))
    checks["same labels"] = _unless(_same(home / name, there / whole, "dataset.jsonl"))
    shutil.copytree(home / name, home / f"{name}_all")
    undone = lr.Run(home / f"{name}_all")
    undone.rollback(everything=True)
    given = (there / "data.jsonl").read_bytes()
    checks["all undone is the data as they came"] = _unless(
        undone.dataset_path().read_bytes() == given
    )
    return {f"{home.name}/{name}: {claim}": wrong for claim, wrong in checks.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(JOBS))
    parser.add_argument("--take-over", type=Path)
    wanted = parser.parse_args()
    if not Path(lr.__file__).resolve().is_relative_to(wanted.checkout.resolve()):
        sys.exit(f"llm_relabel came from {lr.__file__!r}, not from {str(wanted.checkout)!r}")
    jobs = {name: JOBS[name] for name in wanted.only}
    if (before := wanted.take_over) is not None:
        jobs = {"take_over": lambda home: take_over(home, before)}
    for name, run in jobs.items():
        began = time.monotonic()
        (wanted.home / name).mkdir(parents=True)
        run(wanted.home / name)
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
