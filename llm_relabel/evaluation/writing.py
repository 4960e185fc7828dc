"""The files of an evaluation: `agreement.json`, and the same for people in `agreement.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.files.journal import write_whole
from llm_relabel.measure import Accuracy
from llm_relabel.measure import title as title_of
from llm_relabel.spellings import visible_name

FIGURES, MARKDOWN, ANSWERS = "agreement.json", "agreement.md", "answers.jsonl"
CONFUSED = 8  # pairs of labels, and classes, that are listed for each judge
CLASSES = 40

COEFFICIENTS = (
    ("macro_f1", "macro F1"), ("micro_f1", "micro F1"), ("overlap", "overlap"),
    ("macro_precision", "macro precision"), ("macro_recall", "macro recall"),
    ("kappa", "Cohen's kappa"), ("matthews", "Matthews"),
)  # fmt: skip
RATES = (
    ("pull_to_old", "pull to the old label"),
    ("pull_to_prediction", "pull to the prediction"),
    ("swap_flips", "answers that flip when the order is swapped"),
    ("repeat_flips", "answers that differ when simply repeated"),
    ("planted_kept", "planted wrong labels taken"),
    ("planted_given_blind", "the same labels given when none was shown"),
    ("referenced_less_blind", "accuracy, labels shown less not shown"),
)


def write(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write both files."""
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    write_whole(folder / FIGURES, (text + "\n").encode())
    write_whole(folder / MARKDOWN, ("\n".join(_lines(figures)).rstrip() + "\n").encode())


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    judges = figures["judges"]
    yield "# Agreement with gold"
    yield ""
    yield (
        f"{figures['items']:,} items with gold of {figures['rows']:,} rows; "
        f"{len(figures['classes'])} labels; 95% intervals in brackets: exact for shares, a "
        "bias-corrected bootstrap for the rest. `right` counts an abstention as wrong; `right "
        "when answered` leaves it out."
    )
    yield f"\n**{_cell(figures['conclusion'])}**"
    for warning in figures["warnings"]:
        yield f"\nWarning: {warning}"
    if figures["items"] and len(_used(figures)) == 1:
        yield (
            "\nGold holds one label only: kappa and its kind say nothing here, and accuracy says "
            "little."
        )
    yield ""
    yield from _table(
        ("", "right", "right when answered", "answered", "abstained", "failed"),
        [
            (
                name,
                percent(found["accuracy"]["abstained_wrong"]),
                percent(found["accuracy"]["answered_only"]),
                percent(found["coverage"]),
                *(
                    str(found["took"][word]) if "took" in found else "-"
                    for word in ("abstained", "failed")
                ),
            )
            for name, found in judges.items()
        ],
    )
    yield from _measure(figures)
    yield from _coefficients(judges)
    yield from _pairs(figures)
    yield from _people(figures)
    yield from _confidence(judges)
    yield from _took(judges)
    yield from _anchoring(figures)
    for name, found in judges.items():
        yield from _classes(name, found, figures["classes"])
    yield from _provenance(figures)


def _measure(figures: Mapping[str, Any]) -> Iterator[str]:
    """The task's own measure, where it is another than how many answers are right."""
    if figures["measure"] == Accuracy.name:
        return
    show = percent if figures.get("percent", True) else number
    yield f"\n## {title_of(figures)}\n"
    yield from _table(
        ("", "an abstention counted as wrong", "abstentions left out"),
        [
            (
                name,
                show(found["measure"]["abstained_wrong"]),
                show(found["measure"]["answered_only"]),
            )
            for name, found in figures["judges"].items()
        ],
    )


def _coefficients(judges: Mapping[str, Any]) -> Iterator[str]:
    for reading, title in (
        ("abstained_wrong", "Coefficients, an abstention counted as a wrong answer"),
        ("answered_only", "Coefficients, abstentions left out"),
    ):
        used = [
            (key, word)
            for key, word in COEFFICIENTS
            if any(reading in found.get(key, {}) for found in judges.values())
        ]
        if not used:
            continue
        rows = [
            (name, *(number(found[key][reading]) for key, _ in used))
            for name, found in judges.items()
        ]
        header = ["", *(word for _, word in used)]
        if reading == "answered_only" and all("alpha" in found for found in judges.values()):
            header.append("Krippendorff's alpha")
            rows = [
                (*row, number(found["alpha"]))
                for row, found in zip(rows, judges.values(), strict=True)
            ]
        yield f"\n## {title}\n"
        yield from _table(header, rows)


