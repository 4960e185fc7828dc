"""The commands that have a file of their own, and the order in which `--help` lists all."""
