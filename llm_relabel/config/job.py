"""The job file: every key, its default, and clear errors for the rest; judges in `judges.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from llm_relabel.config.definitions import UniqueKeyLoader, as_yaml, yaml_hint
from llm_relabel.config.judges import JudgeSection, Section, share_of
from llm_relabel.errors import JobError, nearest
from llm_relabel.registry import TASKS

# Text formats, which may also be packed.
CONLL_SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
PACKED_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", *CONLL_SUFFIXES)
FILE_SUFFIXES = (*PACKED_SUFFIXES, ".parquet", ".spacy", ".xlsx")
BOX_CONVENTIONS = ("xyxy", "xywh", "cxcywh", "yxyx")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class DataSection(Section):
    """Where the dataset is and which columns mean what."""

    path: str = Field(min_length=1)
    """The dataset: a `.jsonl`, `.json`, `.csv`, `.tsv`, `.conll`, `.spacy`, `.parquet` or `.xlsx`
    file, a folder that `datasets` saved, or a Hugging Face name."""
    text: tuple[str, ...] = ()
    """The column to read, or several that are read together. A row without text stays as it is,
    and is counted."""
    image: str | None = None
    """Of detection, in the place of `text`: the column with each picture's file."""
    image_folder: str | None = None
    """Where those files are; without it, in the dataset's folder. Nothing outside is opened."""
    label: str | tuple[str, ...]
    """The label column; a column of lists makes the job multi-label. Or one column for each class,
    with 0 or 1 in it: where every row has one class, the classes exclude each other."""
    id: str | None = None
    """A column with a unique id. Without it an id is a hash of the content, with a counter among
    equals."""
    group: str | None = None
    """Rows with the same value (near-duplicates, pages of one document) never vouch for each other.
    """
    context: tuple[str, ...] = ()
    """Columns that the judge sees and the small model does not."""
    locked: str | None = None
    """A true/false column: rows where it is true are never changed."""
    gold: str | None = None
    """A column of trusted labels. They measure the result and decide nothing."""
    dev: str | None = None
    """A labeled file. The small model is scored on it each round, and a worse round is rolled back.
    """
    split: str = "train"
    """The split of a saved or Hugging Face dataset."""
    subset: str | None = None
    """The subset (configuration) of a Hugging Face dataset."""
    sheet: str | int | None = None
    """The sheet of an Excel workbook, by its name or its number from 1; needed where several hold
    data."""
    encoding: str | None = None
    """The encoding of a text file, where it cannot be told."""
    delimiter: str | None = None
    """The one character between the cells of a CSV file, where it cannot be told."""
    quoting: Literal["none"] | None = None
    """`none`: in this CSV or TSV file a `"` is a character like any other. Without it, a stray
    quote that swallows rows is refused with its line."""
    skip_lines: int | None = Field(default=None, ge=0)
    """Lines above the column names of a CSV file or a sheet (a title, `sep=;`); they stay in the
    file."""
    label_separator: str | None = Field(default=None, min_length=1)
    """What stands between several labels in one cell, such as `"|"`; `list`: each cell is a written
    list (`['a', 'b']`); `none`: each cell is one label."""
    missing: tuple[str, ...] | None = None
    """Values that mean "no label", such as `[-1, N/A]`; an empty cell always does."""

    scheme: Literal["bio", "iob1", "bioes", "bilou", "io"] | None = None
    """The scheme of a column of tags, where it cannot be told from them."""
    tag_names: tuple[str, ...] | None = None
    """The tags behind numbers, in their order, such as `[O, B-PER, I-PER]`; a Hugging Face dataset
    knows its own."""
    boxes: str | None = None
    """What the four numbers of a box mean, where neither their names nor the pictures tell: `xyxy`,
    `xywh`, `cxcywh` or `yxyx` in pixels, or `xyxy, normalized` in shares of the sides."""
    offsets: Literal["characters", "utf16"] | None = None
    """What the offsets of spans count. JavaScript tools count UTF-16 units, in which an emoji is
    two; where spans tell their words, it is found."""

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

    @field_validator("boxes")
    @classmethod
    def _convention(cls, value: str | None) -> str | None:
        if value is None:
            return None
        form, *more = [part.strip() for part in value.split(",")]
        if form not in BOX_CONVENTIONS or more not in ([], ["normalized"]):
            told = ", ".join(BOX_CONVENTIONS)
            raise ValueError(f"must be one of {told}, perhaps with `, normalized` behind it")
        return ", ".join([form, *more])

    @model_validator(mode="after")
    def _text_or_image(self) -> DataSection:
        if bool(self.text) == (self.image is not None):
            raise ValueError("needs `text` (a column or several), or `image` (of detection)")
        return self

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns that items are read from: text, or the one with the picture."""
        return self.text if self.image is None else (self.image,)

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
    """`embedded` (all-MiniLM-L6-v2, bundled), or the name or folder of a Hugging Face encoder."""
    finetune: bool | Literal["auto"] = False
    """Also fine-tune the encoder, in folds, and average the two. `auto`: where there is a GPU."""
    folds: int = Field(default=5, ge=2, le=50)
    """How many folds the fine-tuned model is trained in."""
    epochs: int = Field(default=3, ge=1, le=100)
    """How often fine-tuning reads the data."""
    predictions: str | None = None
    """Your own out-of-sample probabilities instead of a small model: a file with `id` and
    `pred_probs`."""


class DetectSection(Section):
    """Which rows go to the judge, and when a further call is not worth its price.

    `value_per_fix` is in US dollars, `residual_noise` a share of the labels.
    """

    budget: int | float | None = None
    """The most items to judge in the whole run: a count such as `500`, or a share of the rows such
    as `30%`. Without it, all that are flagged."""
    quality: float | None = Field(default=None, gt=0, lt=1)
    """Also flag rows whose label quality is below this."""
    value_per_fix: float | None = Field(default=None, gt=0)
    """US dollars that a corrected label is worth: no call is made that is expected to mend less
    than it costs."""
    residual_noise: float | None = None
    """Stop asking when so few labels are believed wrong, such as `5%`."""
    sample: int | None = Field(default=None, ge=0)
    """Rows that nobody doubts, drawn at random and judged too: they tell what flagging misses and
    which side the texts vouch for. Without it 200 where the task weighs sides (classification),
    else none. Only where `decide.policy` is `fuse`."""
    extend: bool = True
    """Go on to further rows, up to all, while the last answers were worth their calls; never
    beyond `budget` and `max_cost`. Needs the `sample`."""
    severity: Literal["equal", "parent"] = "equal"
    """`parent`: a mix-up of labels that share a `parent` weighs less where the next call goes."""

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
    """How verdicts become labels. `auto` is `fuse` under a language model, `agree` under
    `embedded`, `replace` where people judge; spot-checks may choose another."""
    min_precision: float | None = None
    """With spot-checks: apply only changes that are proved right in this share, such as `90%`."""

    @field_validator("min_precision", mode="before")
    @classmethod
    def _precision(cls, value: Any) -> Any:
        value = share_of(value)
        if value is None or (isinstance(value, float) and 0 < value < 1):
            return value
        raise ValueError("must be a share above 0 and below 1, like 90%")


class Job(Section):
    """A whole job. `folder` is what relative paths in it start from (the job file's own).

    `file` is the job file as the user named it, where the job came from one.
    """

    task: str
    """The task type."""
    data: DataSection
    labels: str | dict[str, Any]
    """What each label means: the path of a definitions file, or a mapping NAME: definition."""
    model: ModelSection = ModelSection()
    detect: DetectSection = DetectSection()
    judge: JudgeSection = JudgeSection()
    decide: DecideSection = DecideSection()
    rounds: int = Field(default=2, ge=1, le=20)
    """The most rounds of train, flag, judge, decide. A run ends after one that changes nothing."""
    seed: int = 0
    """Folds, shuffles and draws follow from it: same inputs, same result."""
    output: str = Field(min_length=1)
    """The run folder."""
    folder: Path = Field(default=Path(), exclude=True)
    file: Path | None = Field(default=None, exclude=True)

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in TASKS:
            raise ValueError(f"must be {' or '.join(TASKS)}")
        return value

    @model_validator(mode="after")
    def _columns_apart(self) -> Job:
        data = self.data
        shown = {*data.read_columns, *data.context}
        if twice := [name for name in data.label_columns if name in shown]:
            raise ValueError(
                f"data.label {twice[0]!r} is also a text or context column; the judge would "
                "simply read the answer"
            )
        if data.gold is not None and data.gold in shown:
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
        return as_yaml(plain)


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
    return make_job(raw, folder=path.resolve().parent, file=path, where=str(path))


def make_job(
    raw: Mapping[str, Any], *, folder: Path, file: Path | None = None, where: str = "the job"
) -> Job:
    """A validated Job from plain data; relative paths start at `folder`. Raises JobError."""
    for key in ("folder", "file"):
        if key in raw:
            raise JobError(f"{where}: unknown key {key!r}; relative paths start at the job file")
    try:
        return Job.model_validate({**raw, "folder": folder, "file": file})
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
    return [name for name in model.model_fields if name not in ("folder", "file")]


def open_job(job: Job | str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Job:
    """A Job from any of the forms that the API takes. Raises JobError."""
    if isinstance(job, Job):
        return job
    if isinstance(job, str | Path):
        return load_job(job, overrides)
    return make_job(job, folder=Path.cwd())
