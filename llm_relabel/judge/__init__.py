"""The judge plane: asks in, verdicts out.

`seam.py` is all that the rounds know; `opening.py` makes a job's judges. `llm.py` asks a chat
provider (`providers/`, a file each) and its batch API (`batch/`); `without_llm/` reads answers
collected elsewhere, decides by embeddings, or waits for people. `asking.py` puts many asks to one
judge, `cache.py` keeps verdicts, `budget.py` and `limits.py` hold the caps.
"""
