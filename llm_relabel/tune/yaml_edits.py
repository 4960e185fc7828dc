"""A definitions file with some fields changed and every other byte as its author wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from llm_relabel.config.definitions import as_yaml
from llm_relabel.errors import DefinitionsError

Edit = tuple[int, int, str]


def edited(
    text: str, changes: Mapping[str, Mapping[str, Any]], where: str = "labels",
    instruction: str | None = None,
) -> str:  # fmt: skip
    """The text with new values of `changes`: by label, then by field; and a new `instruction`.

    Comments, order, quotes and anchors elsewhere stay. Raises DefinitionsError where a label is
    written with anchors, which would change others, too.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    labels = _value_of(root, "labels")
    if not isinstance(root, yaml.MappingNode) or not isinstance(labels, yaml.MappingNode):
        raise DefinitionsError(f"{where} has no mapping `labels:`")
    if (labels.flow_style or root.flow_style) and (changes or instruction is not None):
        raise DefinitionsError(
            f"{where}: the labels are written inside braces, where an entry cannot grow; write "
            "each on a line of its own, or copy the new words from labels.tuned.yaml"
        )
    shared = _shared(root)
    newline = "\r\n" if "\r\n" in text else "\n"
    edits: list[Edit] = []
    for key, value in labels.value:
        name = _name(key)
        if name not in changes:
            continue
        if _uses(value, shared) or value.start_mark.index < key.end_mark.index:
            raise DefinitionsError(
                f"{where}: the entry of {name!r} is written with YAML anchors or aliases, and a "
                "change might be one of other entries, too; write it out, or copy the new words "
                "from labels.tuned.yaml"
            )
        edits += _of_label(text, key, value, changes[name])
    if instruction is not None:
        edits.append(_of_instruction(text, root, instruction))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new.replace("\n", newline) + text[end:]
    return text


def _of_instruction(text: str, root: yaml.Node | None, instruction: str) -> Edit:
    assert isinstance(root, yaml.MappingNode)
    field = _field("instruction", instruction, 0)
    for key, value in root.value:
        if key.value == "instruction":
            return key.start_mark.index, _end(text, value), field
    start = root.value[0][0].start_mark.index
    return start, start, field + "\n"


def _of_label(text: str, key: yaml.Node, value: yaml.Node, fields: Mapping[str, Any]) -> list[Edit]:
    column = key.start_mark.column + 2
    if isinstance(value, yaml.ScalarNode):
        entry = {"definition": value.value, **fields}
        return [(_after_colon(text, value), _end(text, value), _block(entry, column))]
    assert isinstance(value, yaml.MappingNode)
    if value.flow_style:
        entry = yaml.safe_load(text[value.start_mark.index : value.end_mark.index]) | fields
        return [(_after_colon(text, value), value.end_mark.index, _block(entry, column))]
    column = value.value[0][0].start_mark.column
    found: list[Edit] = []
    missing = dict(fields)
    for field_key, node in value.value:
        if field_key.value not in fields:
            continue
        new = missing.pop(field_key.value)
        added = _added(node, new)
        if added:
            lines = _indented(as_yaml(added).rstrip("\n"), node.start_mark.column)
            end = text.find("\n", _end(text, node))  # behind a comment on the last line
            end = len(text) if end < 0 else end
            found.append((end, end, "\n" + lines))
        else:
            start = field_key.start_mark.index
            found.append((start, _end(text, node), _field(field_key.value, new, column).lstrip()))
    if missing:
        end = _end(text, value)
        lines = "\n".join(_field(name, new, column) for name, new in missing.items())
        found.append((end, end, "\n" + lines))
    return found


def _added(node: yaml.Node, new: Any) -> list[Any]:
    """What a list in block style only gains at its end."""
    if not isinstance(node, yaml.SequenceNode) or node.flow_style or not isinstance(new, list):
        return []
    old = [each.value for each in node.value]
    return new[len(old) :] if old and new[: len(old)] == old else []


def _after_colon(text: str, value: yaml.Node) -> int:
    start = value.start_mark.index
    return len(text[:start].rstrip(" "))


def _block(entry: Mapping[str, Any], column: int) -> str:
    return "\n" + "\n".join(_field(name, value, column) for name, value in entry.items())


def _field(name: str, value: Any, column: int) -> str:
    return _indented(as_yaml({name: value}, width=96 - column).rstrip("\n"), column)


def _indented(text: str, column: int) -> str:
    return "\n".join(" " * column + line if line else line for line in text.split("\n"))


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's own text ends: a block's end mark lies behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last: Any = node.value[-1]
        return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return int(start + len(text[start:end].rstrip()))


def _name(key: yaml.Node) -> str:
    """A label's name as the definitions have it: true and True are `true`."""
    name = str(key.value)
    return name.lower() if key.tag.endswith(":bool") else name


def _value_of(root: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs: Sequence[Any] = root.value if isinstance(root, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def _shared(root: yaml.Node | None) -> set[int]:
    """The nodes that stand in several places."""
    seen: dict[int, int] = {}
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.Node):
            continue
        seen[id(node)] = seen.get(id(node), 0) + 1
        if seen[id(node)] == 1 and isinstance(node, yaml.CollectionNode):
            waiting += [part for each in node.value
                        for part in (each if isinstance(each, tuple) else (each,))]  # fmt: skip
    return {node for node, count in seen.items() if count > 1}


def _uses(node: yaml.Node, shared: set[int]) -> bool:
    if id(node) in shared:
        return True
    if not isinstance(node, yaml.CollectionNode):
        return False
    parts = [p for each in node.value for p in (each if isinstance(each, tuple) else (each,))]
    return any(_uses(part, shared) for part in parts)
