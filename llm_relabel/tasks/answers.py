"""Judges' texts, as far as they are alike in every task: one JSON object, however it is wrapped.

What stands round an answer (thoughts, a code fence, prose, other quotes) is taken off where the
answer is the only one there; such an answer counts as `repaired`. Nothing is guessed: two
different answers in one text, or a word that is no label as it stands, are no answer.
"""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from llm_relabel.records import Item
from llm_relabel.tasks.task import InvalidAnswer

# Characters of an unusable answer that a message repeats. They may be the item's own words, and
# the message goes back to the judge.
SHOWN = 100
# A bare label, or lines such as `Label: spam`, stand in short texts; a long one is an essay.
LONGEST_PLAIN = 2000
# So many places are looked at where an object may begin: an answer has few, and an attack many.
MOST_OBJECTS = 64
# A stated confidence over 1 is read in percent from here on; 5 may be of 5 or of 10.
PERCENT_FROM = 10

_THINKING = re.compile(r"\A\s*(?:<(think|thinking|reasoning)>.*?</\1>\s*)+", re.DOTALL | re.I)
# Some templates put the opening mark into the prompt, so that the answer has only the other.
_THOUGHT = re.compile(r"\A(?:(?!<think).)*</think(?:ing)?>", re.DOTALL | re.I)
_FENCED = re.compile(r"```[a-zA-Z]*[ \t]*\n?(.*?)```", re.DOTALL)
_STRAIGHT = str.maketrans("“”„‟", '""""')
_LINE = re.compile(r"^[\s>*_#\-]*(\w+)[\s*_]*:[\s*_]*(.*?)[\s*_]*$")
_NUMBERED = re.compile(r"\A\s*(?:[-*•]|\(?\d{1,3}[.):])\s+")
# Marks that stand in pairs round a word, and the full stop behind it.
_PAIRS = (("**", "**"), ("__", "__"), ('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("[", "]"))
_MISSING = object()


def _as_text(value: Any) -> Any:
    """A label as text, where it came as a number, as true or false, or as a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return json.dumps(value)
    return value


def _as_texts(value: Any) -> Any:
    value = [value] if isinstance(value, str) and value.strip() else value
    return [_as_text(each) for each in value] if isinstance(value, list) else value


def _as_share(value: Any) -> float | None:
    """A stated confidence in 0..1; None where it says nothing: the verdict counts all the same."""
    if isinstance(value, str):
        text = value.strip().replace(",", ".")
        percent = text.endswith("%")
        try:
            number = float(text.rstrip("% "))
        except ValueError:
            return None
        number = number / 100 if percent else number
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        return None
    if not math.isfinite(number) or number < 0:
        return None
    if PERCENT_FROM < number <= 100:
        number /= 100
    return number if number <= 1 else None


def _as_words(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


# What a label's field of a form is annotated with.
LabelText = Annotated[str, BeforeValidator(_as_text)]
LabelTexts = Annotated[list[str], BeforeValidator(_as_texts)]


class Reply(BaseModel):
    """What every task's answer has beside its label. `repaired`: it was taken out of a wrapping."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    rationale: Annotated[str, BeforeValidator(_as_words)] = ""
    confidence: Annotated[float | None, BeforeValidator(_as_share)] = None
    repaired: bool = False


Form = TypeVar("Form", bound=Reply)


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these, as providers take it."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def parsed(form: type[Form], text: str, item: Item | None = None) -> Form:
    """A judge's text as its task's form. An object that stands in the `item` itself is no answer.

    Raises InvalidAnswer, which names the place and what is wrong there.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and (found := _read(form, whole, strict=True)) is not None:
        return found
    said = whole if isinstance(whole, str) else text  # some write their JSON as a JSON text
    answers = [_read(form, each, strict=False) for each in _objects(form, said, item)]
    usable = [each for each in answers if each is not None]
    different = {each.model_dump_json(exclude={"rationale", "confidence"}) for each in usable}
    if len(different) > 1:
        raise InvalidAnswer(f"it holds {len(different)} different answers; give one JSON object")
    if usable:
        return usable[-1].model_copy(update={"repaired": True})
    raise InvalidAnswer(_why_not(form, whole if isinstance(whole, dict) else None, text))


def named(said: str, spelled: Mapping[str, str]) -> str | None:
    """The name that `said` is, `spelled` being each way to write one and the name behind it.

    Case, outer white space, the Unicode form, a number before it and marks round it do not count.
    None where it is no name, or could be two.
    """
    if said in spelled:
        return spelled[said]
    by_key: dict[str, set[str]] = {}
    for written, name in spelled.items():
        by_key.setdefault(_key(written), set()).add(name)
    for key in _bare(said):
        if len(found := by_key.get(key, set())) == 1:
            return next(iter(found))
    return None


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _bare(said: str) -> Iterator[str]:
    """The keys of what was said, with ever less round it."""
    text = said.strip()
    yield _key(text)
    while text:
        for start, end in _PAIRS:
            if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
                text = text[len(start) : -len(end)].strip()
                break
        else:
            if text.endswith((".", ",")):
                text = text[:-1].strip()
            elif numbered := _NUMBERED.match(text):
                text = text[numbered.end() :].strip()
            else:
                break
        yield _key(text)
    if re.fullmatch(r"-?\d+\.0+", text):
        yield text.partition(".")[0]


def _read(form: type[Form], value: Mapping[str, Any], *, strict: bool) -> Form | None:
    """An object as a form; None where it is none. `strict`: as the schema says, to the letter."""
    try:
        found = form.model_validate({k: v for k, v in value.items() if k != "repaired"})
    except (ValidationError, RecursionError):
        return None
    exact = all(
        value.get(name, _MISSING) is _MISSING or _same(value[name], getattr(found, name))
        for name in form.model_fields
        if name != "repaired"
    )
    return found if exact or not strict else found.model_copy(update={"repaired": True})


def _same(said: Any, read: Any) -> bool:
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return said == read and (number or type(said) is type(read) or isinstance(said, list))


def _required(form: type[Reply]) -> set[str]:
    return {name for name, field in form.model_fields.items() if field.is_required()}


def _objects(form: type[Reply], text: str, item: Item | None) -> Iterator[Mapping[str, Any]]:
    """What in the text may be the answer: whole objects first, else lines, else a bare label."""
    text = _THINKING.sub("", text.strip("\ufeff\u200b \t\r\n"))
    text = _THOUGHT.sub("", text).strip()
    shown = "\n".join(item.fields.values()) if item is not None else ""
    found = False
    for source, value in _braced(text):
        for each in (value, *(inner for inner in value.values() if isinstance(inner, dict))):
            if _required(form) <= each.keys() and not (shown and source in shown):
                found = True
                yield each
                break
    if found or "{" in text or len(text) > LONGEST_PLAIN:
        return
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1].strip()
    lines = [match for line in text.splitlines() if line.strip() and (match := _LINE.match(line))]
    words: dict[str, str] = {}
    for match in lines:
        name = match[1].casefold()
        if name in form.model_fields and words.setdefault(name, match[2]) != match[2]:
            return
    if _required(form) <= words.keys():
        yield words
    elif _required(form) == {"label"} and "\n" not in text and text:
        yield {"label": text}


def _braced(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outermost objects in the text, each with its source."""
    reader, start, ends = json.JSONDecoder(strict=False), text.find("{"), _ends(text)
    for _ in range(MOST_OBJECTS):
        if start < 0:
            return
        try:
            value, end = reader.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = ends.get(start, start) + 1
            value = _lenient(text[start:end]) if start in ends else None
        if isinstance(value, dict):
            yield text[start:end], value
        elif start in ends:
            end = start + 1  # what its braces hold may be one
        start = text.find("{", end)


def _ends(text: str) -> dict[int, int]:
    """Where each brace that opens is closed; braces in texts count, too."""
    ends, opened = dict[int, int](), list[int]()
    for found in re.finditer(r"[{}]", text):
        if found[0] == "{":
            opened.append(found.start())
        elif opened:
            ends[opened.pop()] = found.start()
    return ends


def _lenient(source: str) -> Any:
    """An object with other quotes or a comma too many, as Python reads it; None if it is none."""
    if len(source) > LONGEST_PLAIN:
        return None
    for written in (source, source.translate(_STRAIGHT)):
        try:
            return json.loads(re.sub(r",\s*}", "}", written), strict=False)
        except (ValueError, RecursionError):
            pass
        try:
            return ast.literal_eval(written)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            pass
    return None


def _why_not(form: type[Reply], whole: Mapping[str, Any] | None, text: str) -> str:
    """What is wrong with a text that is no answer."""
    try:
        if whole is not None:
            form.model_validate(whole)
        else:
            form.model_validate_json(text)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(str(part) for part in found["loc"])
        return f"{place + ': ' if place else ''}{found['msg'][:SHOWN]}"
    return "it is no answer of the form that was asked for"
