"""What a round works with and how it stands: facts are typed, and a stage gives a new state on."""

from __future__ import annotations

from dataclasses import dataclass

from llm_relabel.audit import Audited
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.evidence.views import Reading
from llm_relabel.judge.seam import Judges
from llm_relabel.models import SmallModel
from llm_relabel.prepared import Prepared
from llm_relabel.progress import Progress, Relay
from llm_relabel.records import LabelIssue
from llm_relabel.rounds.allocate import Allocation
from llm_relabel.rounds.deciding import Decided, Deciding
from llm_relabel.rounds.results import Results
from llm_relabel.rounds.tally import RoundTally
from llm_relabel.rounds.waves import Judged, Judging
from llm_relabel.run_folder.folder import RunFolder


@dataclass(frozen=True)
class Work:
    """What all rounds of one process work with: opened once, the same in every round.

    `deciding` holds the current labels. `model_steps` passes the small model's progress on to the
    step that is under way. `reading` trains models of any side's labels, None where the job has
    its own predictions. `pilot_size` is how many issues of the first round to judge before
    stopping with a projection, None: all.
    """

    prepared: Prepared
    run: RunFolder
    judges: Judges
    model: SmallModel
    model_steps: Relay
    judging: Judging
    allocation: Allocation
    deciding: Deciding
    results: Results
    progress: Progress
    reading: Reading | None = None
    pilot_size: int | None = None


@dataclass(frozen=True)
class RoundState:
    """One round as it stands. What a stage has not found yet is None.

    `earlier` are the tallies of the rounds before; `audits` what spot-checks made of each round
    that was decided, this one included. Over all rounds so far, `asked` are the ids that had an
    opinion, `answered_rows` the rows that some judge gave an answer of, `doubted` those that were
    flagged for more than a low quality. `drawn` are rows that nobody doubts, to be judged too.
    """

    number: int
    tally: RoundTally
    earlier: tuple[RoundTally, ...] = ()
    audits: tuple[Audited | None, ...] = ()
    asked: frozenset[str] = frozenset()
    answered_rows: frozenset[int] = frozenset()
    doubted: frozenset[int] = frozenset()
    predicted: Predicted | None = None
    issues: tuple[LabelIssue, ...] = ()
    drawn: tuple[LabelIssue, ...] = ()
    judged: Judged | None = None
    decided: Decided | None = None

    @classmethod
    def first(cls) -> RoundState:
        """The first round, before its first stage."""
        return cls(1, RoundTally(1))

    def next(self) -> RoundState:
        """The round after this one, before its first stage."""
        number = self.number + 1
        return RoundState(
            number, RoundTally(number), self.tallies, self.audits, self.asked, self.answered_rows,
            self.doubted,
        )  # fmt: skip

    @property
    def tallies(self) -> tuple[RoundTally, ...]:
        """Those of all rounds, this one last."""
        return (*self.earlier, self.tally)

    @property
    def changed(self) -> bool:
        """Whether the round changed a label."""
        return self.decided is not None and bool(self.decided.changes)
