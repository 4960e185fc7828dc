"""Columns inside other columns: `payload.body` is the field `body` of the column `payload`.

A column whose own name has dots in it comes first. Objects lead on, lists do not: a row of a list
has not one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# So deep the names of inner columns are listed.
DEEPEST = 4
THROUGH_A_LIST = "goes through a list, which has not one value a row; write the list's rows out"


class ThroughList(Exception):
    """Raised where a path goes on inside a list."""


# JSON objects


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column in one JSON object, None where there is none. Raises ThroughList."""
    if name in row or "." not in name:
        return row.get(name)
    found: Any = row
    for part in name.split("."):
        if isinstance(found, list):
            raise ThroughList(name)
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def names_in(row: Mapping[str, Any], before: str = "", depth: int = 1) -> Iterator[str]:
    """The names of the columns of a JSON object, inner ones after the one that holds them."""
    for key, value in row.items():
        yield before + key
        if isinstance(value, Mapping) and depth < DEEPEST:
            yield from names_in(value, f"{before}{key}.", depth + 1)


# Arrow


def path_of(schema: pa.Schema, name: str) -> Sequence[str] | None:
    """The fields that lead to a column of an Arrow schema, outermost first; None: there is none.

    Raises ThroughList.
    """
    if name in schema.names:
        return (name,)
    parts, kind = name.split("."), None
    if parts[0] not in schema.names:
        return None
    for part in parts:
        if kind is None:
            kind = schema.field(part).type
            continue
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            raise ThroughList(name)
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return parts


def column_at(table: Any, path: Sequence[str]) -> Any:
    """The column of an Arrow table or batch that a path leads to."""
    found = table.column(path[0])
    return pc.struct_field(found, list(path[1:])) if len(path) > 1 else found


def names_of_schema(fields: Iterable[pa.Field], before: str = "", depth: int = 1) -> Iterator[str]:
    """The names of the columns of an Arrow schema, inner ones after the one that holds them."""
    for field in fields:
        yield before + field.name
        if pa.types.is_struct(field.type) and depth < DEEPEST:
            yield from names_of_schema(field.type, f"{before}{field.name}.", depth + 1)
