"""The job file: every key a user may write, its default, and clear errors for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from llm_relabel.definitions import UniqueKeyLoader, yaml_hint
from llm_relabel.errors import JobError, nearest
from llm_relabel.judge_settings import JudgeSection, Section, share_of
from llm_relabel.registry import TASKS

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class DataSection(Section):
    """Where the dataset is and which columns mean what."""

    path: str = Field(min_length=1)
    text: tuple[str, ...] = Field(min_length=1)
    label: str | tuple[str, ...]
    """A column; or one column for each class, in which 1 says that the row has it."""
    id: str | None = None
    group: str | None = None
    context: tuple[str, ...] = ()
    locked: str | None = None
    gold: str | None = None
    dev: str | None = None
    split: str = "train"
    subset: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quoting: Literal["none"] | None = None
    skip_lines: int | None = Field(default=None, ge=0)
    label_separator: str | None = Field(default=None, min_length=1)
    missing: tuple[str, ...] | None = None

    @field_validator("text", "context", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("label", mode="before")
    @classmethod
    def _column_or_columns(cls, value: Any) -> Any:
        columns = value if isinstance(value, list | tuple) else [value]
        if not columns or not all(isinstance(name, str) and name for name in columns):
            raise ValueError("must be a column name, or a list of them")
        if len(set(columns)) < len(columns):
            raise ValueError("names a column twice")
        return columns[0] if len(columns) == 1 else tuple(columns)

    @field_validator("missing", mode="before")
    @classmethod
    def _values_as_text(cls, value: Any) -> Any:
        if value is None:
            return None
        values = value if isinstance(value, list | tuple) else [value]
        words = {True: "true", False: "false"}
        return tuple(words[each] if isinstance(each, bool) else str(each) for each in values)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold the labels."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value in ("tab", "\\t"):
            return "\t"
        if value is not None and len(value) != 1:
            raise ValueError("must be one character")
        return value


class ModelSection(Section):
    """The small trained model."""

    encoder: str = "embedded"
    finetune: bool = False
    folds: int = Field(default=5, ge=2, le=50)
    epochs: int = Field(default=3, ge=1, le=100)
    predictions: str | None = None


class DetectSection(Section):
    """Which rows go to the judge, and when a further call is not worth its price.

    `value_per_fix` is in US dollars, `residual_noise` a share of the labels.
    """

    budget: int | float | None = None
    quality: float | None = Field(default=None, gt=0, lt=1)
    value_per_fix: float | None = Field(default=None, gt=0)
    residual_noise: float | None = None
    severity: Literal["equal", "parent"] = "equal"

    @field_validator("budget", mode="before")
    @classmethod
    def _count_or_share(cls, value: Any) -> Any:
        """A count stays an int; `30%` becomes the float 0.3."""
        value = share_of(value)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        if isinstance(value, float) and 0 < value <= 1:
            return value
        raise ValueError("must be a count of rows like 500, or a share like 30%")

    @field_validator("residual_noise", mode="before")
    @classmethod
    def _noise(cls, value: Any) -> Any:
        value = share_of(value)
        if value is None or (isinstance(value, float) and 0 < value < 1):
            return value
        raise ValueError("must be a share of the labels above 0% and below 100%, like 5%")


class DecideSection(Section):
    """How verdicts become labels."""

    policy: Literal["replace", "agree", "fuse", "auto"] = "auto"
    min_precision: float | None = None

    @field_validator("min_precision", mode="before")
    @classmethod
    def _precision(cls, value: Any) -> Any:
        value = share_of(value)
        if value is None or (isinstance(value, float) and 0 < value < 1):
            return value
        raise ValueError("must be a share above 0 and below 1, like 90%")


class Job(Section):
    """A whole job. `folder` is what relative paths in it start from (the job file's own)."""

    task: str
    data: DataSection
    labels: str | dict[str, Any]
    model: ModelSection = ModelSection()
    detect: DetectSection = DetectSection()
    judge: JudgeSection = JudgeSection()
    decide: DecideSection = DecideSection()
    rounds: int = Field(default=2, ge=1, le=20)
    seed: int = 0
    output: str = Field(min_length=1)
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in TASKS:
            raise ValueError(f"must be {' or '.join(TASKS)}")
        return value

    @model_validator(mode="after")
    def _columns_apart(self) -> Job:
        data = self.data
        shown = {*data.text, *data.context}
        if twice := [name for name in data.label_columns if name in shown]:
            raise ValueError(
                f"data.label {twice[0]!r} is also a text or context column; the judge would "
                "simply read the answer"
            )
        if data.gold is not None and data.gold in (*data.text, *data.context):
            raise ValueError(
                f"data.gold {data.gold!r} is also a text or context column; gold is never shown"
            )
        return self

    def resolve(self, path: str) -> Path:
        """`path` as written in the job, absolute."""
        return (self.folder / Path(path).expanduser()).resolve()

    @property
    def output_path(self) -> Path:
        """The run folder."""
        return self.resolve(self.output)

    def to_yaml(self) -> str:
        """The job as resolved, defaults filled in; reading it again gives the same job."""
        plain = self.model_dump(mode="json")
        budget = plain["detect"]["budget"]
        if isinstance(budget, float):
            plain["detect"]["budget"] = f"{budget:.10g}" if budget > 1 else f"{budget * 100:.10g}%"
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file; `overrides` are `dotted.key=value`, the value read as YAML.

    Raises JobError naming every problem at once.
    """
    path = Path(path)
    if path.is_dir():
        raise JobError(f"the job {str(path)!r} is a folder; name a job file such as job.yaml")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=UniqueKeyLoader)
    except FileNotFoundError:
        raise JobError(
            f"the job file {str(path)!r} does not exist; `llm-relabel init DATA` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"the job file {str(path)!r} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise JobError(
            f"the job file {str(path)!r} is not valid YAML: {error}{yaml_hint(error)}"
        ) from error
    if not isinstance(raw, dict):
        raise JobError(f"the job file {str(path)!r} must be a mapping of keys, found {raw!r}")
    keys = [override.partition("=")[0].strip() for override in overrides]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise JobError(
            f"--set {twice[0]!r} is given {keys.count(twice[0])} times; which one counts?"
        )
    for override in overrides:
        _override(raw, override)
    return make_job(raw, folder=path.resolve().parent, where=str(path))


def make_job(raw: Mapping[str, Any], *, folder: Path, where: str = "the job") -> Job:
    """A validated Job from plain data; relative paths start at `folder`. Raises JobError."""
    if "folder" in raw:
        raise JobError(f"{where}: unknown key 'folder'; relative paths start at the job file")
    try:
        return Job.model_validate({**raw, "folder": folder})
    except ValidationError as error:
        problems = [_problem(found) for found in error.errors()]
        raise JobError(f"{where}: " + "; ".join(dict.fromkeys(problems))) from None


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise JobError(f"--set {override!r}: expected key=value, such as judge.concurrency=8")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise JobError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    *path, last = key.strip().split(".")
    here = raw
    for part in path:
        below = here.setdefault(part, {})
        if not isinstance(below, dict):
            raise JobError(f"--set {override!r}: {part!r} is {below!r}, which has no keys below it")
        here = below
    here[last] = value


def _problem(found: Any) -> str:
    # Union branches add their type to the location; only real keys help the user.
    path = [str(part) for part in found["loc"]]
    place = ".".join(path) or "the job"
    if found["type"] == "extra_forbidden":
        allowed = _known_keys(path[:-1])
        return (
            f"unknown key {place!r}{nearest(path[-1], allowed)}; allowed here: {', '.join(allowed)}"
        )
    if found["type"] == "missing":
        return f"{place}: this key is required"
    message = str(found["msg"]).removeprefix("Value error, ")
    if place == "the job":
        return message
    return f"{place}: {message} (found {found['input']!r})"


def _known_keys(path: Sequence[str]) -> list[str]:
    model: Any = Job
    for part in path:
        if part.isdigit():  # a place in a list, whose members were found with the list
            continue
        annotation = model.model_fields[part].annotation
        options = [annotation, *get_args(annotation)]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return [name for name in model.model_fields if name != "folder"]
