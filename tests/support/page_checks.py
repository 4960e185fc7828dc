"""What every page must pass in a browser, whatever it shows."""

from __future__ import annotations

import re
from typing import Any

import pytest


def is_light(page: Any) -> bool:
    """Whether the page's ground is light, as the wished colour scheme says."""
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", background)[:3]) > 600


def serious_faults(page: Any) -> list[tuple[str, list[str]]]:
    """The serious and critical faults that axe finds; skips where axe is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    checked = axe.Axe().run(page).response
    assert "color-contrast" in {rule["id"] for rule in checked["passes"]}
    return [
        (fault["id"], [node["html"][:200] for node in fault["nodes"][:3]])
        for fault in checked["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