def _pairs(figures: Mapping[str, Any]) -> Iterator[str]:
    if not figures["pairs"]:
        return
    yield "\n## Which is right more often\n"
    yield "Exact McNemar on the same items; p is corrected for the number of pairs (Holm).\n"
    kappas = {tuple(pair["judges"]): pair for pair in figures.get("between", ())}
    rows = []
    for pair in figures["pairs"]:
        one, other = pair["judges"]
        between = kappas.get((one, other))
        rows.append(
            (
                f"{one} less {other}", percent(pair["difference"], signed=True),
                str(pair["only_first"]), str(pair["only_second"]), _p(pair["p_corrected"]),
                "-" if between is None or between["kappa"] is None else f"{between['kappa']:.3f}",
            )
        )  # fmt: skip
    if "alpha_of_all" in figures:
        yield f"Krippendorff's alpha of all together: {number(figures['alpha_of_all'])}.\n"
    header = ("", "difference", "only the first right", "only the second", "p", "kappa of the two")
    yield from _table(header, rows)


def _people(figures: Mapping[str, Any]) -> Iterator[str]:
    people = figures.get("people")
    if people is None:
        return
    yield "\n## People\n"
    pairwise = "-" if people["pairwise"] is None else f"{people['pairwise']:.1%}"
    yield (
        f"{people['raters']} raters, {people['items']:,} items with two or more of them. "
        f"Krippendorff's alpha among them {number(people['alpha'])}; two raters of one item "
        f"agree in {pairwise} of the cases.\n"
    )
    rows = []
    for name, found in people["judges"].items():
        if found["passed"] is None:
            rows.append((name, found["why"], "", "", number(found["alpha_with_people"])))
        else:
            verdict = "could replace a rater" if found["passed"] else "could not"
            advantage = f"{found['advantage']:.3f}"
            wins = percent(found["winning_rate"])
            rows.append((name, verdict, wins, advantage, number(found["alpha_with_people"])))
    yield "The alternative annotator test: does a judge agree with the others as a rater does?\n"
    header = ("", "verdict", "raters it wins over", "advantage probability",
              "alpha, the judge among them")  # fmt: skip
    yield from _table(header, rows)


def _confidence(judges: Mapping[str, Any]) -> Iterator[str]:
    stated = {name: found["confidence"] for name, found in judges.items() if "confidence" in found}
    if not stated:
        return
    yield "\n## Does it know when it is right?\n"
    wanted = [each["wanted"] for each in next(iter(stated.values()))["thresholds"]]
    rows = []
    for name, found in stated.items():
        cells = []
        for each in found["thresholds"]:
            at = each["threshold"]
            if at["value"] is None:
                cells.append("never")
            else:
                span = "" if at["low"] is None else f" [{at['low']:.2f}, {at['high']:.2f}]"
                cells.append(f"{at['value']:.2f}{span}, keeps {each['coverage']:.0%}")
        rows.append((name, number(found["calibration_error"]), number(found["auroc"]), *cells))
    header = ["", "calibration error", "AUROC", *(f"confidence for {each:.0%}" for each in wanted)]
    yield from _table(header, rows)


def _took(judges: Mapping[str, Any]) -> Iterator[str]:
    took = {name: found["took"] for name, found in judges.items() if "took" in found}
    if not took:
        return
    yield "\n## Cost and time\n"
    rows = []
    for name, found in took.items():
        seconds = found["seconds"]
        latency = "-" if seconds is None else f"{seconds['p50']:.2f} s, {seconds['p95']:.2f} s"
        cost = "-" if found["cost"] is None else f"${found['cost']:.4f}"
        each = "-" if found["cost_per_item"] is None else f"${found['cost_per_item']:.6f}"
        reasons = ", ".join(f"{count} {reason}" for reason, count in found["reasons"].items())
        calls, cached = f"{found['calls']:,}", f"{found['cached']:,}"
        rows.append((name, calls, cached, cost, each, latency, reasons or "-"))
    header = ("", "calls", "from the cache", "cost", "for each paid item", "latency p50, p95",
              "no answer because")  # fmt: skip
    yield from _table(header, rows)


