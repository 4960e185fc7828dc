"""Label issues become prompts: templates, the fence around untrusted text, the candidates."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from llm_relabel.config.job import Job
from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import JobError, nearest
from llm_relabel.prompts.fence import _SURROGATES, fence_for
from llm_relabel.prompts.fit import cut_to
from llm_relabel.records import Item, Message, TextPart
from llm_relabel.spellings import item_keys, text_key
from llm_relabel.tasks import Task
from llm_relabel.units import LabelValue

EXAMPLES = ("examples", "counterexamples")  # of a label, as templates are given it


def template_folder() -> Path:
    """Where the templates are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "templates"
    return shipped if shipped.is_dir() else package.parent / "prompts"


@cache
def environment() -> jinja2.Environment:
    """What fills in the bundled templates."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        undefined=jinja2.StrictUndefined,
        # Prompts are plain text for a model, not HTML: escaping would change the item.
        autoescape=False,
        keep_trailing_newline=False,
    )
    made.filters["tojson_text"] = lambda text: json.dumps(text, ensure_ascii=False)
    return made


class PromptBuilder:
    """Builds the messages of one job: the stable part once, the item's part per ask."""

    def __init__(
        self,
        task: Task,
        *,
        schema_in_words: bool,
        max_item_tokens: int = 8000,
        template: Path | None = None,
        none: bool = True,
    ) -> None:
        """`schema_in_words` writes the schema into the prompt, for servers that enforce none.

        Of an item that is longer than `max_item_tokens` (see `cut_to`) the middle is left out.
        `template` is a file of the user's own in the place of the task's. `none` False: the judge
        is not told that no label may fit. Raises JobError.
        """
        self._task = task
        self.max_item_tokens = max_item_tokens
        self._template = template or template_folder() / task.template  # a whole path is itself
        module = _module_of(self._template)
        self._module = module
        self._constants = task.question()
        self._none = none
        if not none and "none_word" in self._constants:
            self._constants["none_word"] = None
        words = {text_key(text) for label in self._labels for text in _examples(label)}
        self._examples = frozenset(words)
        self._form: str | None = getattr(module, "answer", None)
        if self._form not in (None, *task.answer_forms):
            raise JobError(
                f"the template {str(self._template)!r} sets answer to {self._form!r}; "
                f"{task.name} knows {', '.join(task.answer_forms) or 'no other form of an answer'}"
            )
        self._schema = (
            json.dumps(self.answer_schema(), ensure_ascii=False) if schema_in_words else None
        )
        self._systems: dict[frozenset[str], Message] = {}
        try:
            self.system = self._system(frozenset())
            example = [{"name": "text", "text": "an item"}]
            constants = {**self._constants, **task.about(None)}
            shown = self._user(example, "<<<item>>>", ["a", "b"], constants)
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

    def in_words(self) -> PromptBuilder:
        """The same with the schema written into the prompt."""
        return PromptBuilder(
            self._task,
            schema_in_words=True,
            max_item_tokens=self.max_item_tokens,
            template=self._template,
            none=self._none,
        )

    def answer_schema(self, *, full: bool = False) -> dict[str, Any]:
        """The schema of the answers that the template asks for; see `Task.answer_schema`."""
        form = {} if self._form is None else {"form": self._form}
        schema = self._task.answer_schema(full=full, **form)
        return schema if self._none else without(schema, self._task.question().get("none_word"))

    @property
    def sha256(self) -> str:
        """The hash of the stable part: it changes with template, definitions and instruction."""
        source = self._template.read_bytes()
        limit = str(self.max_item_tokens).encode()
        return hashlib.sha256(self.system.text.encode() + source + limit).hexdigest()

    def build(self, item: Item, candidates: Sequence[LabelValue]) -> tuple[Message, ...]:
        """The messages for one item; no `candidates` is the blind form.

        Of the definitions' examples those that are this very item, or a copy of it, are left out.
        """
        item = self._task.posed(item, candidates)
        own = frozenset(item_keys(item.fields.values()) & self._examples)
        constants = self._without(own)
        whole = [_SURROGATES.sub("\ufffd", text) for text in item.fields.values()]
        fields = [
            {"name": name, "text": text}
            for name, text in zip(item.fields, cut_to(whole, self.max_item_tokens), strict=True)
        ]
        fence = fence_for("\n".join(f"{field['name']}: {field['text']}" for field in fields))
        shown = [self._task.show(label) for label in candidates]
        user = self._user(fields, fence, shown, {**constants, **self._task.about(item)})
        images = self._task.images(item)
        return (self._system(own), Message("user", [*images, TextPart(user)]))

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
        return environment().get_template(template.name).module
    # A file from elsewhere may be somebody else's: it fills in words and does nothing more.
    sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    sandbox.filters.update(environment().filters)
    try:
        module: Any = sandbox.from_string(template.read_text(encoding="utf-8")).module
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


def prompt_builder(job: Job, task: Task, member: JudgeMember) -> PromptBuilder:
    """Builds the prompts that one judge of the job is sent. Raises JobError."""
    return PromptBuilder(
        task,
        schema_in_words=member.structured_output == "prompt",
        max_item_tokens=job.judge.max_item_tokens,
        template=_template_of(job, task),
        none=job.judge.none,
    )


def without(schema: Any, word: str | None) -> Any:
    """The schema less one of the words that it lists."""
    if isinstance(schema, dict):
        return {name: without(value, word) for name, value in schema.items()}
    if isinstance(schema, list):
        return [without(value, word) for value in schema if value != word or word is None]
    return schema


def bundled_forms(task: Task) -> dict[str, Path]:
    """The other forms of a task's prompt, by the names that `judge.template` knows."""
    found = template_folder().glob(f"{task.name}-*.jinja")
    return {each.stem.removeprefix(f"{task.name}-"): each for each in sorted(found)}


def _template_of(job: Job, task: Task) -> Path | None:
    """The template that a job names: a file, or one of the bundled forms. Raises JobError."""
    name = job.judge.template
    if name is None:
        return None
    path = job.resolve(name)
    if "." in name or "/" in name or path.is_file():
        return path
    bundled = bundled_forms(task)
    if name not in bundled:
        forms = f"the bundled form {', '.join(sorted(bundled))}, or " if bundled else ""
        raise JobError(
            f"judge.template {name!r} is not there; it is {forms}a file of your own (.jinja)"
            f"{nearest(name, bundled)}"
        )
    return bundled[name]
