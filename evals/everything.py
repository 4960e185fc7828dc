"""Every benchmark that the data at hand allows, and the table of what they found.

    LLM_RELABEL_DATA=... python evals/everything.py [--only NAME ...] [--table]

Runs each script as its own process, goes on when one fails, and writes `results/README.md` and
`results/table.json` with every headline figure, its interval where it has one, the command and
the date; the manual's page `figures` shows all of them, the project's README some. `--table` only
writes these anew from the results that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import RESULTS, table

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
FIGURES = HERE.parent / "llm_relabel" / "manual" / "figures.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

# What the README shows, by a part of the figure's name; where the labels got worse is among it.
IN_README = (
    "TREC-6, sym20", "mean over", "TREC-6 conf20", "own programmatic labels", "by 100 spot-checks",
    "significantly worse", "no spot-check, 7", "interval, through the choice", "and 14 kills",
    "under a money cap", "hostile texts", "finer_ord, gpt-4o", "useless guidelines",
    "gold 300, a simulated reader of prose alone", "draw 1, simulated judge of 80%",
    "red cells), simulated judge of 80%",
)  # fmt: skip

Row = tuple[str, str]
Headlines = Callable[[dict[str, Any]], Iterator[Row]]


def of_flagging(r: dict[str, Any]) -> Iterator[Row]:
    for noise, (ours, target) in r["targets"].items():
        yield (
            f"finding wrong labels, TREC-6, {noise}: average precision",
            f"{ours:.3f} (aim {target})",
        )


def of_agreement(r: dict[str, Any]) -> Iterator[Row]:
    equal = sum(each["equal"] for each in r["results"])
    yield (
        "recorded LLMs whose accuracy and kappa equal the sets' READMEs",
        f"{equal} of {len(r['results'])}",
    )


def of_intervals(r: dict[str, Any]) -> Iterator[Row]:
    shares = [e["covered"] for e in r["results"] if e["of"] == "share"]
    rest = [e["covered"] for e in r["results"] if e["of"] != "share" and e["n"] >= 100]
    yield (
        f"coverage of 95% intervals, {r['simulations']:,} simulations: shares; others, n >= 100",
        f"at least {min(shares):.1%}; at least {min(rest):.1%}",
    )


def of_leaning(r: dict[str, Any]) -> Iterator[Row]:
    def mean(name: str) -> str:
        return f"{100 * sum(each[name] for each in r['results']) / len(r['results']):.1f}%"

    yield (
        f"leaning to the side that the texts vouch for, {len(r['results'])} recorded LLMs on all "
        "items: right labels, the weight chosen with the set left out",
        f"{mean('left out')} ({mean('given labels')} before, {mean('no views')} without views)",
    )


def of_detection(r: dict[str, Any]) -> Iterator[Row]:
    for name, half, strict in r["model"]:
        yield (
            f"detection, blood cells, {name}: the detector's mAP at IoU .5, at .75",
            f"{half:.3f}, {strict:.3f}",
        )
    for each in r["flags"]:
        told = ", ".join(
            f"{kind} {each['ours'][kind]:.2f} ({each['objectlab'][kind]:.2f})"
            for kind in each["ours"]
        )
        yield (
            f"detection, blood cells, {each['labels']}: faults found, average precision "
            "(cleanlab's ObjectLab)",
            told,
        )
    for each in r["decide"]:
        before, one, two = (
            " / ".join(f"{value:.3f}" for value in each[key])
            for key in ("given", "round 1", "round 2")
        )
        yield (
            f"detection, blood cells, {each['labels']}, simulated judge of {each['judge']}: box F1 "
            "at .5 / .75 before, after one round, after two",
            f"{before}, {one}, {two}",
        )


def of_tagging(r: dict[str, Any]) -> Iterator[Row]:
    for name in dict.fromkeys(each["set"] for each in r["model"]):
        of = [each for each in r["model"] if each["set"] == name]
        figures = {key: statistics.mean(each[key] for each in of) for key in ("ap", "cleanlab")}
        yield (
            f"tagging, {name}: finding wrong sentences, average precision",
            f"{figures['ap']:.3f} (best of cleanlab's four {figures['cleanlab']:.3f})",
        )
    judges = dict.fromkeys((each["set"], each["name"]) for each in r["decide"])
    for name, judge in judges:
        of = [each for each in r["decide"] if (each["set"], each["name"]) == (name, judge)]
        before, after, checked, own = (
            statistics.mean(each[key] for each in of) for key in ("keep", "fuse", "checks", "judge")
        )
        yield (
            f"tagging, {name}, {judge} on 30%: span F1 before, after, with 30 spot-checks",
            f"{before:.3f}, {after:.3f}, {checked:.3f} (the judge's own {own:.3f})",
        )


def of_tune(r: dict[str, Any]) -> Iterator[Row]:
    worst = max(max(row["ours"], row["ours, two halves"]) for row in r["useless"])
    best = max(row["best on all gold"] for row in r["useless"])
    yield (
        "tuning with useless guidelines, 1,000 tunings of each kind: accepted at most; by the best "
        "mean on all gold",
        f"{worst:.1%}; {best:.1%}",
    )
    for row in r["gaps"]:
        before, after, hand, gap, calls = (
            statistics.mean(run[key] for run in row["runs"])
            for key in ("before", "after", "hand", "gap", "calls")
        )
        yield (
            f"tuning from definitions that say nothing, gold {row['gold']}, a simulated reader of "
            f"{row['reader']}: right answers before, after, with hand-written ones",
            f"{before:.1%}, {after:.1%}, {hand:.1%}: {gap:.0%} of the gap by {calls:.0f} calls",
        )


def of_tune_caps(r: dict[str, Any]) -> Iterator[Row]:
    over = sum(run["calls"] > run["max_calls"] or run["bill"] > run["max_cost"] + 1e-6
               for run in r["runs"])  # fmt: skip
    kills = r["kills"]
    yield (
        f"{len(r['runs'])} random tunings under caps on calls and money: over one; "
        f"{kills['kills']} kills of one tuning: paid again",
        f"{over}; {kills['calls killed'] - kills['calls undisturbed']} of at most "
        f"{kills['in flight at most']} in flight, the same file",
    )


def of_embedding(r: dict[str, Any]) -> Iterator[Row]:
    for kind in ("bfloat16", "int8"):
        some = [each for each in r["results"] if each["precision"] == kind]
        full = [each for each in r["results"] if each["precision"] == "float32"]
        speed = sum(e["a_second"] for e in some) / sum(e["a_second"] for e in full)
        yield (
            f"embedding in {kind} against float32: speed; the same neighbours and flags, at least",
            f"{speed:.1f} times; {min(e['neighbours'] for e in some):.1%}, "
            f"{min(e['flags'] for e in some):.1%}",
        )


def of_relabeling(r: dict[str, Any]) -> Iterator[Row]:
    means = r["means"]
    yield (
        f"right labels, mean over {len(r['results'])} recorded LLMs as judge, no spot-check",
        f"{means['given']:.1%} before, {means['ours']:.1%} after (judge alone "
        f"{means['judge_alone']:.1%}, cleanlab's fix {means['cleanlab']:.1%})",
    )


def of_decide(r: dict[str, Any]) -> Iterator[Row]:
    for case in r["cases"]:
        ours = case["methods"]["fuse"]
        yield (
            f"{case['name']}: right labels before, after",
            f"{case['before']:.1%}, {ours['mean']:.1%} ({ours['least']:.1%} to "
            f"{ours['most']:.1%}) for {case['calls']:.0%} of the calls",
        )


def of_spot_checks(r: dict[str, Any]) -> Iterator[Row]:
    totals, plain = r["totals"], r["without"]
    ours = totals["gated"]
    yield (
        f"choosing by 100 spot-checks, {totals['runs']:,} runs: right labels; points to the best "
        "in hindsight, mean and 90th percentile",
        f"{ours['accuracy']:.1%} (given {totals['given']:.1%}, judge on everything "
        f"{totals['judge']:.1%}); {100 * ours['distance']:.1f}, {100 * ours['distance_p90']:.1f}",
    )
    yield (
        "the same: significantly worse than the better of given labels and judge",
        f"{ours['worse']:.1%} of the runs",
    )
    lost = [each for each in plain if each["lost"]]
    yield (
        f"no spot-check, {len(plain)} recorded LLMs: right labels; lost against the given labels, "
        "of which warned",
        f"{statistics.mean(each['default'] for each in plain):.1%} (given "
        f"{statistics.mean(each['keep'] for each in plain):.1%}); {len(lost)}, "
        f"{sum(each['warned'] for each in lost)}",
    )
    covered = min(r["coverage"].values())
    yield "the certificate's 95% interval, through the choice", f"covers at least {covered:.1%}"


def of_later_rounds(r: dict[str, Any]) -> Iterator[Row]:
    held = sum(each["held"] for each in r["sets"].values())
    of = sum(each["runs"] for each in r["sets"].values())
    off = statistics.mean(run["value"] - run["true"] for run in r["runs"])
    yield (
        "the certificate after a further round: intervals that hold; certified less true",
        f"{held} of {of}; {100 * off:+.1f} points",
    )


def of_budget(r: dict[str, Any]) -> Iterator[Row]:
    lines = [line for line in r["runs"] if "own labels" not in line["case"]]
    areas = {
        order: statistics.mean(line["area"][order] for line in lines) for order in lines[0]["area"]
    }
    yield (
        f"right labels over all calls (area), {len(lines)} simulated runs, by expected gain",
        f"{areas['gain']:.2%} (label quality {areas['label quality']:.2%}, random "
        f"{areas['random']:.2%})",
    )


def of_fusion(r: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"fusing {r['rows']:,} items, {r['classes']} classes, {r['sources']} sources",
        f"{r['seconds']:.1f} s, {r['gigabytes']:.1f} GB",
    )


def of_throughput(r: dict[str, Any]) -> Iterator[Row]:
    ratios = r["ratios"]
    yield (
        "calls a second, concurrency 64 and 256: ours over the bare SDK loop",
        ", ".join(f"{each['provider']} {each['ours_over_sdk']:.2f}" for each in ratios),
    )
    yield (
        "the same over bare litellm",
        ", ".join(f"{each['ours_over_litellm']:.1f}" for each in ratios),
    )
    yield (
        "2,000 items end to end",
        f"{statistics.median(r['end_to_end']['per_second']):.0f} items a second",
    )


def of_faults(r: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"{r['items']:,} items under faults and {r['kills']} kills: with a verdict; paid again",
        f"{r['with a verdict']:,}; {r['answers paid again']} of at most "
        f"{r['most that were in flight at the kills']} in flight",
    )


def of_money(r: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"{len(r['runs'])} random runs under a money cap: over it",
        str(sum(bool(run["problems"]) for run in r["runs"])),
    )


def of_hostile(r: dict[str, Any]) -> Iterator[Row]:
    checks = r["checks"]
    told = ", ".join(
        f"{sum(len(e[kind]) for e in checks)} {kind}" for kind in ("escapes", "leaks", "crashes")
    )
    texts = sum(r["families"].values())
    yield f"{texts} hostile texts through every provider and whole runs", told


def of_large(r: dict[str, Any]) -> Iterator[Row]:
    found = r["results"]
    yield (
        f"{r['rows']:,} items: eval, report, size of the page",
        f"{found['eval']['seconds']:.0f} s, {found['report']['seconds']:.0f} s, "
        f"{r['report_mb']:.1f} MB",
    )


# Name, whether it needs the data folder, its headline figures.
SCRIPTS: list[tuple[str, bool, Headlines | None]] = [
    ("flagging", True, of_flagging),
    ("relabeling", True, of_relabeling),
    ("leaning", True, of_leaning),
    ("decide", True, of_decide),
    ("spot_checks", True, of_spot_checks),
    ("later_rounds", True, of_later_rounds),
    ("rounds", True, None),
    ("embedding", True, of_embedding),
    ("tagging", True, of_tagging),
    ("detection", False, of_detection),
    ("tune", False, of_tune),
    ("tune_caps", False, of_tune_caps),
    ("budget", True, of_budget),
    ("fusion_speed", False, of_fusion),
    ("agreement", True, of_agreement),
    ("intervals", False, of_intervals),
    ("judge_throughput", False, of_throughput),
    ("faults", False, of_faults),
    ("money_cap", False, of_money),
    ("hostile", False, of_hostile),
    ("large", False, of_large),
    ("overhead", False, None),
    ("load_rows", False, None),
    ("embedded_judge", True, None),
]


def run(name: str) -> str | None:
    """Run one script; why it failed, or None."""
    print(f"--- {name}", file=sys.stderr)
    began = time.monotonic()
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False)
    print(f"--- {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return None if done.returncode == 0 else f"exit {done.returncode}"


def headlines() -> list[dict[str, str]]:
    """The table from the results that are there; a script without results has no row."""
    found = []
    for name, _, told in SCRIPTS:
        path = RESULTS / f"{name}.json"
        if told is None or not path.exists():
            continue
        results = json.loads(path.read_text(encoding="utf-8"))
        for what, figure in told(results):
            found.append({
                "what": what, "figure": figure, "command": f"python evals/{name}.py",
                "results": f"{name}.md", "date": results["about"]["date"],
            })  # fmt: skip
    return found


def write_table(failed: dict[str, str]) -> None:
    """`results/README.md`, `results/table.json`, the manual's page and the README's part."""
    rows = headlines()
    versions = {}
    for name, _, _ in SCRIPTS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            versions.update(json.loads(path.read_text(encoding="utf-8")).get("about", {}))
    lines = table(
        ["what", "figure", "results", "date"],
        [[r["what"], r["figure"], f"[{r['command']}]({r['results']})", r["date"]] for r in rows],
    )
    text = f"# Results\n\n`make evals` writes this table.\n\n{lines}\n\nVersions: {versions}\n"
    if failed:
        text += "\nFailed: " + "; ".join(f"{n}: {why}" for n, why in failed.items()) + "\n"
    (RESULTS / "README.md").write_text(text, encoding="utf-8")
    measured = {"rows": rows, "versions": versions, "failed": failed}
    (RESULTS / "table.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    listed = [
        textwrap.fill(f"- {r['what']}: **{r['figure']}**", 80, subsequent_indent="  ",
                      break_on_hyphens=False)
        + f"\n  [`{r['command']}`](../../evals/results/{r['results']})"
        for r in rows
    ]  # fmt: skip
    write_between(FIGURES, "\n".join(listed))
    shown = table(
        ["what", "figure", "how"],
        [
            [r["what"], r["figure"], f"[`{r['command']}`](evals/results/{r['results']})"]
            for r in rows
            if any(part in r["what"] for part in IN_README)
        ],
    )
    write_between(README, shown)


def write_between(path: Path, text: str) -> None:
    """`text` in the place of what stands between the two marks of a page."""
    page = path.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--table", action="store_true", help="run nothing")
    wanted = parser.parse_args()
    failed: dict[str, str] = {}
    for name, needs_data, _ in SCRIPTS:
        if wanted.table or (wanted.only and name not in wanted.only):
            continue
        if needs_data and not os.environ.get("LLM_RELABEL_DATA"):
            failed[name] = "left out: LLM_RELABEL_DATA is not set"
        elif (why := run(name)) is not None:
            failed[name] = why
    write_table(failed)
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    sys.exit(bool([why for why in failed.values() if why.startswith("exit")]))


if __name__ == "__main__":
    main()
