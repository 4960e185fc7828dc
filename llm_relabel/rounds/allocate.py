"""Where the next call goes: the issue whose verdict is expected to mend most, until none pays.

A round's issues are handed out in parts, each planned from the completed parts before it, so that
what a judge turned out to be good at steers what it is asked next, and neither arrival order nor
a kill changes what is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.judges import PEOPLE, Prices
from llm_relabel.errors import JobError
from llm_relabel.evidence.beliefs import Beliefs, believe
from llm_relabel.evidence.gains import expected_gains, severities
from llm_relabel.evidence.policies import resolved_policy
from llm_relabel.evidence.predicted import Predicted
from llm_relabel.judge.prices import cost_of, is_paid, price_of
from llm_relabel.prepared import Prepared
from llm_relabel.prompts.fit import estimated_tokens
from llm_relabel.records import LabelIssue, Tokens
from llm_relabel.tasks import is_one_choice
from llm_relabel.units import Labels

# A part is a tenth of the round's issues, whatever the budget: a raised budget goes on in the
# same order.
PARTS = 10
SMALLEST_PART = 100

Believed = Callable[[Sequence[LabelIssue]], Beliefs]


class Allocation:
    """A job's rule of which issues are worth a call.

    `stopped` tells why the calls of the round at hand ended before its issues and its budget did;
    `slow` is whether what is asked takes hours, so that it is asked all at once.
    """

    def __init__(self, prepared: Prepared) -> None:
        """Raises JobError where the job asks for a rule that could do nothing."""
        self._prepared = prepared
        self._section, judge = prepared.job.detect, prepared.job.judge
        self._policy = resolved_policy(prepared.job)
        self._severity = _by_parent(prepared) if self._section.severity == "parent" else None
        self._prices = _prices(prepared) if self._section.value_per_fix is not None else []
        self._price_of = np.full(len(prepared.dataset), np.nan)
        if self._section.residual_noise is not None and self._policy != "fuse":
            raise JobError(
                "detect.residual_noise is held against what all evidence together believes, and "
                f"needs decide.policy fuse; the policy of this job is {self._policy!r}"
            )
        steps = (self._section.budget, self._section.value_per_fix, self._section.residual_noise)
        limited = any(step is not None for step in steps)
        # Everything is asked anyway, so its order does not matter; a cap may cut it short.
        self._ranks = limited or isinstance(judge.max_cost, float)
        # A batch takes hours and people take days, so they are asked all at once.
        self.slow = any(member.batch or member.provider == PEOPLE for member in judge.members)
        self._learns = limited and not self.slow
        self.stopped: dict[str, Any] = {}

    def parts(
        self,
        issues: Sequence[LabelIssue],
        asked: Collection[str],
        believed: Believed,
        current: Labels,
        predicted: Labels,
        *,
        done: Sequence[LabelIssue] = (),
    ) -> Iterator[list[LabelIssue]]:
        """The issues to judge, part after part, but for those that are `done`.

        `believed` gives the beliefs by the verdicts of earlier rounds and those on the issues it
        is called with. An issue whose id is in `asked` is in the budget already.
        """
        self.stopped = {}
        size = max(SMALLEST_PART, -(-len(issues) // PARTS)) if self._learns else len(issues)
        done, counted = list(done), set(asked) | {issue.id for issue in done}
        while True:
            given_out = {issue.id for issue in done}
            left = [issue for issue in issues if issue.id not in given_out]
            budget, rows = self._section.budget, len(self._prepared.dataset)
            # Not before there is something to hand out: what all believe is dear to work out.
            if self._ranks and within_budget(left, budget, rows, counted):
                left = self._worth_asking(left, believed(done), current, predicted)
            part = within_budget(left, budget, rows, counted)[:size]
            if not part:
                return
            yield part
            done += part
            counted |= {issue.id for issue in part}

    def foreseen(self, issues: Sequence[LabelIssue], predicted: Predicted) -> list[LabelIssue]:
        """What the first round would judge if no verdict changed what is believed."""
        fitted = cache(lambda: believe(predicted, {}))
        parts = self.parts(
            issues, (), lambda _done: fitted(), self._prepared.given, predicted.labels
        )
        return [issue for part in parts for issue in part]

    def _worth_asking(
        self, issues: list[LabelIssue], beliefs: Beliefs, current: Labels, predicted: Labels
    ) -> list[LabelIssue]:
        """The issues that a call pays for, the most useful first."""
        target, value = self._section.residual_noise, self._section.value_per_fix
        if target is not None and (noise := self._noise(beliefs, current)) <= target:
            self.stopped = {
                "why": f"all evidence together believes {noise:.1%} of the labels wrong, which "
                f"reaches detect.residual_noise {target:.1%}; spot-checks would certify it",
                "believed_noise": round(noise, 4),
            }
            return []
        rows = np.array([issue.row for issue in issues], dtype=np.int64)
        worth = self._gains(beliefs, current, predicted, rows)
        order = np.argsort(-worth, kind="stable")
        if value is not None:
            price = self._price(rows)
            best = int((value * worth - price).argmax())
            order = np.argsort(price - value * worth, kind="stable")
            order = order[(value * worth > price)[order]]
            if not len(order):
                self.stopped = {
                    "why": f"no call pays any more: the best one is expected to mend "
                    f"{worth[best]:.4f} labels, worth ${value * worth[best]:.6f} at "
                    f"detect.value_per_fix, and costs about ${price[best]:.6f}",
                    "expected_fixes": round(float(worth[best]), 6),
                    "price": round(float(price[best]), 8),
                }
        return [issues[place] for place in order.tolist()]

    def ranked(
        self, issues: Sequence[LabelIssue], beliefs: Beliefs, current: Labels, predicted: Labels
    ) -> list[LabelIssue]:
        """All the issues, those first whose verdict is expected to mend most."""
        rows = np.array([issue.row for issue in issues], dtype=np.int64)
        worth = self._gains(beliefs, current, predicted, rows)
        return [issues[place] for place in np.argsort(-worth, kind="stable").tolist()]

    def price(self, rows: NDArray[np.int64]) -> float:
        """US dollars that asking about one of these rows costs on average, about."""
        return float(self._price(rows).mean())

    def _gains(
        self, beliefs: Beliefs, current: Labels, predicted: Labels, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return expected_gains(
            beliefs, current, predicted, rows, judge=self._prepared.job.judge.member_names[0],
            policy=self._policy, severity=self._severity, given=self._prepared.given,
        )  # fmt: skip

    def _noise(self, beliefs: Beliefs, current: Labels) -> float:
        """The share of wrong labels that all evidence believes in, where judged rows are decided.

        Beliefs are too sure of themselves; this may end the spending, and is never a certificate.
        """
        decided = beliefs.judged & ~beliefs.silent
        belief = np.where(decided, beliefs.belief_in(beliefs.labels), beliefs.belief_in(current))
        return float(1 - belief.mean())

    def _price(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(len(rows),) US dollars that asking about each row costs, about."""
        stable = estimated_tokens(self._prepared.prompts.system.text)
        limit = self._prepared.job.judge.max_item_tokens
        for row in rows[np.isnan(self._price_of[rows])].tolist():
            fields = self._prepared.dataset.item(row).fields.values()
            size = sum(map(estimated_tokens, fields))
            calls = math.ceil(size / limit) if self._prepared.task.label_parts is not None else 1
            size = calls * stable + min(calls * limit, size)
            output = calls * self._prepared.task.answer_tokens
            tokens = Tokens(input=round(size), output=output)
            self._price_of[row] = sum(n * cost_of(tokens, prices) for prices, n in self._prices)
        return self._price_of[rows]


