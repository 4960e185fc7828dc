"""Every figure of the page, drawn from the gathered facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_relabel.measure import title, told
from llm_relabel.report.facts import Facts
from llm_relabel.report.svg import (
    ACCENT,
    BAND,
    INK,
    LINE,
    PAGE,
    SECOND,
    SOFT,
    drawing,
    inline,
    shown,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIBBONS = 14
CLASSES = 20
FEW = 4  # so many class names stand beside each other
DARKEST = 0.6  # opacity at which the page's ink is still read on the accent, light and dark


def figures(facts: Facts) -> dict[str, str]:
    """SVG by name; a figure that has nothing to show is left out."""
    drawn = {
        "flow": _flow(facts.sets),
        "classes": _classes(facts.by_class),
        "quality": _quality(facts.quality),
        "rounds": _rounds(facts),
        "curve": _curve(facts.measures),
        "reliability": _reliability(facts.judges),
    }
    for place, matrix in enumerate(facts.confusions):
        drawn[f"confusion-{place + 1}"] = _confusion(f"confusion-{place + 1}", matrix)
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _flow(sets: Sequence[Mapping[str, Any]]) -> str | None:
    """Ribbons from the old label to the new one, as wide as the number of changes."""
    if not sets:
        return None
    ribbons = sets[:RIBBONS]
    left, right = _ends(ribbons, "old"), _ends(ribbons, "new")
    gap = 0.055 * sum(each["count"] for each in ribbons)
    tops = [_stacked(side, gap) for side in (left, right)]
    height = max(sum(side.values()) + gap * (len(side) - 1) for side in (left, right))
    pixels = max(120, 24 * max(len(left), len(right)) + 60)
    with drawing(pixels) as (figure, (ax,)):
        from matplotlib.patches import PathPatch, Rectangle
        from matplotlib.path import Path

        for side, (x, names) in enumerate(((0.36, left), (0.625, right))):
            for name, size in names.items():
                top = tops[side][name]
                ax.add_patch(Rectangle((x, -top - size), 0.015, size, color=INK, lw=0))
                at, where = (x - 0.012, "right") if side == 0 else (x + 0.027, "left")
                label = f"{shown(name, 23)} · {size:,}"
                ax.text(at, -top - size / 2, label, ha=where, va="center", fontsize=10.5)
        begun = [dict(each) for each in tops]
        order = sorted(ribbons, key=lambda each: (begun[0][each["old"]], begun[1][each["new"]]))
        for each in order:
            a, b = begun[0][each["old"]], begun[1][each["new"]]
            size = each["count"]
            begun[0][each["old"]] += size
            begun[1][each["new"]] += size
            middle = 0.5
            points = [(0.375, -a), (middle, -a), (middle, -b), (0.625, -b), (0.625, -b - size),
                      (middle, -b - size), (middle, -a - size), (0.375, -a - size),
                      (0.375, -a)]  # fmt: skip
            codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3,
                     Path.CLOSEPOLY]  # fmt: skip
            ax.add_patch(PathPatch(Path(points, codes), color=ACCENT, alpha=0.38, lw=0))
        ax.set(xlim=(0, 1), ylim=(-height * 1.02, height * 0.02))
        ax.axis("off")
        told = "; ".join(f"{e['count']} from {e['old']} to {e['new']}" for e in ribbons[:5])
        return inline(figure, "flow", f"Flow of changed labels, given to new. Largest: {told}")


def _classes(by_class: Sequence[Mapping[str, Any]]) -> str | None:
    """A hollow dot before, a filled one after, for the classes whose count changed most."""
    if not by_class:
        return None
    moved = sorted(by_class, key=lambda e: (-abs(e["after"] - e["before"]), -e["before"]))
    chosen = sorted(moved[:CLASSES], key=lambda e: e["before"] - e["after"])
    with drawing(52 + 21 * len(chosen)) as (figure, (ax,)):
        places = range(len(chosen))
        before = [entry["before"] for entry in chosen]
        after = [entry["after"] for entry in chosen]
        ax.hlines(places, before, after, color=ACCENT, lw=3, alpha=0.4, zorder=1)
        ax.scatter(before, places, s=36, facecolor=PAGE, edgecolor=SOFT, lw=1.5, zorder=2)
        ax.scatter(after, places, s=36, color=ACCENT, lw=0, zorder=3)
        ax.set_yticks(range(len(chosen)), [shown(e["label"], 26) for e in chosen], color=INK)
        ax.set_ylim(len(chosen) - 0.4, -0.6)
        ax.grid(axis="x")
        ax.spines["left"].set_visible(False)
        _thousands(ax, "x")
        ax.margins(x=0.06)
        signs = ax.secondary_yaxis("right")
        signs.set_yticks(range(len(chosen)), [_signed(e["after"] - e["before"]) for e in chosen])
        signs.spines["right"].set_visible(False)
        ax.set_xlabel("rows: ring before, dot after")
        told = "; ".join(f"{e['label']} {e['before']} to {e['after']}" for e in chosen[:5])
        return inline(figure, "classes", f"Rows of each class before and after: {told}")


def _quality(rounds: Sequence[Mapping[str, Any]]) -> str | None:
    """Label quality by round: flagged and unflagged rows, and the cut between them."""
    drawn = [rounds[0], rounds[-1]] if len(rounds) > 2 else list(rounds)
    if not drawn:
        return None
    with drawing(35 + 135 * len(drawn), rows=len(drawn)) as (figure, axes):
        for ax, entry in zip(axes, drawn, strict=True):
            edges = entry["edges"][:-1]
            width = entry["edges"][1] - entry["edges"][0]
            options = {"width": width * 0.86, "align": "edge", "lw": 0}
            ax.bar(edges, entry["unflagged"], color=SOFT, alpha=0.45, label="not flagged",
                   bottom=entry["flagged"], **options)  # fmt: skip
            ax.bar(edges, entry["flagged"], color=ACCENT, label="flagged", **options)
            if entry["cut"] is not None:
                ax.axvline(entry["cut"], color=SECOND, lw=1.5, ls=(0, (4, 3)))
                where = ("left", 5) if entry["cut"] < 0.6 else ("right", -5)
                ax.annotate(f"none flagged above {entry['cut']:.2f}", (entry["cut"], 0.9),
                            xycoords=("data", "axes fraction"), xytext=(where[1], 0),
                            textcoords="offset points", ha=where[0], fontsize=10)  # fmt: skip
            ax.set_title(f"round {entry['round']}", loc="left", fontsize=11)
            ax.set(xlim=(0, 1))
            ax.grid(axis="y")
            _cut_tallest(ax, entry)
            _thousands(ax)
        axes[0].legend(loc="upper right", bbox_to_anchor=(1, 1.22), ncols=2)
        axes[-1].set_xlabel("label quality (lower is worse)")
        told = "; ".join(f"round {e['round']}: {sum(e['flagged'])} rows flagged" for e in rounds)
        return inline(figure, "quality", f"Histogram of label quality. {told}")


def _cut_tallest(ax: Axes, entry: Mapping[str, Any]) -> None:
    """Where one bar dwarfs the others it is cut, with its count beside it."""
    heights = [a + b for a, b in zip(entry["flagged"], entry["unflagged"], strict=True)]
    *_, second, tallest = sorted(heights)
    if tallest > 3 * second > 0:
        ax.set_ylim(0, 1.6 * second)
        place = entry["edges"][heights.index(tallest)]
        near = ("left", 0.055) if place < 0.5 else ("right", -0.005)
        ax.text(place + near[1], 1.0 * second, f"{tallest:,} rows, cut", ha=near[0],
                fontsize=10)  # fmt: skip


def _rounds(facts: Facts) -> str | None:
    """What happened to the flagged rows of each round; with gold, how right the labels are."""
    if not facts.rounds:
        return None
    names = [f"round {entry['round']}" for entry in facts.rounds]
    measured = facts.measures is not None or any(entry["dev"] for entry in facts.rounds)
    height = 70 + 30 * len(names) + (175 if measured else 0)
    with drawing(height, rows=2 if measured else 1) as (figure, axes):
        if measured:
            figure.set_layout_engine("constrained", hspace=0.1)
            _right_by_round(axes[0], facts)
        ax, left = axes[-1], [0] * len(names)
        styles = {
            "replaced": (ACCENT, 1.0), "kept": (ACCENT, 0.35), "abstained": (SOFT, 0.6),
            "failed": (SECOND, 1.0), "deferred": (BAND, 1.0),
        }  # fmt: skip
        for word, (colour, alpha) in styles.items():
            counts = [entry[word] for entry in facts.rounds]
            if any(counts):
                ax.barh(names, counts, left=left, color=colour, alpha=alpha, height=0.62,
                        label=word, lw=0)  # fmt: skip
                left = [done + count for done, count in zip(left, counts, strict=True)]
        ax.set_ylim(len(names) - 0.4, -0.6)
        _from_zero(ax, max(left))
        ax.set_xlabel("rows")
        if any(left):
            ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=5, columnspacing=1,
                      handlelength=1, borderpad=0)  # fmt: skip
        told = "; ".join(
            f"round {e['round']}: {e['flagged']} flagged, {e['replaced']} replaced"
            for e in facts.rounds
        )
        return inline(figure, "rounds", f"Each round. {told}")


def _right_by_round(ax: Axes, facts: Facts) -> None:
    if facts.measures is not None:
        measures = facts.measures
        after = [measures["rounds"][0]["labels_before"]] if measures["rounds"] else []
        after += [entry["labels_after"] for entry in measures["rounds"]]
        _with_intervals(ax, range(len(after)), after, ACCENT, title(measures).lower(), "-")
        model = [entry["model_out_of_fold"] for entry in measures["rounds"]]
        places = [place + 0.94 for place in range(len(model))]
        _with_intervals(ax, places, model, SOFT, "model out of fold", ":")
    dev = [(entry["round"], entry["dev"]) for entry in facts.rounds if entry["dev"]]
    if dev:
        places = [number - 0.12 for number, _ in dev]
        _with_intervals(ax, places, [figure for _, figure in dev], SECOND, "model on dev",
                        "--")  # fmt: skip
    count = len(facts.rounds)
    ax.set_xticks(range(count + 1), ["given", *(f"after {n}" for n in range(1, count + 1))])
    ax.set_xlim(-0.3, count + 0.3)
    _values(ax, facts.measures)
    ax.grid(axis="y")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, columnspacing=1,
              handlelength=1.6, borderpad=0)  # fmt: skip


def _curve(measures: Mapping[str, Any] | None) -> str | None:
    """The labels' measure against calls."""
    if measures is None or len(measures["curve"]) < 3:
        return None
    points = measures["curve"]
    with drawing(215) as (figure, (ax,)):
        calls = [point["calls"] for point in points]
        labels = [point["labels"] for point in points]
        ax.plot(calls, labels, color=ACCENT, lw=2)
        for number in sorted({point["round"] for point in points})[1:]:
            start = next(point["calls"] for point in points if point["round"] == number)
            ax.axvline(start, color=LINE, lw=1)
            ax.annotate(f"round {number}", (start, 0.04), xycoords=("data", "axes fraction"),
                        xytext=(4, 0), textcoords="offset points", fontsize=10,
                        color=SOFT)  # fmt: skip
        ax.set(xlabel="calls", xlim=(0, max(calls[-1], 1)))
        ax.grid(axis="y")
        _values(ax, measures)
        _thousands(ax, "x")
        first, last = (told(labels[at], measures) for at in (0, -1))
        said = f"{title(measures)} against calls: {first} at 0, {last} at {calls[-1]}"
        return inline(figure, "curve", said)


