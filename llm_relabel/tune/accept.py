"""People accept or reject proposals label by label; the definitions file is edited in place."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.config.definitions import LabelDefinitions, load_definitions
from llm_relabel.config.job import Job
from llm_relabel.errors import DataError, DefinitionsError, JobError, nearest
from llm_relabel.files.journal import read_lines, write_lines, write_whole
from llm_relabel.tune.guideline import FORM, INSTRUCTION, OF_ALL
from llm_relabel.tune.yaml_edits import edited

PROPOSALS, RESULT = "proposals.jsonl", "tune.json"
ALL = "all"
BEFORE = ".before"


def decide(job: Job, folder: Path, accept: Sequence[str], reject: Sequence[str]) -> str:
    """Write the accepted labels' new words into the job's definitions; what was done, in words.

    Raises JobError, DataError or DefinitionsError, and then changes nothing.
    """
    if not (folder / PROPOSALS).is_file():
        raise DataError(
            f"{str(folder)!r} holds no proposals; `llm-relabel tune JOB --gold FILE` makes them"
        )
    lines = list(read_lines(folder / PROPOSALS))
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    open_ = list(dict.fromkeys(line["label"] for line in lines))
    if not open_:
        return "There is nothing to accept or reject: this tuning proposed no other words."
    taken, refused = _named(accept, open_), _named(reject, open_)
    if ALL in accept:
        taken = [name for name in open_ if name not in refused]
    if both := set(taken) & set(refused):
        raise JobError(f"{sorted(both)[0]!r} is both accepted and rejected")
    told = _taken_over(job, [line for line in lines if line["label"] in taken])
    status = dict.fromkeys(taken, "accepted") | dict.fromkeys(refused, "rejected")
    lines = [{**line, "status": status.get(line["label"], line["status"])} for line in lines]
    write_lines(folder / PROPOSALS, lines)
    if refused:
        told.append(f"Rejected {len(refused)} labels: {', '.join(refused)}.")
    accepted = {line["label"] for line in lines if line["status"] == "accepted"}
    if taken and accepted != set(open_):
        told.append(
            "A part of the proposals is another guideline than the one that was tested: test it "
            "with `llm-relabel eval` on gold that no tuning has seen."
        )
    if taken and result["status"] != "proved":
        told.append(f"Note: this tuning ended as {result['status']!r}.")
    return "\n".join(told)


def _taken_over(job: Job, lines: Sequence[dict[str, Any]]) -> list[str]:
    """Accepted lines into the definitions; what is done, and what is left to the user."""
    told = list[str]()
    if words := [line for line in lines if line["field"] != FORM]:
        told.append(_write(job, words, list(dict.fromkeys(line["label"] for line in words))))
    told += [
        f"Write `template: {line['new']}` under `judge:` in the job file."
        for line in lines
        if line["field"] == FORM
    ]
    return told


def _named(names: Sequence[str], known: Collection[str]) -> list[str]:
    wanted = [name for name in names if name != ALL]
    if unknown := [name for name in wanted if name not in known]:
        raise JobError(
            f"there is no proposal for {unknown[0]!r}{nearest(unknown[0], known)}; there are some "
            f"for {', '.join(known) or 'none'}"
        )
    return list(dict.fromkeys(wanted))


def _write(job: Job, lines: Sequence[dict[str, Any]], taken: Sequence[str]) -> str:
    if not isinstance(job.labels, str):
        raise DefinitionsError(
            "the definitions stand in the job file itself (`labels:`), which is not edited; move "
            "them to a file, or copy the new words from labels.tuned.yaml"
        )
    path = job.resolve(job.labels)
    current = load_definitions(path)
    _check_old(current, lines, path)
    changes: dict[str, dict[str, Any]] = {}
    for line in lines:
        changes.setdefault(line["label"], {})[line["field"]] = line["new"]
    raw = path.read_bytes()
    mark = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    text = raw[len(mark) :].decode("utf-8")
    told = changes.pop(OF_ALL[INSTRUCTION], {}).get(INSTRUCTION)
    new = edited(text, changes, where=str(path), instruction=told)
    before = path.with_name(path.name + BEFORE)
    write_whole(before, raw)
    write_whole(path, mark + new.encode("utf-8"))
    try:
        same = load_definitions(path).model_dump() == _wanted(current, changes, told).model_dump()
    except DefinitionsError:
        same = False
    if not same:
        write_whole(path, raw)
        raise DefinitionsError(
            f"{str(path)!r} cannot be edited without a change elsewhere; copy the new words from "
            "labels.tuned.yaml"
        )
    return (
        f"Accepted {len(taken)} labels: {', '.join(taken)}. {path} is changed, and {before.name} "
        "beside it is as it was. The judge is asked anew under other definitions: cached verdicts "
        "no longer apply, and a run that was begun with the old ones keeps to those (give a new "
        "`output`)."
    )


def _check_old(current: LabelDefinitions, lines: Sequence[dict[str, Any]], path: Path) -> None:
    for line in lines:
        if line["label"] == OF_ALL[INSTRUCTION]:
            plain: dict[str, Any] = {INSTRUCTION: current.instruction}
        else:
            entry = current.labels.get(line["label"])
            plain = {} if entry is None else entry.model_dump(mode="json", by_alias=True)
        if plain.get(line["field"]) not in (line["old"], line["new"]):
            raise DefinitionsError(
                f"{str(path)!r}: {line['field']!r} of {line['label']!r} is no longer what the "
                "tuning began with; tune again, or copy the new words from labels.tuned.yaml"
            )


def _wanted(
    current: LabelDefinitions, changes: dict[str, dict[str, Any]], instruction: str | None
) -> LabelDefinitions:
    plain = current.model_dump(mode="json", by_alias=True)
    if instruction is not None:
        plain["instruction"] = instruction
    for name, fields in changes.items():
        plain["labels"][name] |= fields
    return LabelDefinitions.model_validate(plain)