def _prices(prepared: Prepared) -> list[tuple[Prices, int]]:
    """Of every judge that is asked about each issue: its prices and how often. Raises JobError."""
    judge = prepared.job.judge
    found: list[tuple[Prices, int]] = []
    for count, member in [(judge.samples, judge), *((1, member) for member in judge.panel)]:
        prices = price_of(member, uncapped=True)
        if prices is None:
            raise JobError(
                f"detect.value_per_fix weighs what a call costs, and the price of {member.model!r} "
                "is not known; set its prices, US dollars for a million tokens"
            )
        found.append((prices, count))
    if not any(is_paid(prices) for prices, _ in found):
        raise JobError(
            f"detect.value_per_fix weighs what a call costs, and {judge.model!r} is free; set "
            "judge.prices to what its time is worth, or leave value_per_fix out"
        )
    return found


def _by_parent(prepared: Prepared) -> NDArray[np.float64]:
    """The severities of the definitions' hierarchy. Raises JobError where there is none."""
    labels = prepared.definitions.labels
    if not any(each.parent for each in labels.values()):
        raise JobError(
            "detect.severity: parent weighs errors by the labels' `parent`, and no label of "
            "`labels` has one"
        )
    if not is_one_choice(prepared.task):
        raise JobError("detect.severity: parent needs one label an item; these have sets of labels")
    names = prepared.task.names
    return severities(names, {name: each.parent for name, each in labels.items()})


def budget_left(budget: int | float, rows: int, asked: int) -> int:
    """How many more items the run's budget holds, a count or a share of `rows`."""
    return (int(budget * rows) if isinstance(budget, float) else budget) - asked


def within_budget(
    issues: list[LabelIssue], budget: int | float | None, rows: int, asked_before: set[str]
) -> list[LabelIssue]:
    """The issues that may be judged: the worst ones, as many as the run's budget still holds.

    `budget` is a count or a share of `rows`, over the whole run; an item that was judged in an
    earlier round (`asked_before`) is already counted.
    """
    if budget is None:
        return issues
    left = budget_left(budget, rows, len(asked_before))
    chosen = []
    for issue in issues:
        if issue.id in asked_before:
            chosen.append(issue)
        elif left > 0:
            chosen.append(issue)
            left -= 1
    return chosen