def _anchoring(figures: Mapping[str, Any]) -> Iterator[str]:
    for variant, found in figures.get("anchoring", {}).items():
        yield f"\n## Does it lean to the labels it is shown? ({variant})\n"
        if "note" in found:
            yield found["note"]
            continue
        yield f"{found['items']:,} items in five arms.\n"
        names = list(found["judges"])
        rows = [
            (
                word,
                *(
                    percent(
                        found["judges"][name][key],
                        signed=key.startswith("pull") or key.startswith("referenced"),
                    )
                    for name in names
                ),
            )
            for key, word in RATES
        ]
        arms = next(iter(found["judges"].values()))["accuracy"]
        rows += [
            (
                f"right, {arm}",
                *(percent(found["judges"][name]["accuracy"][arm]) for name in names),
            )
            for arm in arms
        ]
        yield from _table(("", *names), rows)
        for name in names:
            took = found["judges"][name]["took"]
            cost = "" if took["cost"] is None else f", ${took['cost']:.4f}"
            yield (
                f"\n{name} ({took['calls']:,} calls, {took['cached']:,} from the cache{cost}): "
                f"{found['judges'][name]['advice']}"
            )


def _classes(name: str, found: Mapping[str, Any], classes: Sequence[str]) -> Iterator[str]:
    yield f"\n## {name}: by class\n"
    shown = sorted(found["by_class"], key=lambda each: -each["gold"])[:CLASSES]
    rows = [
        (
            each["label"], str(each["gold"]), str(each["answered"]),
            *(percent(each[key]) for key in ("precision", "recall", "f1")),
        )
        for each in shown
    ]  # fmt: skip
    yield from _table(("label", "gold", "answered", "precision", "recall", "F1"), rows)
    if len(found["by_class"]) > CLASSES:
        yield f"\n{len(found['by_class']) - CLASSES} smaller classes are in `{FIGURES}` only."
    matrix = found.get("confusion")
    if matrix is None:
        return
    pairs = [
        (count, classes[true], classes[said])
        for true, row in enumerate(matrix)
        for said, count in enumerate(row[: len(classes)])
        if true != said and count
    ]
    if pairs:
        yield "\nMost often confused:\n"
        for count, true, said in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:CONFUSED]:
            yield f"- {count:,} of {_cell(true)} were called {_cell(said)}"


def _provenance(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## Provenance\n"
    yield f"- made {figures['at']}, evidence {figures['evidence']}"
    for key, value in {**figures["identity"], **figures["versions"]}.items():
        yield f"- {key}: {value}"


def percent(figure: Mapping[str, Any], *, signed: bool = False) -> str:
    """A share with its interval; "too few" where it says more about chance."""
    return _figure(figure, lambda value: f"{value * 100:{'+' if signed else ''}.1f}%")


def number(figure: Mapping[str, Any]) -> str:
    """A coefficient with its interval."""
    return _figure(figure, lambda value: f"{value:.3f}")


def _figure(figure: Mapping[str, Any], show: Any) -> str:
    if figure["value"] is None:
        return "-"
    text = str(show(figure["value"]))
    if figure["low"] is not None:
        text += f" [{show(figure['low']).rstrip('%')}, {show(figure['high']).rstrip('%')}]"
    return f"{text} (too few: {figure['of']})" if figure.get("too_few") else text


def _p(value: float) -> str:
    return "under 0.001" if value < 0.001 else f"{value:.3f}"


def _used(figures: Mapping[str, Any]) -> list[str]:
    """The labels that occur in gold."""
    by_class = next(iter(figures["judges"].values()))["by_class"]
    return [each["label"] for each in by_class if each["gold"]]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "| " + " | ".join("---" for _ in header) + " |"
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"


def _cell(text: str) -> str:
    """Text of the data inside a table's cell."""
    return " ".join(visible_name(text).split()).replace("|", "\\|").replace("<", "&lt;")
