"""A pilot: a few issues are judged first, and tell what judging all of them would bring."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_relabel.config.judges import Breakers
from llm_relabel.evidence.opinions import Opinion
from llm_relabel.files import journal
from llm_relabel.records import Decision, LabelIssue, Verdict
from llm_relabel.units import label_json

FEWEST = 30  # a smaller pilot says too little about a rate to stop a run by
STEPS = 3  # groups of label quality whose rates are told apart
DEVIATIONS = 5.0  # of a window's count from what the pilot foretells


@dataclass(frozen=True)
class Pilot:
    """What a pilot found. `rates` are pairs: a label quality, and how often the judge gave
    another label to issues of at most that quality and above the pair before."""

    judged: int
    answered: int
    replaced: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    seconds: float
    issues: int
    rates: tuple[tuple[float, float], ...]

    @property
    def cost_of_all(self) -> float | None:
        """US dollars for all issues of the round, the pilot's own included."""
        return None if self.cost is None else self.cost / self.judged * self.issues

    @property
    def cost_of_a_change(self) -> float | None:
        """US dollars for one corrected label; None if there is none, or no price."""
        return None if self.cost is None or not self.replaced else self.cost / self.replaced

    def told(self) -> str:
        """The pilot and its projection, for a person."""
        lines = [
            f"The pilot judged {self.judged:,} of {self.issues:,} issues, drawn at random: "
            f"{self.answered:,} answered, {self.replaced:,} labels would change.",
            f"All of them: about {self.issues * self.calls / self.judged:,.0f} calls and "
            f"{self.issues * self.replaced / self.judged:,.0f} changed labels.",
        ]
        if self.cost is not None and self.cost_of_all is not None:
            each = self.cost_of_a_change
            told = "no label would change" if each is None else f"${each:.4f} a corrected label"
            lines.append(f"The pilot cost ${self.cost:.4f}; all: about ${self.cost_of_all:.2f}, "
                         f"{told}.")  # fmt: skip
        return "\n".join(lines)


def draw(issues: Sequence[LabelIssue], count: int, seed: int) -> list[LabelIssue]:
    """`count` issues at random, in their order."""
    chosen = random.Random(f"{seed}:pilot").sample(range(len(issues)), min(count, len(issues)))
    return [issues[place] for place in sorted(chosen)]


def measured(
    judged: Sequence[LabelIssue],
    all_issues: int,
    opinions: Mapping[str, Opinion],
    decisions: Sequence[Decision],
    verdicts: Sequence[Verdict],
    seconds: float,
) -> Pilot:
    """The pilot's figures from what came of it; `verdicts` are all that it took."""
    done = [issue for issue in judged if issue.id in opinions]
    answered = [issue for issue in done if opinions[issue.id].outcome == "answer"]
    costs = [verdict.cost for verdict in verdicts if verdict.cost is not None]
    return Pilot(
        judged=len(done),
        answered=len(answered),
        replaced=len({d.id for d in decisions if d.action == "replace"}),
        calls=sum(verdict.calls for verdict in verdicts),
        input_tokens=sum(verdict.tokens.input for verdict in verdicts),
        output_tokens=sum(verdict.tokens.output for verdict in verdicts),
        cost=sum(costs) if costs else None,
        seconds=seconds,
        issues=all_issues,
        rates=_rates([(i, opinions[i.id].answer != label_json(i.current_label)) for i in answered]),
    )


def save(path: Path, pilot: Pilot) -> None:
    """Write `pilot.json`."""
    journal.write_whole(path, (json.dumps(asdict(pilot), indent=2) + "\n").encode())


def load(path: Path) -> Pilot | None:
    """The pilot that was kept, or None."""
    if not path.exists():
        return None
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Pilot(**{**raw, "rates": tuple((q, rate) for q, rate in raw["rates"])})


class ReplacementWatch:
    """Stops a run whose judge changes labels far more, or far less, often than in the pilot.

    Issues come worst first, and the worst are changed most; so each verdict is held against
    the pilot's rate at its own label quality.
    """

    def __init__(self, pilot: Pilot, issues: Sequence[LabelIssue], breakers: Breakers) -> None:
        """`breakers.replacement` must be set."""
        assert breakers.replacement is not None
        self._pilot = pilot
        self._factor = breakers.replacement
        self._issues = {issue.id: issue for issue in issues}
        self._recent: deque[tuple[float, bool]] = deque(maxlen=breakers.window)
        self._window = breakers.window

    def hear(self, verdict: Verdict) -> str | None:
        """Why the run should stop now, or None."""
        issue = self._issues.get(verdict.id)
        if issue is None or verdict.outcome != "answer" or self._pilot.answered < FEWEST:
            return None
        changed = verdict.answer != label_json(issue.current_label)
        self._recent.append((self._rate(issue.label_quality), changed))
        if len(self._recent) < self._window:
            return None
        expected = sum(rate for rate, _ in self._recent)
        found = sum(changed for _, changed in self._recent)
        spread = sum(rate * (1 - rate) for rate, _ in self._recent) ** 0.5
        far = max(found / expected, expected / found) if found else float("inf")
        if far < self._factor or abs(found - expected) < DEVIATIONS * spread:
            return None
        return (
            f"the judge gave another label in {found} of the last {self._window} answers, where "
            f"the pilot foretells {expected:.0f}; look at the newest verdicts, then run the same "
            "command again, with judge.breakers.replacement: null if all is well"
        )

    def _rate(self, quality: float) -> float:
        return next(
            (rate for most, rate in self._pilot.rates if quality <= most), self._pilot.rates[-1][1]
        )


def _rates(found: Sequence[tuple[LabelIssue, bool]]) -> tuple[tuple[float, float], ...]:
    ranked = sorted(found, key=lambda pair: pair[0].label_quality)
    size = max(1, -(-len(ranked) // STEPS))
    groups = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    return tuple(
        # One more of each kind, so that no group's rate is 0 or 1 (Laplace).
        (group[-1][0].label_quality, (1 + sum(c for _, c in group)) / (2 + len(group)))
        for group in groups
    )
