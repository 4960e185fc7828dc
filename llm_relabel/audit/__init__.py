"""What spot-checks decide: which policy, which changes are applied, and how good the labels are.

`checks.py` holds the audited rows and estimates from them, `candidates.py` the labels that each
policy would give, `choosing.py` picks one and gates its changes, `certificate.py` certifies the
result by audits that did not choose it; `run_checks.py` brings all of it to a run's rounds, and
`settling.py` foresees how many it takes.
"""

from llm_relabel.audit.candidates import AuditEvidence
from llm_relabel.audit.certificate import as_written, certify
from llm_relabel.audit.checks import Audits
from llm_relabel.audit.choosing import Choice, choose
from llm_relabel.audit.run_checks import Audited, decide_by
from llm_relabel.audit.settling import spot_checks_to_settle

__all__ = [
    "AuditEvidence",
    "Audited",
    "Audits",
    "Choice",
    "as_written",
    "certify",
    "choose",
    "decide_by",
    "spot_checks_to_settle",
]
