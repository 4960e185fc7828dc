"""The run folder: its lines, the log of changes, the sheet of them."""
