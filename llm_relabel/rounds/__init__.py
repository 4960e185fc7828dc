"""One round, stage after stage. The only file that knows their order.

A round trains the small model out of fold on the current labels, flags label issues, asks the
judges, decides, writes the next version of the dataset, and takes the round back where it made
things worse. Every stage leaves its result in the run folder, and every stage first looks there:
running again is how a run resumes.

`state.py` says what a stage is given and gives on. Behind `judge` stand `allocate` (which issues
pay for a call), `ask` (what is asked of whom), `controls`, `pilot` and `waves`, since what is asked
next depends on what was answered; behind `decide` stands `deciding`, behind `write` `results`.
"""

from collections.abc import Callable, Iterator

from llm_relabel.rounds import decide, flag, judge, train, veto, write
from llm_relabel.rounds.state import RoundState, Work

Stage = Callable[[Work, RoundState], RoundState]

STAGES: tuple[Stage, ...] = (
    train.stage,  # predictions.parquet
    flag.stage,  # issues.jsonl
    judge.stage,  # asks.jsonl, verdicts.jsonl
    decide.stage,  # decisions.jsonl, beliefs.parquet, lines of changes.jsonl
    write.stage,  # dataset, summary.json
    veto.stage,  # lines of changes.jsonl that take the round back
)


def stages_of(work: Work, state: RoundState) -> Iterator[RoundState]:
    """The round as it stands after each of its stages. Raises Paused where it stops on purpose."""
    for stage in STAGES:
        state = stage(work, state)
        yield state
