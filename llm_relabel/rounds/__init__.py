"""One round, stage after stage."""
