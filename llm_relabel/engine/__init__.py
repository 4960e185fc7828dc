"""The verbs over a job and its run, a file each: all that commands, the API and the demo use.

open_job   any form of a job -> Job
init       data -> a job file and definitions to edit
plan       Job -> Plan, before anything is asked or spent
run        Job -> Summary; goes on with a run that stopped
status     run folder -> Summary
report     run folder -> its report anew, as Markdown
rollback   run folder, a choice of changes -> how many were undone
cancel     run folder -> what a provider still held is cancelled
"""

from llm_relabel.config.job import open_job
from llm_relabel.engine.cancel import cancel
from llm_relabel.engine.init import init
from llm_relabel.engine.plan import Plan, first_issues, plan
from llm_relabel.engine.rollback import rollback
from llm_relabel.engine.run import run
from llm_relabel.engine.status import Summary, report, status

__all__ = [
    "Plan",
    "Summary",
    "cancel",
    "first_issues",
    "init",
    "open_job",
    "plan",
    "report",
    "rollback",
    "run",
    "status",
]
