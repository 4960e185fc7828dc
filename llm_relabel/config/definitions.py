"""Label definitions: what each class means, in the words the judge will read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_relabel.errors import DefinitionsError, nearest

# What `init` writes where a person must write.
PLACEHOLDER = "TO WRITE:"
KEYS = ("definition", "examples", "not", "parent", "aliases")


class _Plain(yaml.SafeDumper):
    """Writes tuples as lists, and repeats what two classes share."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # These are line breaks to YAML, which folds them outside double quotes.
    style = '"' if any(sign in text for sign in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(tuple, lambda dumper, data: dumper.represent_list(data))
_Plain.add_representer(str, _text)


def as_yaml(value: Any, width: int = 100) -> str:
    """A value as YAML that reads back to it, whatever signs its texts have."""
    text: str = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=width)
    return text


class LabelDefinition(BaseModel):
    """One class: its meaning, items that are it, items that look like it and are not."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    definition: str = Field(min_length=1)
    examples: tuple[str, ...] = ()
    counterexamples: tuple[str, ...] = Field(default=(), alias="not")
    parent: str | None = None
    aliases: tuple[str, ...] = ()
    """Other spellings of the name in the data, which are read as this class."""


class LabelDefinitions(BaseModel):
    """The instruction and every class, in the order of the file; that order is the class order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: str | None = None
    labels: dict[str, LabelDefinition]

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, in the order of `pred_probs`."""
        return tuple(self.labels)

    @property
    def unwritten(self) -> tuple[str, ...]:
        """The classes whose definition is still the placeholder that `init` wrote."""
        return tuple(n for n, d in self.labels.items() if d.definition.startswith(PLACEHOLDER))

    @property
    def aliases(self) -> dict[str, str]:
        """The class name behind each other spelling."""
        return {alias: name for name, each in self.labels.items() for alias in each.aliases}

    def as_asked(self, instruction: str) -> dict[str, Any]:
        """What templates are given of them; `instruction` where they have none of their own."""
        return {
            "instruction": " ".join((self.instruction or instruction).split()),
            "labels": [{"name": name, **each.model_dump()} for name, each in self.labels.items()],
        }

    def to_yaml(self) -> str:
        """A definitions file of these; reading it again gives the same definitions."""
        labels = self.model_dump(by_alias=True, exclude_defaults=True)["labels"]
        plain: dict[str, Any] = {"labels": labels}
        if self.instruction is not None:
            plain = {"instruction": self.instruction, **plain}
        return as_yaml(plain)

    def sha256(self) -> str:
        """The hash that provenance records; it changes with any word of any definition."""
        plain = self.model_dump(by_alias=True)
        for label in plain["labels"].values():
            if not label["aliases"]:  # a key that is not used changes no hash
                del label["aliases"]
        canonical = json.dumps(plain, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_definitions(source: Path | Mapping[str, Any]) -> LabelDefinitions:
    """Read definitions from a `labels.yaml`, or from a job's inline mapping NAME: definition.

    Raises DefinitionsError naming the place, the value and what is allowed.
    """
    if isinstance(source, Mapping):
        return _parse({"labels": dict(source)}, "the job's inline `labels`")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DefinitionsError(
            f"label definitions {str(source)!r} do not exist; write them, or let "
            "`llm-relabel init` make a first version"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionsError(
            f"label definitions {str(source)!r} cannot be read as UTF-8 text: {error}"
        ) from error
    try:
        raw = yaml.load(text, Loader=UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise DefinitionsError(
            f"label definitions {str(source)!r} are not valid YAML: {error}{yaml_hint(error)}"
        ) from error
    return _parse(raw, repr(str(source)))


def yaml_hint(error: yaml.YAMLError) -> str:
    """What often is behind YAML that cannot be parsed."""
    if not isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return ""
    return (
        '. Put quotes round a text that holds ": ", round one with a comma inside {...}, and round '
        "one that begins with a sign such as @ * & ! % [ {"
    )


class UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses keys that YAML would silently make something else.

    These are a key written twice, and one such as `yes`, `null` or `007` that is no text to YAML.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        meant: dict[Any, str] = {}
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is written twice", key_node.start_mark
                )
            seen.add(key_node.value)
            if isinstance(key_node, yaml.ScalarNode) and not key_node.tag.endswith(
                (":str", ":merge")
            ):
                value = self.construct_object(key_node)
                # `true` and `True` are the label true of a true/false column.
                if str(value).casefold() != key_node.value.casefold():
                    raise yaml.constructor.ConstructorError(
                        None, None,
                        f"YAML reads the key {key_node.value} as {value!r}; put quotes round it: "
                        f"{key_node.value!r}",
                        key_node.start_mark,
                    )  # fmt: skip
                if value in meant:  # 1 and True are one key to Python
                    raise yaml.constructor.ConstructorError(
                        None, None,
                        f"YAML reads the keys {meant[value]} and {key_node.value} as one; put "
                        f"quotes round them: {meant[value]!r}, {key_node.value!r}",
                        key_node.start_mark,
                    )  # fmt: skip
                meant[value] = key_node.value
        return super().construct_mapping(node, deep)


def _parse(raw: Any, where: str) -> LabelDefinitions:
    if not isinstance(raw, dict) or "labels" not in raw:
        raise DefinitionsError(
            f"{where}: expected a mapping with `labels:` (and optionally `instruction:`), "
            f"found {type(raw).__name__}"
        )
    labels = raw["labels"]
    if not isinstance(labels, dict) or not labels:
        raise DefinitionsError(
            f"{where}: `labels` must map label names to definitions, found {labels!r}"
        )
    normal, problems = _normal(labels)
    for unknown in [key for key in raw if key not in ("labels", "instruction")]:
        hint = nearest(unknown, ["labels", "instruction"])
        if unknown == "aliases":
            hint = "; aliases stand under their label, as `NAME: {definition: ..., aliases: [...]}`"
        problems.append(f"unknown key {unknown!r}{hint}")
    try:
        parsed = LabelDefinitions.model_validate(
            {"instruction": raw.get("instruction"), "labels": normal}
        )
    except ValidationError as error:
        problems += [_why(found) for found in error.errors()]
        raise DefinitionsError(f"{where}: " + "; ".join(problems)) from None
    problems += _wrong_relations(parsed)
    if problems:
        raise DefinitionsError(f"{where}: " + "; ".join(problems))
    return parsed


def _normal(labels: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """The labels by their names as text, each a mapping; and what is wrong with them."""
    problems = list[str]()
    normal: dict[str, Any] = {}
    for name, value in labels.items():
        # YAML reads 0, true and no as int and bool; a class name is always text.
        key = str(name).lower() if isinstance(name, bool) else str(name)
        if key in normal:
            problems.append(f"the class {key!r} is defined twice")
        normal[key] = {"definition": value} if isinstance(value, str) else value
        if value is None:
            problems.append(
                f"the class {key!r} has no definition; where it is a part of one, put quotes round "
                "the whole text, for inside {...} a comma ends it"
            )
            normal[key] = {"definition": "-"}  # so that the other problems are told, too
        if name is None:
            problems.append("a class is called null, which is no text; put quotes round it: 'null'")
        if not key.strip():
            problems.append("a class has an empty name")
    return normal, problems


def _why(found: Mapping[str, Any]) -> str:
    """One of pydantic's findings in words, with what mends it."""
    place = ".".join(str(part) for part in found["loc"])
    hint = ""
    if found["type"] == "extra_forbidden":
        hint = nearest(
            str(found["loc"][-1]), ["definition", "examples", "not", "parent", "aliases"]
        )
        if found["input"] is None:
            hint += "; put quotes round a text with a comma inside {...}"
    elif found["type"] in ("string_type", "model_type") and not isinstance(
        found["input"], list | dict
    ):
        hint = "; put quotes round it"
    return f"{place}: {found['msg']} (found {found['input']!r}){hint}"


def _wrong_relations(parsed: LabelDefinitions) -> list[str]:
    """What is wrong between names, parents and aliases."""
    problems = [
        f"the class {name!r} is its own parent"
        for name, each in parsed.labels.items()
        if each.parent == name
    ]
    for name, each in parsed.labels.items():
        for alias in each.aliases:
            if alias in parsed.labels:
                problems.append(
                    f"{alias!r} is an alias of {name!r} and a class of its own; remove one of them"
                )
            elif (other := parsed.aliases[alias]) != name:
                problems.append(f"{alias!r} is an alias of {name!r} and of {other!r}")
    return problems
