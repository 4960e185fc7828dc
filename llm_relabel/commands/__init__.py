"""Commands with a file of their own, how they speak, and the order that `--help` lists all in."""
