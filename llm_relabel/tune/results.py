"""What a tuning leaves behind: the result, what was tried, the proposals, the file that is new."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.config.judges import Prices
from llm_relabel.errors import DefinitionsError
from llm_relabel.files.journal import write_lines, write_whole
from llm_relabel.judge.opening import priced
from llm_relabel.judge.prices import is_paid
from llm_relabel.prompts.fit import estimated_tokens
from llm_relabel.provenance import now, versions
from llm_relabel.tune import proof
from llm_relabel.tune.accept import PROPOSALS, RESULT
from llm_relabel.tune.asking import under
from llm_relabel.tune.guideline import FORM, INSTRUCTION, OF_ALL, differences
from llm_relabel.tune.outcome import Outcome
from llm_relabel.tune.search import Candidate
from llm_relabel.tune.tuning import Tuning
from llm_relabel.tune.yaml_edits import edited

TUNED, DIFF, CANDIDATES = "labels.tuned.yaml", "labels.diff", "candidates.jsonl"


def write_results(tuning: Tuning, outcome: Outcome, took: Mapping[str, Any]) -> dict[str, Any]:
    """Write the folder's files; gives what `tune.json` holds. `took` is calls and dollars."""
    folder, guide = tuning.folder, outcome.found.best.guide
    lines = proposals(tuning, outcome)
    write_lines(folder / PROPOSALS, lines)
    write_lines(folder / CANDIDATES, [
        _candidate(each, number) for number, found in enumerate(outcome.searches, start=1)
        for each in found.tried
    ])  # fmt: skip
    old, new = source_of(tuning), tuned_text(tuning, guide)
    write_whole(folder / TUNED, new.encode())
    diff = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), "labels.yaml", TUNED
    )
    write_whole(folder / DIFF, "".join(diff).encode())
    result = {
        "at": now(),
        "status": outcome.status,
        "told": outcome.told,
        "mode": tuning.mode,
        "settings": tuning.settings.as_json(),
        "judge": tuning.job.judge.member_names[0],
        "gold": {
            "items": len(tuning.gold.rows),
            "sha256": _gold_sha(tuning),
            "parts": {name: len(places) for name, places in tuning.parts.items()},
        },
        "definitions_sha256": tuning.start.sha256(),
        "tuned_sha256": guide.sha256(),
        "form": outcome.form,
        "search": {
            "ended": outcome.found.ended,
            "tried": sum(len(found.tried) - 1 for found in outcome.searches),
            "select": {"right_before": outcome.found.tried[0].right,
                       "right_after": outcome.found.best.right},
        },
        "test": _test(outcome),
        "smallest_provable_gain": proof.smallest_gain(
            tuning.test_items, alpha=tuning.alpha(outcome.tested.look if outcome.tested else 1)
        ),
        "calls": dict(took),
        "prompt": _prompt_cost(tuning, guide, outcome.form),
        "advice": outcome.advice,
        "suspects": len(outcome.suspects),
        "identity": tuning.prepared.identity(),
        "versions": versions(),
    }  # fmt: skip
    write_lines(folder / "suspects.jsonl", outcome.suspects)
    write_whole(folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    return result


def proposals(tuning: Tuning, outcome: Outcome) -> list[dict[str, Any]]:
    """One line a changed field, with why it changed and what it did where guidelines are chosen."""
    found = outcome.found
    behind, stands = found.proposals, "proved" if outcome.status == "proved" else "unproved"
    by_label = {
        proposal.label: each for each in found.tried if each.kept for proposal in each.proposals
    }
    lines = []
    for each in differences(tuning.start, found.best.guide):
        proposal, came = behind[each.label], by_label[each.label]
        lines.append({
            **each.as_json(), "why": proposal.why, "by": proposal.by,
            "pair": list(proposal.pair) if proposal.pair else None,
            "evidence": list(proposal.evidence[:20]),
            "select": {"fixed": came.fixed, "broken": came.broken, "labels": len(came.proposals)},
            "status": stands,
        })  # fmt: skip
    if outcome.form is not None:
        lines.append({
            "label": OF_ALL[FORM], "field": FORM, "old": tuning.job.judge.template,
            "new": outcome.form, "why": "this form of the prompt did best under your definitions",
            "by": "draft", "pair": None, "evidence": [],
            "select": {"fixed": 0, "broken": 0, "labels": 0}, "status": stands,
        })  # fmt: skip
    return lines


def source_of(tuning: Tuning) -> str:
    """The definitions as their file has them, or as YAML where the job holds them itself."""
    job = tuning.job
    if isinstance(job.labels, str):
        return job.resolve(job.labels).read_bytes().decode("utf-8-sig")
    return tuning.start.to_yaml()


def tuned_text(tuning: Tuning, guide: LabelDefinitions) -> str:
    """The same file with the new words, comments and order kept where that can be."""
    changes: dict[str, dict[str, Any]] = {}
    for each in differences(tuning.start, guide):
        changes.setdefault(each.label, {})[each.field] = each.new
    told = changes.pop(OF_ALL[INSTRUCTION], {}).get(INSTRUCTION)
    try:
        return edited(source_of(tuning), changes, instruction=told)
    except DefinitionsError:
        return guide.to_yaml()


def _candidate(each: Candidate, search: int) -> dict[str, Any]:
    return {
        "search": search, "number": each.number, "parent": each.parent, "by": each.by,
        "labels": [proposal.label for proposal in each.proposals],
        "definitions_sha256": each.guide.sha256(),
        "tokens": round(estimated_tokens(each.guide.to_yaml())),
        "select": {"right": each.right, "fixed": each.fixed, "broken": each.broken},
        "kept": each.kept,
    }  # fmt: skip


def _test(outcome: Outcome) -> dict[str, Any] | None:
    tested = outcome.tested
    if tested is None:
        return None
    low, high = _interval(tested.fixed, tested.broken, tested.items)
    return {
        "items": tested.items, "fixed": tested.fixed, "broken": tested.broken,
        "right_before": tested.right_before, "right_after": tested.right_after,
        "lost": tested.lost, "p": tested.p, "alpha": tested.alpha, "look": tested.look,
        "difference": (tested.fixed - tested.broken) / tested.items,
        "interval": [low, high], "proved": tested.proved, "fell": tested.fell,
    }  # fmt: skip


def _interval(fixed: int, broken: int, items: int) -> tuple[float, float]:
    """A 95% interval of the difference of paired shares (Agresti and Min 2005: half an item more
    in each of the four cells)."""
    n = items + 2
    one, other = (fixed + 0.5) / n, (broken + 0.5) / n
    spread = 1.96 * np.sqrt((one + other - (one - other) ** 2) / n)
    return float(one - other - spread), float(one - other + spread)


def _prompt_cost(tuning: Tuning, guide: LabelDefinitions, form: str | None) -> dict[str, Any]:
    """What the stable part of the prompt takes for 1,000 items, before and after."""
    member = tuning.job.judge.members[0]
    prices: Prices | None = priced(member, tuning.job.judge)
    found: dict[str, Any] = {}
    for name, each in (("before", tuning.start), ("after", guide)):
        own = under(tuning.prepared, each, form if name == "after" else None)
        tokens = estimated_tokens(own.prompts.system.text)
        dollars = tokens * prices.input / 1000 if prices is not None and is_paid(prices) else None
        found[name] = {"tokens": round(tokens), "dollars_per_1000": dollars}
    return found


def _gold_sha(tuning: Tuning) -> str:
    digest = hashlib.sha256()
    for row, label in zip(tuning.gold.rows.tolist(), tuning.gold.truth.tolist(), strict=True):
        digest.update(f"{tuning.prepared.dataset.ids[row].as_py()!r} {label!r}\n".encode())
    return digest.hexdigest()
