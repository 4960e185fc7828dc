"""Requests as tokens, for a model in process: the chat template, and the answers it may give."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import jinja2

from llm_relabel.errors import JobError, RequestRejected
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.image_limits import check_images
from llm_relabel.judge.wire import clean
from llm_relabel.records import Message

# Read by the templates that know them: no hidden reasoning, and the same prompt every day.
TEMPLATE_WORDS = {"enable_thinking": False, "date_string": "1 Jan 2026"}
FIRST = re.compile(r"(?<=\S)")  # behind the first character that is no space
PROBES = ("s4d1f", "u7b0e")  # stand for a system and a user message


@dataclass(frozen=True, eq=False)
class Choices:
    """The allowed answers of one schema, ready to be scored.

    Each of `groups` holds the numbers of answers that exclude each other. All answers begin with
    the tokens `shared` and go on with their own of `tails`. `paths` are what has to be read to
    score the tails, and `steps` say what for: (path, position in it, next token, answer). In a
    multi-label schema the answers are the verdicts, then yes and no for each label.
    """

    labels: tuple[str, ...]
    verdicts: tuple[str, ...]
    multi_label: bool
    groups: list[list[int]]
    shared: list[int]
    tails: list[list[int]]
    paths: list[list[int]]
    steps: list[tuple[int, int, int, int]]

    @property
    def depth(self) -> int:
        """The tokens of the longest path."""
        return max(map(len, self.paths), default=0)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised question; `prefix` is what every question of the job begins with."""

    prefix: tuple[int, ...]
    rest: tuple[int, ...]
    choices: Choices

    @property
    def size(self) -> int:
        """The tokens of the question."""
        return len(self.prefix) + len(self.rest)


