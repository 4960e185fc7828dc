"""Label issues become prompts: templates, the fence around untrusted text, the candidates."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from llm_relabel.errors import JobError
from llm_relabel.records import Item, LabelIssue, Message
from llm_relabel.spellings import item_keys, text_key
from llm_relabel.tasks import Task
from llm_relabel.units import LabelValue

EXAMPLES = ("examples", "counterexamples")  # of a label, as templates are given it
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def template_folder() -> Path:
    """Where the templates are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    shipped = package / "templates"
    return shipped if shipped.is_dir() else package.parent / "prompts"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        # Prompts are plain text for a model, not HTML: escaping would change the item.
        autoescape=False,
        keep_trailing_newline=False,
    )
    environment.filters["tojson_text"] = lambda text: json.dumps(text, ensure_ascii=False)
    return environment


def fence_for(text: str) -> str:
    """A marker line that `text` does not contain, derived from it.

    The same text always gets the same marker, so the prompt and its cache key are stable, and
    nobody who writes a text can foresee a marker that closes its own fence: any text that
    holds the marker gets another one.
    """
    counter = 0
    while True:
        digest = hashlib.sha256(f"{counter}:{text}".encode("utf-8", "surrogatepass")).hexdigest()
        fence = f"<<<item-{digest[:16]}>>>"
        if fence not in text:
            return fence
        counter += 1


def choose_candidates(
    issue: LabelIssue, *, runner_up: LabelValue, seed: int, shuffle: int = 0
) -> tuple[LabelValue, ...]:
    """The given, current and predicted label of an issue, each once, in a seeded order.

    A single candidate would be a hint, so the model's `runner_up` joins one that stands alone.
    The order depends on the item, the seed and the number of the `shuffle` only: the same
    question in a later round is the same prompt, and its verdict is reused.
    """
    wanted: list[LabelValue] = []
    for label in (issue.given_label, issue.current_label, issue.predicted_label):
        if label is not None and label not in wanted:
            wanted.append(label)
    if len(wanted) < 2 and runner_up is not None and runner_up not in wanted:
        wanted.append(runner_up)
    wanted.sort(key=repr)
    again = f":{shuffle}" if shuffle else ""
    random.Random(f"{seed}:{issue.id}{again}").shuffle(wanted)
    return tuple(wanted)


ANSWER_TOKENS = 80  # a short rationale, a label, a confidence


def estimated_tokens(text: str) -> float:
    """About how many tokens a text has: four ASCII characters make one, any other is one."""
    if text.isascii():
        return len(text) / 4
    others = sum(map("\x7f".__lt__, text))
    return (len(text) - others) / 4 + others


def cut_to(texts: Sequence[str], limit: int) -> list[str]:
    """The texts, the middle left out of the longest until all have `limit` tokens together.

    Short texts stay whole; what they leave is shared evenly by the longer ones. A cut text
    keeps two thirds of its share at its head and one at its tail, and says what is missing.
    """
    if sum(map(len, texts)) <= limit:
        return list(texts)  # no character is more than one token
    sizes = [estimated_tokens(text) for text in texts]
    if sum(sizes) <= limit:
        return list(texts)
    share, left = 0.0, float(limit)
    for place, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - place)
        if size > share:
            break
        left -= size
    return [
        text if size <= share else _without_middle(text, share)
        for text, size in zip(texts, sizes, strict=True)
    ]


def _without_middle(text: str, tokens: float) -> str:
    head = _prefix(text, tokens * 2 / 3)
    tail = _prefix(text[::-1], tokens / 3)[::-1]
    missing = len(text) - len(head) - len(tail)
    return f"{head}\n[... {missing:,} characters are left out here ...]\n{tail}"


def _prefix(text: str, tokens: float) -> str:
    """The longest start of `text` that has at most so many tokens."""
    low, high = int(tokens), min(len(text), int(tokens * 4) + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if estimated_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]


