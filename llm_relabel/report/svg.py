"""Figures as inline SVG that takes its colours from the page.

matplotlib draws with placeholder colours; each becomes a CSS variable, so that one drawing
serves the light and the dark page. Text stays text, nothing carries a date or a random id.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_relabel.spellings import visible_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# Placeholder colour -> the page's variable. Black is matplotlib's default for what has no colour.
INK, SOFT, LINE, ACCENT = "#010101", "#020202", "#030303", "#040404"
SECOND, PAGE, BAND = "#050505", "#060606", "#070707"
_VARIABLES = {
    INK: "ink", SOFT: "soft", LINE: "line", ACCENT: "accent", SECOND: "second", PAGE: "page",
    BAND: "band", "#000000": "ink",
}  # fmt: skip
WIDTH = 420  # pixels: a phone shows it nearly unscaled, a wide page two beside each other
_RC: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "llm_relabel", "text.parse_math": False,
    "text.usetex": False, "font.size": 11, "axes.edgecolor": LINE, "axes.labelcolor": SOFT,
    "axes.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 1, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.major.size": 0, "ytick.major.size": 0, "axes.axisbelow": True, "grid.color": LINE,
    "grid.linewidth": 0.8, "axes.labelsize": 11, "xtick.labelsize": 10.5, "ytick.labelsize": 10.5,
    "legend.frameon": False, "legend.fontsize": 10.5, "axes.unicode_minus": False,
}  # fmt: skip
_ONE_AT_A_TIME = threading.Lock()
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HEAD = re.compile(r"\A.*?(?=<svg )", re.DOTALL)
_STYLE = re.compile(r' style="([^"]*)"')


@contextmanager
def drawing(height: float, *, rows: int = 1) -> Iterator[tuple[Drawing, list[Axes]]]:
    """A figure of `WIDTH` by `height` pixels, with its axes one below the other."""
    import matplotlib
    from matplotlib.figure import Figure

    # matplotlib's settings are the process's: one drawing at a time, and all put back after it.
    with _ONE_AT_A_TIME, matplotlib.rc_context(_RC), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
        axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
        yield figure, list(axes)


@contextmanager
def _quiet() -> Iterator[None]:
    """No word on glyphs that matplotlib's font lacks: the browser's own font will show them."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def inline(figure: Drawing, name: str, label: str) -> str:
    """The figure as an `svg` element for the page; `name` keeps its ids apart from others'.

    `label` is what a screen reader says. Must be called inside `drawing`.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.patch.set_facecolor("none")
    # `savefig` would draw everything once more, to lay out what is laid out while it is drawn.
    FigureCanvasSVG(figure).print_svg(out, metadata=metadata)  # type: ignore[no-untyped-call]
    text = _COMMENT.sub("", _HEAD.sub("", out.getvalue()))
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style [^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = _STYLE.sub(lambda found: _attributes(found[1]), text)
    used = set(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r"url\(#", f"url(#{name}-", text).replace('xlink:href="#', f'href="#{name}-')
    for colour, variable in _VARIABLES.items():
        text = text.replace(f'"{colour}"', f'"var(--{variable})"')
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"|<g/>', "", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    return (
        f'<svg {box[0] if box else ""} role="img" aria-label="{_quoted(label)}" '
        f'preserveAspectRatio="xMidYMid meet">{body.strip()}'
    )


def shown(name: str, longest: int = 22) -> str:
    """A class name fit for a figure: one line, not too long, nothing an SVG cannot hold."""
    flat = " ".join("".join(c if c.isprintable() else "\ufffd" for c in visible_name(name)).split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def _attributes(style: str) -> str:
    """A style attribute as presentation attributes: the page allows no inline style."""
    found = []
    for part in style.replace("&quot;", "'").split(";"):
        key, colon, value = part.partition(":")
        key, value = key.strip(), value.strip()
        if colon and key not in ("font-family", "font"):
            found.append(f' {key}="{value}"')
        elif key == "font":  # "10px 'DejaVu Sans', ...": the page has its own family
            size = re.search(r"[\d.]+px", value)
            found.append(f' font-size="{size[0]}"' if size else "")
    return "".join(found)


def _quoted(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )
