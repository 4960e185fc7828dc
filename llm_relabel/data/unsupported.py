"""What is not read, and the way out of each: by a name's ending, or by a file's first bytes."""

from __future__ import annotations

from pathlib import Path

from llm_relabel.config.job import COMPRESSIONS, FILE_SUFFIXES, PACKED_SUFFIXES
from llm_relabel.data.compressed import format_of

_UNPACK = "unpack it, or pack the one file inside with gzip (.gz) or Zstandard (.zst)"
_ARCHIVE = "unpack it and name the file inside"
_SHEET = "save the sheet as CSV (UTF-8)"
_RECORDS = "write it as JSON lines (.jsonl), one object a row"
_TABLE = "save it with pandas: `df.to_parquet({0!r})`"
_ARROW = (
    "name the whole folder where `datasets` saved it; else write it as Parquet, with "
    "`pyarrow.parquet.write_table(pyarrow.feather.read_table(FILE), {0!r})`"
)
_LINES = "where it holds one JSON object a line, rename it to {1!r}"

_WAYS = {
    ".bz2": _UNPACK, ".xz": _UNPACK, ".lzma": _UNPACK, ".lz4": _UNPACK, ".br": _UNPACK,
    ".z": _UNPACK, ".snappy": _UNPACK,
    ".zip": _ARCHIVE, ".tar": _ARCHIVE, ".tgz": _ARCHIVE, ".tbz2": _ARCHIVE, ".txz": _ARCHIVE,
    ".7z": _ARCHIVE, ".rar": _ARCHIVE,
    ".xls": _SHEET, ".xlsb": _SHEET, ".xlsm": _SHEET, ".ods": _SHEET,
    ".numbers": _SHEET,
    ".arrow": _ARROW, ".feather": _ARROW, ".ipc": _ARROW,
    ".xml": _RECORDS, ".yaml": _RECORDS, ".yml": _RECORDS, ".html": _RECORDS, ".toml": _RECORDS,
    ".avro": _RECORDS, ".tfrecord": _RECORDS,
    ".sqlite": _TABLE, ".sqlite3": _TABLE, ".db": _TABLE, ".duckdb": _TABLE, ".orc": _TABLE,
    ".pkl": _TABLE, ".pickle": _TABLE, ".h5": _TABLE, ".hdf5": _TABLE, ".dta": _TABLE,
    ".sav": _TABLE, ".sas7bdat": _TABLE, ".rds": _TABLE,
    ".jl": _LINES, ".jsonlines": _LINES, ".ldjson": _LINES, ".json5": _RECORDS,
    ".txt": "name it .csv or .tsv where it is a table with a header row, .conll where it has a "
    "word and its tag a line; mere texts have no labels",
}  # fmt: skip

# (first bytes, what the content is, the ending that it should have had)
_CONTENTS = (
    (b"\x1f\x8b", "packed with gzip", ".gz"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", ".zst"),
    (b"PAR1", "Parquet", ".parquet"),
    (b"BZh", "packed with bzip2", ".bz2"),
    (b"\xfd7zXZ\x00", "packed with xz", ".xz"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", ".xlsx"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or a protected Office document", ".xls"),
    (b"SQLite format 3\x00", "an SQLite database", ".sqlite"),
    (b"ARROW1", "an Arrow file", ".arrow"),
)


def looks_like_a_file(path: str) -> bool:
    """Whether a path that does not exist was meant as a file, and not as a name on the hub."""
    suffix = Path(path).suffix.lower()
    return (
        path.startswith((".", "/", "~"))
        or path.count("/") > 1
        or "\\" in path
        or suffix in (*FILE_SUFFIXES, *COMPRESSIONS)
        or suffix in _WAYS
    )


def formats() -> str:
    """The endings that are read, in words."""
    packed = " or ".join(COMPRESSIONS)
    whole = [each for each in FILE_SUFFIXES if each not in PACKED_SUFFIXES]
    return f"{', '.join(PACKED_SUFFIXES)} (each of these also with {packed}), {', '.join(whole)}"


def refusal(path: Path) -> str | None:
    """Why a file of this name or content is not read, and the way out; None where it may be."""
    inner, packed = format_of(path), path.suffix.lower() in COMPRESSIONS
    if packed and inner in (".tar", ".zip"):
        return f"is an archive: {_ARCHIVE}"
    if packed and inner in FILE_SUFFIXES and inner not in PACKED_SUFFIXES:
        return f"is packed twice, as {inner} is packed inside: unpack the {path.suffix} around it"
    if inner in _WAYS:
        base = path.name[: path.name.lower().rindex(inner)]
        way = _WAYS[inner].format(f"{base}.parquet", f"{base}.jsonl")
        return f"is {inner}, which is not read: {way}"
    if inner not in FILE_SUFFIXES:
        return (
            f"is of no known format; its name must end in {formats()}, or it may be a saved "
            "dataset folder or a Hugging Face name"
        )
    return None if packed or inner not in PACKED_SUFFIXES else _misnamed(path)


def _misnamed(path: Path) -> str | None:
    """What to say of a text file's name whose content is something else."""
    with path.open("rb") as file:
        head = file.read(16)
    for magic, what, suffix in _CONTENTS:
        if not head.startswith(magic):
            continue
        if suffix in COMPRESSIONS:
            way = f"name it {path.name + suffix!r}"
        elif suffix in FILE_SUFFIXES:
            way = f"name it {path.stem + suffix!r}"
        else:
            way = _WAYS[suffix].format(f"{path.stem}.parquet")
        return f"ends in {path.suffix} and its content is {what}: {way}"
    return None
