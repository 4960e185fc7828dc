"""The judge plane: asks in, verdicts out.

`Judge` is the one seam that the rounds know. Behind it: `llm.py` asks a chat provider
(one file per provider), `recorded.py` reads answers collected elsewhere, `embedded.py`
needs no LLM at all, `people.py` waits for people. `asking.py` puts many asks to one judge.
"""
