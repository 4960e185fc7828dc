"""What all judges said by a round, and what all evidence together believes then."""

from __future__ import annotations

from collections.abc import Collection

from llm_relabel.evidence.beliefs import Beliefs, JudgeVotes, believe, gather
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.rounds.state import Work
from llm_relabel.run_folder.lines import latest


def believed_by(
    work: Work,
    number: int,
    predicted: Predicted,
    only: Collection[str] | None = None,
    *,
    alike: bool = False,
) -> tuple[dict[str, JudgeVotes], Beliefs]:
    """What was said by round `number`, in that round of `only` these ids, and what follows.

    `alike` holds given labels and verdicts against each other by models of the same rows.
    """
    run, numbers = work.run, range(1, number + 1)
    said = gather(
        [
            line
            for each in numbers
            for line in run.asks(each)
            if only is None or each < number or line["id"] in only
        ],
        latest([verdict for each in numbers for verdict in run.verdicts(each)]),
        work.prepared.task,
        work.prepared.row_of,
    )
    return said, believe(predicted, said, alike=alike)
