"""`python -m llm_relabel.manual`, or `make manual`: write the generated pages of the manual."""

from __future__ import annotations

from pathlib import Path

from llm_relabel.cli import cli
from llm_relabel.manual.generate import generated_pages


def main() -> None:
    """Write the pages beside this file."""
    for topic, text in generated_pages(cli).items():
        Path(__file__).with_name(f"{topic}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
