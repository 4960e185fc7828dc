"""The report as one self-contained page.

The page loads nothing and its policy allows nothing to be loaded: the one style and the one
script are named by their hashes, so that no text from the data could ever run, even unescaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from llm_relabel.measure import title
from llm_relabel.report import words
from llm_relabel.report.facts import Facts
from llm_relabel.report.markdown import CONTROL_WORDS, ROUND_COLUMNS
from llm_relabel.report.plots import CLASSES, RIBBONS, figures
from llm_relabel.spellings import visible_name

_FOLDER = Path(__file__).parent


def as_page(facts: Facts) -> str:
    """The page; everything from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent, "measured": words.measured, "interval": words.interval,
        "money": words.money, "duration": words.duration,
        "number": "{:,}".format, "signed": "{:+,}".format, "breakable": _breakable,
    }  # fmt: skip
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        facts=facts,
        svg={name: Markup(text) for name, text in figures(facts).items()},
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        counted=words.counted(facts.totals),
        judge_rows=_judge_rows(facts),
        columns=ROUND_COLUMNS,
        control_words=CONTROL_WORDS,
        ribbons=RIBBONS,
        classes_drawn=CLASSES,
        kinds_told=words.KINDS,
        labels_title=title(facts.measures or {}),
    )


def _judge_rows(facts: Facts) -> list[tuple[str, list[str]]]:
    """What each judge did and took, one row a figure, one value a judge."""
    plain = ("questions", "answered", "abstained", "failed", "calls")
    rows = [(name, [f"{judge[name]:,}" for judge in facts.judges]) for name in plain]
    rows.append(("from our cache", [f"{judge['cached']:,}" for judge in facts.judges]))
    for name, said in (
        ("input", "tokens in"), ("cached", "of them prompt-cached"), ("output", "tokens out")
    ):  # fmt: skip
        rows.append((said, [f"{judge['tokens'][name]:,}" for judge in facts.judges]))
    rows.append(("dollars", [words.money(judge["cost"]) for judge in facts.judges]))
    if any(judge["seconds"] for judge in facts.judges):
        for name, said in (("p50", "half answered within"), ("p95", "95% answered within")):
            took = [judge["seconds"] for judge in facts.judges]
            rows.append((said, [words.latency(t[name]) if t else "not measured" for t in took]))
    return rows


def _breakable(text: str) -> Markup:
    """A class or model name that may be broken after its separators."""
    return Markup(re.sub(r"([_/.:-])", r"\1<wbr>", str(escape(visible_name(text)))))


def _hash(text: str) -> str:
    """A source expression of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
