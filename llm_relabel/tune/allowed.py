"""Proposals as far as a tuning may make them: of some labels, in some fields."""

from __future__ import annotations

from collections.abc import Sequence

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.tune.draft import drafted
from llm_relabel.tune.guideline import FIELDS, Proposal, only
from llm_relabel.tune.outcome import Settings
from llm_relabel.tune.pairs import Miss
from llm_relabel.tune.pool import Pool
from llm_relabel.tune.search import Proposer


class Allowed:
    """What the settings let through, from the guideline `start`."""

    def __init__(self, settings: Settings, start: LabelDefinitions) -> None:
        self._settings, self._start = settings, start

    def drafts(self, pool: Pool) -> list[list[Proposal]]:
        """Exemplars; and, where no writer will write definitions, telling words with them."""
        settings = self._settings
        words = settings.writer is None and "definition" in settings.change
        made = [
            drafted(self._start, pool, words=each, seed=settings.seed)
            for each in ((False, True) if words else (False,))
        ]
        return [self._through(each) for each in made]

    def limited(self, propose: Proposer) -> Proposer:
        """The same proposer, held to what is allowed."""

        def limited(guide: LabelDefinitions, missed: Sequence[Miss]) -> list[Proposal]:
            return self._through(propose(guide, missed))

        return limited

    def _through(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        wanted = self._settings.labels
        kept = [each for each in proposals if not wanted or each.label in wanted]
        return [self._cut(each) for each in kept]

    def _cut(self, proposal: Proposal) -> Proposal:
        change, before = self._settings.change, self._start.labels.get(proposal.label)
        if before is None or set(FIELDS) <= set(change):
            return proposal
        return only(proposal, change, before)
