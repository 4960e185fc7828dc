"""llm_relabel repairs the labels of a training set.

    import llm_relabel as lr

    run = lr.relabel("job.yaml")
    run.summary, run.dataset(), run.changes()
    issues = lr.find_label_issues("job.yaml")  # no judge is called

Everything heavy is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_relabel.api import Run, find_label_issues, relabel
    from llm_relabel.config.definitions import LabelDefinition, LabelDefinitions
    from llm_relabel.config.job import Job
    from llm_relabel.errors import (
        DataError,
        DefinitionsError,
        JobError,
        Paused,
        RelabelError,
        RunChanged,
        RunError,
        RunLocked,
    )
    from llm_relabel.evaluation import Agreement, evaluate
    from llm_relabel.records import Change, LabelIssue, Verdict

__version__ = "0.1.0"

_HOME = {
    "Agreement": "evaluation",
    "evaluate": "evaluation",
    "Run": "api",
    "find_label_issues": "api",
    "relabel": "api",
    "LabelDefinition": "config.definitions",
    "LabelDefinitions": "config.definitions",
    "DataError": "errors",
    "DefinitionsError": "errors",
    "JobError": "errors",
    "Paused": "errors",
    "RelabelError": "errors",
    "RunChanged": "errors",
    "RunError": "errors",
    "RunLocked": "errors",
    "Job": "config.job",
    "Change": "records",
    "LabelIssue": "records",
    "Verdict": "records",
}

__all__ = [
    "Agreement",
    "Change",
    "DataError",
    "DefinitionsError",
    "Job",
    "JobError",
    "LabelDefinition",
    "LabelDefinitions",
    "LabelIssue",
    "Paused",
    "RelabelError",
    "Run",
    "RunChanged",
    "RunError",
    "RunLocked",
    "Verdict",
    "__version__",
    "evaluate",
    "find_label_issues",
    "relabel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'llm_relabel' has no attribute {name!r}")
    return getattr(import_module(f"llm_relabel.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
