"""Can the judge be trusted? Judges, prompts and definitions held against gold.

`gold_set.py` reads gold and joins it by id, `asking.py` puts the gold items to every judge,
`anchoring.py` asks what a judge makes of the labels it is shown, `figures.py` turns answers
into measures, `writing.py` into files. `evaluating.py` is the order of it all.
"""

from llm_relabel.evaluation.evaluating import Agreement, evaluate

__all__ = ["Agreement", "evaluate"]
