"""`python -m llm_relabel` is `llm-relabel`."""

from llm_relabel.cli import main

main()