def _reliability(judges: Sequence[Mapping[str, Any]]) -> str | None:
    """How often answers of each stated confidence are right; the diagonal is perfect."""
    told = [
        (judge["model"], (judge["against_gold"] or {}).get("confidence")) for judge in judges
    ]  # fmt: skip
    drawn = [(name, found["reliability"]) for name, found in told if found][:3]
    if not drawn:
        return None
    with drawing(290) as (figure, (ax,)):
        ax.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=(0, (2, 3)))
        styles = ((ACCENT, "-"), (SECOND, "--"), (SOFT, ":"))
        for (name, bins), (colour, line) in zip(drawn, styles, strict=False):
            figures_ = [entry["accuracy"] for entry in bins]
            places = [entry["confidence"] for entry in bins]
            _with_intervals(ax, places, figures_, colour, shown(name, 30), line)
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence that the judge states",
               ylabel="share that is right")  # fmt: skip
        ax.grid()
        ax.legend(loc="lower right")
        return inline(figure, "reliability", "Reliability of the judge's stated confidence")


def _confusion(name: str, matrix: Mapping[str, Any]) -> str | None:
    """Rows are the labels, columns the small model's predictions; the diagonal is unpainted."""
    labels, counts = matrix["labels"], matrix["counts"]
    size = len(labels)
    if size < 2:
        return None
    off = [counts[a][b] for a in range(size) for b in range(size) if a != b]
    largest = max(off) or 1
    with drawing(120 + 27 * size) as (figure, (ax,)):
        from matplotlib.collections import PatchCollection
        from matplotlib.colors import to_rgba
        from matplotlib.patches import Rectangle

        cells = [(a, b) for a in range(size) for b in range(size) if a == b or counts[a][b]]
        squares = [Rectangle((b - 0.48, a - 0.46), 0.96, 0.92) for a, b in cells]
        faces = [
            to_rgba(BAND) if a == b else to_rgba(ACCENT, DARKEST * counts[a][b] / largest)
            for a, b in cells
        ]
        ax.add_collection(PatchCollection(squares, facecolors=faces, linewidths=0))
        for a, b in cells:
            ax.text(b, a, f"{counts[a][b]:,}", ha="center", va="center", fontsize=10,
                    color=SOFT if a == b else INK)  # fmt: skip
        names = [shown(label, 17) for label in labels]
        if size <= FEW:
            ax.set_xticks(range(size), names)
        else:
            ax.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(size), names)
        ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="predicted",
               ylabel=matrix["against"])  # fmt: skip
        for spine in ax.spines.values():
            spine.set_visible(False)
        return inline(figure, name, f"Small model's prediction by {matrix['against']}")