class HFText:
    """One tokenizer and its chat template."""

    def __init__(self, name: str, tokenizer: Any, *, reads: int, knows: int) -> None:
        """`reads` is how many tokens the model takes at once, `knows` how many it has at all.

        Raises JobError for a broken template.
        """
        self.name = name
        self.reads = reads
        self.knows = knows
        self._tokenizer = tokenizer
        self._template = _template_of(tokenizer)
        self._control = _control_words(tokenizer, self._template or "")
        self._choices: dict[tuple[tuple[str, ...], tuple[str, ...], bool], Choices] = {}
        self._prefixes: dict[str, tuple[int, ...]] = {}
        self._merges = False
        self._merges = not self._shows_both()
        if self._merges and not self._shows_both():
            raise JobError(
                f"judge.model {name!r} has a chat template that fails or drops the user's message; "
                "mend chat_template.jinja in its folder, or name another model"
            )

    def read(self, request: ChatRequest) -> Prompt:
        """A request as tokens. Raises RequestRejected."""
        check_images(request.messages, "hf", self.name)
        choices = self._choices_of(request.schema)
        try:
            ids = self._encode(request.messages)
            prefix = self._prefix_of(request.messages, ids[:-1])
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RequestRejected(f"{self.name} cannot read the request: {error}") from error
        size = len(ids) + len(choices.shared) + max(map(len, choices.tails))
        if size > self.reads:
            raise RequestRejected(
                f"{self.name} reads {self.reads} tokens, and the prompt with an answer has {size}; "
                "lower judge.max_item_tokens, shorten the label definitions, or name a model with "
                "a longer context"
            )
        # Looked up, such a token would be an error on a CPU and the end of everything on a GPU.
        if (unknown := max(ids)) >= self.knows:
            raise RequestRejected(
                f"{self.name} has no weights for the token {unknown}, "
                f"{self._tokenizer.convert_ids_to_tokens(unknown)!r}, that its own tokenizer finds "
                f"in the prompt: it knows {self.knows}; use the tokenizer that belongs to the model"
            )
        return Prompt(prefix, tuple(ids[len(prefix) :]), choices)

    # Messages

    def _shows_both(self) -> bool:
        """Whether a system message and a user message both reach the model."""
        try:
            text = self._render([Message("system", PROBES[0]), Message("user", PROBES[1])])
        except (jinja2.TemplateError, TypeError):  # such as "System role not supported"
            return False
        return all(probe in text for probe in PROBES)

    def _render(self, messages: Sequence[Message]) -> str:
        """The messages as the one text that the model continues."""
        turns = [{"role": one.role, "content": self._plain(one.text)} for one in messages]
        if self._template is None:
            return "\n\n".join(turn["content"] for turn in turns) + "\n\nAnswer:\n"
        if self._merges and len(turns) > 1 and turns[0]["role"] == "system":
            system, user, *others = turns
            content = f"{system['content']}\n\n{user['content']}"
            turns = [{"role": user["role"], "content": content}, *others]
        text: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **TEMPLATE_WORDS
        )
        # Some templates begin the reasoning; the answer comes after it.
        return text + "\n</think>\n\n" if text.rstrip().endswith("<think>") else text

    def _plain(self, text: str) -> str:
        """`text` with every control word broken by a space, so that it is mere text."""
        text = clean(text)
        while self._control.search(text):
            # After the first character that is no space: more space around a word breaks nothing.
            text = self._control.sub(lambda found: FIRST.sub(" ", found[0], count=1), text)
        return text

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        ids = self._ids(self._render(messages))
        first = self._tokenizer.bos_token_id
        if self._template is None and first in self._tokenizer("")["input_ids"]:
            return [first, *ids]  # a template writes it itself
        return ids

    def _prefix_of(self, messages: Sequence[Message], ids: list[int]) -> tuple[int, ...]:
        """What of `ids` every question with the same system message begins with.

        Taken from two made-up questions and not from those at hand, so that an answer does not
        depend on who else asks.
        """
        system = messages[0].text if messages[0].role == "system" else ""
        if system not in self._prefixes:
            head = [Message("system", system)] if system else []
            two = [self._encode([*head, Message("user", probe)]) for probe in ("a", "7 b")]
            self._prefixes = {system: tuple(_common(two))}
        stable = self._prefixes[system]
        own = _common([list(stable), ids])
        return stable if len(own) == len(stable) else tuple(own)

    # Answers

    def _choices_of(self, schema: Mapping[str, Any] | None) -> Choices:
        properties = (schema or {}).get("properties", {})
        many = "labels" in properties
        listed = properties["labels"].get("items", {}) if many else properties.get("label", {})
        labels = tuple(listed.get("enum", ()))
        verdicts = tuple(properties.get("verdict", {}).get("enum", ())) if many else ()
        if not labels:
            raise RequestRejected(
                f"{self.name} chooses among the labels that the answer's schema lists, and this "
                "schema lists none (no `enum`); ask with the task's full schema"
            )
        if (key := (labels, verdicts, many)) not in self._choices:
            self._choices[key] = self._make_choices(*key)
        return self._choices[key]

    def _make_choices(
        self, labels: tuple[str, ...], verdicts: tuple[str, ...], many: bool
    ) -> Choices:
        quoted = [json.dumps(self._plain(label), ensure_ascii=False) for label in labels]
        if many:
            texts = [f'{{"verdict": {json.dumps(word)}}}' for word in verdicts]
            groups = [list(range(len(texts)))] if texts else []
            for label in quoted:
                groups.append([len(texts), len(texts) + 1])
                texts += [f'{{"label": {label}, "applies": {word}' for word in ("true", "false")]
        else:
            texts = [f'{{"label": {label}}}' for label in quoted]
            groups = [list(range(len(texts)))]
        answers = [self._answer_ids(text) for text in texts]
        if len(set(map(tuple, answers))) < len(answers):
            raise RequestRejected(
                f"{self.name} cannot tell all labels apart: its tokenizer has no tokens for the "
                "characters in which they differ; rename them, or name another model"
            )
        shared = _common([ids[:-1] for ids in answers])
        tails = [ids[len(shared) :] for ids in answers]
        # A path that another one begins with need not be read itself.
        ways = sorted({tuple(tail[:-1]) for tail in tails if len(tail) > 1})
        nexts = [*ways[1:], ()]
        paths = [
            list(way) for way, after in zip(ways, nexts, strict=True) if after[: len(way)] != way
        ]
        seen = {
            tuple(path[: place + 1]): (row, place)
            for row, path in enumerate(paths)
            for place in range(len(path))
        }
        steps = [
            (*seen[tuple(tail[:at])], tail[at], number)
            for number, tail in enumerate(tails)
            for at in range(1, len(tail))
        ]
        return Choices(labels, verdicts, many, groups, shared, tails, paths, sorted(steps))

    def _answer_ids(self, text: str) -> list[int]:
        """The tokens of a whole answer, so that a label is cut as it is between its quotes.

        The seam to the prompt is where the model's turn begins, as in the chats it was trained on,
        and it is the same for all answers.
        """
        newline, ids = self._ids("\n"), self._ids("\n" + text)
        if ids[: len(newline)] == newline:
            # Without the detour some tokenizers would begin with a space.
            return ids[len(newline) :]
        return self._ids(text)


def _common(lists: Sequence[list[int]]) -> list[int]:
    """What all lists begin with."""
    same = takewhile(lambda column: len(set(column)) == 1, zip(*lists, strict=False))
    return [column[0] for column in same]


def _template_of(tokenizer: Any) -> str | None:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:  # it has none
        return None


def _control_words(tokenizer: Any, template: str) -> re.Pattern[str]:
    """Matches what the tokenizer would read as a control token, such as the end of a turn.

    Those are the template's to write: in an item they would let it speak as somebody else.
    """
    words = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content.strip()) > 1 and (token.special or token.content in template)
    ]
    words.sort(key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words)) or "(?!)")
