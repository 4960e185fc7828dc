"""Judges that ask no LLM."""
