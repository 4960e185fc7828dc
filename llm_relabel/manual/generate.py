"""The pages that repeat what the code says: the job file's keys, and every command's options.

The models of the job file and the commands' own help are the source; a test compares them with
the pages that are committed.
"""

from __future__ import annotations

import json
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llm_relabel.config.job import Job
from llm_relabel.registry import TASKS

WIDTH = 80
WRITTEN = "<!-- Written by `make manual` from {source}; change it there. -->"

_WORDS: dict[Any, str] = {
    str: "text",
    bool: "`true` or `false`",
    int: "a whole number",
    float: "a number",
    Path: "a path",
}
_EXAMPLE = """\
task: classification
data:
  path: train.jsonl
  text: text
  label: label
labels: labels.yaml
judge:
  model: openai/gpt-4o-mini
  max_cost: 5.00
output: runs/train
"""


def generated_pages(commands: click.Group) -> dict[str, str]:
    """Topic to Markdown of every generated page; `commands` is the whole command line."""
    return {"job-file": job_file_page(), "command-line": command_line_page(commands)}


def job_file_page() -> str:
    """Every key of the job file: what it may hold, its default, what it means."""
    parts = [
        "# The job file: every key, what it may hold, its default",
        WRITTEN.format(source="the models of the job file"),
        _filled(
            "A job is a YAML file; `llm-relabel init` writes one. The shortest with a language "
            "model as the judge:"
        ),
        f"```yaml\n{_EXAMPLE}```",
        _filled(
            "An unknown key is an error that names the nearest known one. Relative paths start at "
            "the job file. `--set judge.concurrency=8` overrides a key for one command. The run "
            "folder keeps the job as it was run, defaults filled in."
        ),
        *_section(Job, "", "The file"),
    ]
    return "\n\n".join(parts) + "\n"


def command_line_page(commands: click.Group) -> str:
    """The help of every command, in the order of use."""
    parts = [
        "# The command line: every command and option",
        WRITTEN.format(source="the commands' --help"),
    ]
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    settings = {**commands.context_settings, **width}
    top = click.Context(commands, info_name="llm-relabel", **settings)
    parts += _help(top)
    return "\n\n".join(parts) + "\n"


def _help(context: click.Context) -> Iterator[str]:
    command = context.command
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"## {context.command_path}\n\n```text\n{text}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _help(click.Context(found, info_name=name, parent=context))


def _section(model: type[BaseModel], place: str, title: str) -> Iterator[str]:
    """One mapping: its own keys as a list, then every mapping below it."""
    heading = f"## {title}"
    about = _about(model)
    mappings: list[tuple[str, type[BaseModel]]] = []
    lines = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        path = f"{place}.{name}" if place else name
        below = _model_in(field.annotation)
        if below is not None:
            mappings.append((path, below))
        if below is None or field.description:
            lines.append(_key(path, field))
    yield "\n\n".join([heading, *([about] if place else []), "\n".join(lines)])
    for path, below in mappings:
        if issubclass(model, _base_of(below)):  # the judges beside the first are judges, too
            yield _member_section(below, path)
        else:
            yield from _section(below, path, f"`{path}`")


def _member_section(model: type[BaseModel], place: str) -> str:
    """A list of mappings whose keys are mostly told already: only their names, and what is new."""
    base = _base_of(model)
    shared = ", ".join(f"`{name}`" for name in base.model_fields)
    text = _filled(f"A list of mappings. Each has the keys of one judge, as above: {shared}.")
    own = [
        _key(f"{place}.{name}", field)
        for name, field in model.model_fields.items()
        if name not in base.model_fields
    ]
    return "\n\n".join([f"## `{place}`", text, *(["Besides:", "\n".join(own)] if own else [])])


def _base_of(model: type[BaseModel]) -> type[BaseModel]:
    """The most general mapping with keys that `model` is one of."""
    return next(c for c in reversed(model.__mro__) if getattr(c, "model_fields", None))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The mapping that a field holds, alone, or as None, or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)


def _key(path: str, field: FieldInfo) -> str:
    """One key as an item of a list."""
    if not field.description:
        raise ValueError(f"the job key {path!r} has no docstring below it; write what it means")
    kind = " or ".join(f"`{name}`" for name in TASKS) if path == "task" else _kind(field)
    default = "required" if field.is_required() else _default(field)
    told = " ".join(field.description.split())
    return _filled(f"- `{path}` ({kind}; {default}). {told}", indent="  ")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return "optional"
    if isinstance(value, tuple | dict) and not value:
        return "optional"
    return f"default `{value if isinstance(value, str) else json.dumps(value)}`"


def _kind(field: FieldInfo) -> str:
    kinds = list(dict.fromkeys(_kinds(field.annotation)))
    # A share is read from `30%`, too: of the two ways to write a number, one is enough to tell.
    if "a whole number" in kinds and "a number" in kinds:
        kinds.remove("a whole number")
    limits = _limits(field)
    return " or ".join(kinds) + (f" {limits}" if limits else "")


def _kinds(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _kinds(each)
    elif origin is Literal:
        yield " or ".join(f"`{each}`" for each in get_args(annotation))
    elif _model_in(annotation):
        yield "a list of mappings" if origin is tuple else "a mapping"
    elif origin is tuple:
        yield "text or a list of texts"
    elif origin is dict:
        yield "a mapping"
    elif annotation in _WORDS:
        yield _WORDS[annotation]
    elif annotation is not type(None):
        raise ValueError(f"there are no words for {annotation!r}; add them to _WORDS")


def _limits(field: FieldInfo) -> str:
    low = high = ""
    for each in field.metadata:
        if isinstance(each, annotated_types.Ge):
            low = f"from {each.ge}"
        elif isinstance(each, annotated_types.Gt):
            low = f"above {each.gt}"
        elif isinstance(each, annotated_types.Le):
            high = f"to {each.le}" if low.startswith("from") else f"up to {each.le}"
        elif isinstance(each, annotated_types.Lt):
            high = f"below {each.lt}"
    if low.startswith("from") and not high:
        return f"of at least {low.removeprefix('from ')}"
    both = " and " if low.startswith("above") and high else " "
    return f"{low}{both}{high}".strip()


def _about(model: type[BaseModel]) -> str:
    """The docstring of a mapping, its paragraphs filled."""
    text = textwrap.dedent(f"    {model.__doc__ or ''}")
    return "\n\n".join(_filled(" ".join(part.split())) for part in text.split("\n\n"))


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
