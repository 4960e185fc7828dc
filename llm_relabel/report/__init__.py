"""What a run did, for people: a few lines on a terminal, Markdown, and a page."""

from llm_relabel.report.facts import gather
from llm_relabel.report.writing import markdown_report, told_summary, write_report

__all__ = ["gather", "markdown_report", "told_summary", "write_report"]
