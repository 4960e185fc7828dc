"""The verbs over a job and its run, a file each: all that commands, the API and the demo use.

open_job     any form of a job -> Job
init_job     data -> a job file and definitions to edit
plan_job     Job -> Plan, before anything is asked or spent
run_job      Job -> Summary; goes on with a run that stopped
status_of    run folder -> Summary
report_of    run folder -> its report anew, as Markdown
roll_back    run folder, a choice of changes -> how many were undone
cancel_run   run folder -> what a provider still held is cancelled
"""

from llm_relabel.config.job import open_job
from llm_relabel.engine.cancel import cancel_run
from llm_relabel.engine.init import init_job
from llm_relabel.engine.plan import Plan, first_issues, plan_job
from llm_relabel.engine.rollback import roll_back
from llm_relabel.engine.run import run_job
from llm_relabel.engine.status import Summary, report_of, status_of

__all__ = [
    "Plan",
    "Summary",
    "cancel_run",
    "first_issues",
    "init_job",
    "open_job",
    "plan_job",
    "report_of",
    "roll_back",
    "run_job",
    "status_of",
]
