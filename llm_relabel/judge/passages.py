"""One verdict on a long item out of those on its passages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

from llm_relabel.prompts.passages import Passage, joined
from llm_relabel.records import Tokens, Verdict
from llm_relabel.tasks import Task
from llm_relabel.units import label_json


def whole_verdict(task: Task, parts: Sequence[Passage], verdicts: Sequence[Verdict]) -> Verdict:
    """What the verdicts on all passages say of the item; each paid for.

    One that failed, or else one that abstained, is the verdict on the whole: a list that lacks a
    passage is not the item's. `confidence` is that in all of them.
    """
    order = ("failed", "abstain", "answer")
    worst = min(verdicts, key=lambda verdict: order.index(verdict.outcome))
    keys = "".join(verdict.prompt_sha256 or "" for verdict in verdicts)
    costs = [verdict.cost for verdict in verdicts]
    told = [each.confidence for each in verdicts]
    seconds = [each.seconds for each in verdicts if each.seconds is not None]
    answer, confidence = None, None
    if worst.outcome == "answer" and task.label_parts is not None:
        labels = [
            task.check(verdict.answer, part.item)
            for part, verdict in zip(parts, verdicts, strict=True)
        ]
        answer = label_json(joined(task.label_parts, parts, labels))
        known = [each for each in told if each is not None]
        confidence = math.prod(known) if len(known) == len(told) else None
    return replace(
        worst,
        answer=answer,
        confidence=confidence,
        rationale=" ".join(dict.fromkeys(filter(None, (each.rationale for each in verdicts)))),
        prompt_sha256=hashlib.sha256(keys.encode()).hexdigest(),
        tokens=sum((each.tokens for each in verdicts), Tokens()),
        cost=None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        cached=all(each.cached for each in verdicts),
        calls=sum(each.calls for each in verdicts),
        seconds=math.fsum(seconds) if seconds else None,
        repaired=any(each.repaired for each in verdicts),
    )
