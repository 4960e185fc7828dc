"""Proposals by a writer: an LLM that is shown what was confused and writes the entries anew.

It reads text of the dataset, so what it writes is data, too: JSON of a fixed form, cut to the
limits, nothing of it executed, and no five words in a row of any item of gold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_relabel.config.definitions import LabelDefinition, LabelDefinitions
from llm_relabel.config.judges import JudgeMember, Prices
from llm_relabel.errors import AccessDenied, NoSuchModel, Paused, ProviderError
from llm_relabel.files.journal import Journal
from llm_relabel.judge.budget import Budget
from llm_relabel.judge.cache import CachedAnswer, VerdictCache
from llm_relabel.judge.chat import ChatProvider, ChatRequest
from llm_relabel.judge.metered import Bill, MeteredProvider
from llm_relabel.judge.providers.catalog import sampling_params
from llm_relabel.judge.retry import complete_with_retry
from llm_relabel.prompts.builder import environment
from llm_relabel.prompts.fence import fence_for
from llm_relabel.prompts.fit import cut_to
from llm_relabel.records import Message
from llm_relabel.tune.guideline import (
    INSTRUCTION,
    LONGEST_EXAMPLE,
    MOST_EXAMPLES,
    MOST_NOT,
    MOST_WORDS,
    OF_ALL,
    Proposal,
    within_limits,
)
from llm_relabel.tune.pairs import NOTHING, Miss, confusions
from llm_relabel.tune.pool import Pool

TEMPLATE = "tune.jinja"
MOST_PAIRS = 10  # of a round
MISSED, RIGHT = 5, 3  # items shown of each kind
ITEM_TOKENS = 400
ANSWER_TOKENS = 2000
NOTHING_SHOWN = "none of the labels"

ENTRY = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "definition": {"type": "string"},
        "examples": {"type": "array", "items": {"type": "string"}},
        "not": {"type": "array", "items": {"type": "string"}},
        "why": {"type": "string"},
    },
    "required": ["name", "definition", "examples", "not", "why"],
    "additionalProperties": False,
}
INSTRUCTION_SCHEMA = {
    "type": "object",
    "properties": {"instruction": {"type": "string"}, "why": {"type": "string"}},
    "required": ["instruction", "why"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"entries": {"type": "array", "items": ENTRY}},
    "required": ["entries"],
    "additionalProperties": False,
}


Form = TypeVar("Form", bound=BaseModel)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    definition: str = Field(min_length=1)
    examples: list[str] = []
    counterexamples: list[str] = Field(default=[], alias="not")
    why: str = ""


class _Entries(BaseModel):
    model_config = ConfigDict(extra="ignore")

    entries: list[_Entry]


class _Instruction(BaseModel):
    model_config = ConfigDict(extra="ignore")

    instruction: str = Field(min_length=1)
    why: str = ""


class Writer:
    """Asks one chat provider for new entries, a question for each confused pair.

    `text_of` gives the words of a missed unit and `id_of` its item's id; `forbidden` are runs of
    words that no entry may hold; `run` runs a coroutine; `note` hears of what was of no use.
    """

    def __init__(
        self, provider: ChatProvider, member: JudgeMember, prices: Prices | None, *,
        budget: Budget, cache: VerdictCache | None, journal: Journal, pool: Pool,
        text_of: Callable[[Miss], str], id_of: Callable[[int], str], forbidden: Collection[str],
        run: Callable[[Coroutine[Any, Any, list[str | None]]], list[str | None]],
        note: Callable[[str], None], instruction: bool = False,
    ) -> None:  # fmt: skip
        """`instruction`: whether that of all labels may be written anew, too."""
        self._instruction = instruction
        self.member, self.provider = member, provider
        self._metered = MeteredProvider(provider, member, prices, budget)
        self._cache, self._journal, self._pool = cache, journal, pool
        self._text_of, self._id_of, self._forbidden = text_of, id_of, forbidden
        self._run, self._note = run, note
        self._template: Any = environment().get_template(TEMPLATE).module
        self._params = sampling_params(member, sampled=False)
        self._priced = prices is not None

    def __call__(self, guide: LabelDefinitions, missed: Sequence[Miss]) -> list[Proposal]:
        """New entries for the labels of the most frequent confusions. Raises Paused."""
        pairs = _joined(confusions(missed), guide)[:MOST_PAIRS]
        requests = [self._request(guide, names, mine) for names, mine in pairs]
        if self._instruction and missed:
            requests.append(self._request(guide, (), missed))
        texts = self._run(self._all(requests))
        found: dict[str, Proposal] = {}
        for (names, mine), text in zip(pairs, texts, strict=False):
            for proposal in self._read(guide, names, mine, text):
                found.setdefault(proposal.label, proposal)
        if len(requests) > len(pairs) and (new := self._told(guide, texts[-1])) is not None:
            found[new.label] = new
        return list(found.values())

    def drafts(self, guide: LabelDefinitions, names: Sequence[str]) -> list[Proposal]:
        """First entries of labels that have only examples, a question for each."""
        requests = [self._request(guide, (name,), ()) for name in names]
        texts = self._run(self._all(requests))
        return [
            proposal
            for name, text in zip(names, texts, strict=True)
            for proposal in self._read(guide, (name,), (), text)
        ]

    def _told(self, guide: LabelDefinitions, text: str | None) -> Proposal | None:
        """A new instruction out of the writer's answer."""
        said = None if text is None else _parsed(text, _Instruction)
        if said is None:
            self._note("the writer wrote no instruction of the form asked")
            return None
        before = LabelDefinition(definition=guide.instruction or "-")
        proposed = before.model_copy(update={"definition": said.instruction})
        new = within_limits(proposed, before, self._forbidden)
        why = " ".join(said.why.split())[:LONGEST_EXAMPLE]
        return Proposal(OF_ALL[INSTRUCTION], new, why, self.provider.name)

    def _request(
        self, guide: LabelDefinitions, names: Sequence[str], mine: Sequence[Miss]
    ) -> ChatRequest:
        shown = [
            {"gold": miss.gold or NOTHING_SHOWN, "said": miss.said or NOTHING_SHOWN,
             "text": cut_to([self._text_of(miss)], ITEM_TOKENS)[0]}
            for miss in mine[: 2 * MISSED]
        ]  # fmt: skip
        right = [{"name": name, "texts": self._pool.exemplars(name, RIGHT)} for name in names]
        right = [group for group in right if group["texts"]]
        everything = [each["text"] for each in shown]
        everything += [text for group in right for text in group["texts"]]
        user = self._template.user(
            instruction=guide.instruction or "Give each item the label whose entry fits it best.",
            entries=[{"name": name, **guide.labels[name].model_dump()} for name in names],
            others=[name for name in guide.names if name not in names][:100],
            fence=fence_for("\n".join(everything)), missed=shown, right=right,
        )  # fmt: skip
        system = self._template.system(MOST_WORDS, MOST_EXAMPLES, MOST_NOT)
        in_words = self.member.structured_output == "prompt"
        schema = SCHEMA if names else INSTRUCTION_SCHEMA
        told = f"\n\nAnswer with one JSON object of this schema: {json.dumps(schema)}"
        messages = (
            Message("system", str(system).strip() + (told if in_words else "")),
            Message("user", str(user).strip()),
        )
        tokens = max(ANSWER_TOKENS, self.member.max_output_tokens)
        return ChatRequest(messages, None if in_words else schema, self._params, tokens)

    async def _all(self, requests: Sequence[ChatRequest]) -> list[str | None]:
        gate = asyncio.Semaphore(self.member.concurrency)

        async def one(request: ChatRequest) -> str | None:
            async with gate:
                return await self._text(request)

        return list(await asyncio.gather(*map(one, requests)))

    async def _text(self, request: ChatRequest) -> str | None:
        provider = self.provider
        key = request.sha256(
            provider=provider.provider, model=provider.model, base_url=provider.base_url
        )
        if self._cache is not None and (known := self._cache.get(key)) is not None:
            return known.text
        bill, text, usable = Bill(), None, False
        try:
            done = await complete_with_retry(
                self._metered.billing(bill), request, timeout=self.member.timeout,
                answered=lambda: self._metered.limits.answered,
            )  # fmt: skip
            text = done.text
            usable = any(_parsed(text, form) is not None for form in (_Entries, _Instruction))
        except (AccessDenied, NoSuchModel) as error:
            raise Paused(f"the writer {provider.name} cannot be used: {error}") from error
        except ProviderError as error:
            self._note(f"the writer gave no answer: {error}")
        finally:
            self._journal.append({
                "key": key, "text": text, "usable": usable, "calls": bill.calls,
                "cost": bill.cost if self._priced else None,
                "tokens": {"input": bill.tokens.input, "output": bill.tokens.output},
            })  # fmt: skip
        if text is not None and usable and self._cache is not None:
            self._cache.put(key, CachedAnswer(text, bill.tokens, bill.cost))
        return text

    def _read(
        self, guide: LabelDefinitions, names: Sequence[str], mine: Sequence[Miss], text: str | None
    ) -> list[Proposal]:
        entries = None if text is None else _parsed(text, _Entries)
        if entries is None:
            if text is not None:
                self._note(f"what the writer wrote of {' and '.join(names)} has not the form asked")
            return []
        found = []
        for entry in entries.entries:
            if entry.name not in names:
                self._note(f"the writer wrote an entry of {entry.name[:60]!r}, which was not asked")
                continue
            before = guide.labels[entry.name]
            proposed = before.model_copy(update={
                "definition": entry.definition,
                "examples": tuple(entry.examples),
                "counterexamples": tuple(entry.counterexamples),
            })  # fmt: skip
            new = within_limits(proposed, before, self._forbidden)
            ids = tuple(dict.fromkeys(self._id_of(miss.place) for miss in mine))
            why = " ".join(entry.why.split())[:LONGEST_EXAMPLE]
            pair = (mine[0].gold, mine[0].said) if mine else None
            found.append(Proposal(entry.name, new, why, self.provider.name, pair, ids))
        return found

    async def aclose(self) -> None:
        """Close the provider's connections, and put the cache on disk."""
        await self.provider.aclose()
        if self._cache is not None:
            self._cache.close()


def _joined(
    pairs: Mapping[tuple[str, str], Sequence[Miss]], guide: LabelDefinitions
) -> list[tuple[tuple[str, ...], list[Miss]]]:
    """Both directions of a confusion as one question, the most misses first."""
    found: dict[tuple[str, ...], list[Miss]] = {}
    for (gold, said), mine in pairs.items():
        names = tuple(name for name in guide.names if name in (gold, said) and name != NOTHING)
        if names:
            found.setdefault(names, []).extend(mine)
    return sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))


def _parsed(text: str, form: type[Form]) -> Form | None:
    start, end = text.find("{"), text.rfind("}")
    try:
        return form.model_validate_json(text[start : end + 1])
    except (ValidationError, ValueError, RecursionError):
        return None