def _with_intervals(
    ax: Axes, places: Any, found: Sequence[Mapping[str, Any]], colour: str, label: str, line: str
) -> None:
    """Points with their 95% intervals, joined by a line."""
    points = [(x, f) for x, f in zip(places, found, strict=True) if f["value"] is not None]
    if not points:
        return
    values = [f["value"] for _, f in points]
    low = [f["value"] - (f["value"] if f["low"] is None else f["low"]) for _, f in points]
    high = [(f["value"] if f["high"] is None else f["high"]) - f["value"] for _, f in points]
    ax.errorbar([x for x, _ in points], values, yerr=[low, high], color=colour, ls=line, lw=1.8,
                marker="o", ms=5, elinewidth=1.2, capsize=2.5, label=label)  # fmt: skip


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "0"


def _ends(ribbons: Sequence[Mapping[str, Any]], side: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for each in ribbons:
        sizes[each[side]] = sizes.get(each[side], 0) + each["count"]
    return dict(sorted(sizes.items(), key=lambda entry: -entry[1]))


def _stacked(sizes: Mapping[str, int], gap: float) -> dict[str, float]:
    """Where each name begins, from the top."""
    found, at = {}, 0.0
    for name, size in sizes.items():
        found[name] = at
        at += size + gap
    return found


def _from_zero(ax: Axes, highest: float) -> None:
    ax.set_xlim(0, max(highest * 1.06, 1))
    _thousands(ax, "x")


def _thousands(ax: Axes, axis: str = "y") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    chosen = ax.xaxis if axis == "x" else ax.yaxis
    chosen.set_major_locator(MaxNLocator(nbins=5, integer=True))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _values(ax: Axes, measures: Mapping[str, Any] | None) -> None:
    """Ticks as the measure is read."""
    from matplotlib.ticker import FuncFormatter

    _percent(ax)
    if measures is not None and not measures.get("percent", True):
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _percent(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