class PromptBuilder:
    """Builds the messages of one job: the stable part once, the item's part per ask."""

    def __init__(
        self,
        task: Task,
        *,
        schema_in_words: bool,
        max_item_tokens: int = 8000,
        template: Path | None = None,
    ) -> None:
        """`schema_in_words` writes the schema into the prompt, for servers that enforce none.

        Of an item that is longer than `max_item_tokens` (see `cut_to`) the middle is left out.
        `template` is a file of the user's own in the place of the task's. Raises JobError.
        """
        self._task = task
        self._max_item_tokens = max_item_tokens
        self._template = template or template_folder() / task.template  # a whole path is itself
        module = _module_of(self._template)
        self._module = module
        self._constants = task.question()
        words = {text_key(text) for label in self._labels for text in _examples(label)}
        self._examples = frozenset(words)
        self._schema = (
            json.dumps(task.answer_schema(), ensure_ascii=False) if schema_in_words else None
        )
        self._systems: dict[frozenset[str], Message] = {}
        try:
            self.system = self._system(frozenset())
            example = [{"name": "text", "text": "an item"}]
            shown = self._user(example, "<<<item>>>", ["a", "b"], self._constants)
        except (jinja2.TemplateError, TypeError) as error:
            raise JobError(
                f"the template {str(self._template)!r} cannot be filled in: {error}; its macro "
                f"`system` is given {', '.join([*self._constants, 'schema'])}, and `user` is given "
                "fields, fence, candidates, and what it names of the others"
            ) from error
        if not re.search("<<<item>>>.*an item.*<<<item>>>", shown, re.DOTALL):
            raise JobError(
                f"the template {str(self._template)!r} must show the item's fields between two "
                "lines with `fence`: text of the dataset is not to be trusted"
            )

    @property
    def sha256(self) -> str:
        """The hash of the stable part: it changes with template, definitions and instruction."""
        source = self._template.read_bytes()
        limit = str(self._max_item_tokens).encode()
        return hashlib.sha256(self.system.text.encode() + source + limit).hexdigest()

    def build(self, item: Item, candidates: Sequence[LabelValue]) -> tuple[Message, ...]:
        """The messages for one item; no `candidates` is the blind form.

        Of the definitions' examples those that are this very item, or a copy of it, are left out.
        """
        own = frozenset(item_keys(item.fields.values()) & self._examples)
        constants = self._without(own)
        whole = [_SURROGATES.sub("\ufffd", text) for text in item.fields.values()]
        fields = [
            {"name": name, "text": text}
            for name, text in zip(item.fields, cut_to(whole, self._max_item_tokens), strict=True)
        ]
        fence = fence_for("\n".join(f"{field['name']}: {field['text']}" for field in fields))
        shown = [self._task.show(label) for label in candidates]
        user = self._user(fields, fence, shown, constants)
        return (self._system(own), Message("user", user))

    @property
    def _labels(self) -> Sequence[Mapping[str, Any]]:
        labels: Sequence[Mapping[str, Any]] = self._constants.get("labels", ())
        return labels

    def _without(self, own: frozenset[str]) -> dict[str, Any]:
        """The stable part's words without the examples that have one of the keys `own`."""
        if not own:
            return self._constants
        labels = [
            {
                name: [text for text in value if text_key(text) not in own]
                if name in EXAMPLES
                else value
                for name, value in label.items()
            }
            for label in self._labels
        ]
        return {**self._constants, "labels": labels}

    def _system(self, own: frozenset[str]) -> Message:
        """The stable part; the same for all items but those that are examples themselves."""
        if own not in self._systems:
            words = self._module.system(**self._without(own), schema=self._schema)
            self._systems[own] = Message("system", str(words).strip())
        return self._systems[own]

    def _user(
        self,
        fields: Sequence[Mapping[str, str]],
        fence: str,
        candidates: Sequence[str],
        constants: Mapping[str, Any],
    ) -> str:
        # Of the stable part's words a template takes those that it names.
        wanted = getattr(self._module.user, "arguments", ())
        constants = {name: constants[name] for name in wanted if name in constants}
        user = self._module.user(fields=fields, fence=fence, candidates=candidates, **constants)
        return str(user).strip()

    def re_ask(self, messages: Sequence[Message], answer: str, problem: str) -> tuple[Message, ...]:
        """The same question again after an unusable `answer`, saying what was wrong with it."""
        said = answer if len(answer) <= 2000 else answer[:2000] + " ..."
        return (
            *messages,
            Message("assistant", said or "(empty)"),
            Message(
                "user",
                f"That answer cannot be used: {problem}. Answer the same question again with one "
                "JSON object of the required form, and keep the rationale under 30 words.",
            ),
        )


@cache
def _module_of(template: Path) -> Any:
    """A template's macros. Raises JobError where a user's own cannot be used."""
    if template.parent == template_folder():
        return _environment().get_template(template.name).module
    # A file from elsewhere may be somebody else's: it fills in words and does nothing more.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    environment.filters.update(_environment().filters)
    try:
        module: Any = environment.from_string(template.read_text(encoding="utf-8")).module
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"the template {str(template)!r} cannot be read: {error}") from error
    except jinja2.TemplateError as error:
        raise JobError(f"the template {str(template)!r} is no Jinja template: {error}") from error
    if missing := [name for name in ("system", "user") if not hasattr(module, name)]:
        raise JobError(
            f"the template {str(template)!r} lacks the macro {' and '.join(map(repr, missing))}; "
            f"begin with a copy of one in {str(template_folder())!r}"
        )
    return module


def _examples(label: Mapping[str, Any]) -> list[str]:
    return [text for name in EXAMPLES for text in label.get(name, ())]


def describe_messages(messages: Sequence[Message]) -> str:
    """The messages as plain text, for a person who wants to read a prompt."""
    return "\n\n".join(f"[{message.role}]\n{message}" for message in messages)
