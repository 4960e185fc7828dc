"""What a user writes: the job file, judges, label definitions."""
