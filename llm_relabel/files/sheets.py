"""CSV that people open in a spreadsheet: no cell is ever a formula, and every cell comes back.

A cell that a spreadsheet would run as a formula, or turn into a number or a date, gets a
leading apostrophe; so does one that begins with an apostrophe, and reading takes it off again.
A cell with characters that no spreadsheet keeps, or with a formula behind a separator (a file
opened with the wrong one falls apart there), begins with '\\ and has them as \\uXXXX.
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from llm_relabel.errors import DataError
from llm_relabel.files.encodings import likely_encoding
from llm_relabel.files.journal import write_whole

# What may stand before a formula and not disarm it: white space, quotes, invisible characters.
_BEFORE = r"\s\"'\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(rf"[\t\r\n']|[{_BEFORE}]*+[{_SIGNS}]")
_BEHIND = re.compile(rf"(?<![;,{_BEFORE}])([;,{_BEFORE}]++)([{_SIGNS}])")
_SEPARATOR = re.compile(r"[;,\t\r\n]")
_LOST = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4})")
# What is read as a number, date, time or truth value, and written in another way: 007, 1.10,
# 1e5, 3-4, 12:30, Mar 7, 50 %, TRUE. Whole numbers of up to 15 digits come back as they were.
_NUMBER = re.compile(r"(?i)(?=.*\d)[\d\s.,:/;%$€£¥()^_+aepm-]++", re.DOTALL)
_DATE = re.compile(
    r"(?i)[\d\s.,:/'-]*+(?:jan|feb|mar|mär|mrt|apr|avr|abr|may|mai|maj|mei|mag|jun|jui|giu|jul|lug"
    r"|aug|ago|aoû|sep|set|okt|oct|ott|out|nov|dec|dez|dic|déc)[a-zäûé]*+[\d\s.,:/'-]*+"
)
_SAFE_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
_FIRST_CELL = re.compile(r'"[^"]*+(?:""[^"]*+)*+"(.?)', re.DOTALL)


def protected(text: str) -> str:
    """`text` as a cell that a spreadsheet shows as text; `plain` gives it back."""
    if _LOST.search(text) or _BEHIND.sub(_disarmed, text) != text:
        text = _BEHIND.sub(_disarmed, text.replace("\\", "\\\\"))
        return "'\\" + _LOST.sub(lambda found: _code(found[0]), text)
    return "'" + text if _FORMULA.match(text) or _is_read_otherwise(text) else text


def plain(cell: str) -> str:
    """What `protected` was given."""
    if not cell.startswith("'\\"):
        return cell.removeprefix("'")
    return _ESCAPED.sub(lambda found: chr(int(found[1][1:] or "5c", 16)), cell[2:])


def _is_read_otherwise(text: str) -> bool:
    if _SAFE_NUMBER.fullmatch(text):
        return False
    number = _NUMBER.fullmatch(text) or _DATE.fullmatch(text)
    return number is not None or text.casefold() in ("true", "false")


def _disarmed(found: re.Match[str]) -> str:
    """A sign that stands behind a separator, escaped; any other as it is."""
    return found[1] + (_code(found[2]) if _SEPARATOR.search(found[1]) else found[2])


def _code(character: str) -> str:
    return f"\\u{ord(character):04x}"


def write_sheet(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ","
) -> None:
    """Write a CSV file at once, for Excel, LibreOffice and Google Sheets.

    Every row has as many cells as the `header`, whose names differ; ValueError otherwise.
    """
    if not all(header) or not header or len(set(header)) != len(header):
        raise ValueError(f"a sheet's columns need names that differ: {list(header)!r}")
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n", delimiter=delimiter)
    writer.writerow([protected(name) for name in header])
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{len(header)} cells belong to a row, found {list(row)!r}")
        writer.writerow([protected(cell) for cell in row])
    write_whole(path, text.getvalue().encode("utf-8-sig"))


def read_sheet(path: Path) -> list[dict[str, str]]:
    """The rows of a sheet, by column, as they were written or a spreadsheet saved them again.

    Takes UTF-8 with or without a mark, UTF-16 and the code pages that Excel's plain CSV is saved
    in; commas, semicolons or tabs. Raises DataError.
    """
    text = _text_of(path)
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        # A blank line has no cell at all.
        lines = [[plain(cell) for cell in line] for line in reader if line]
    except csv.Error as error:
        raise DataError(f"the sheet {str(path)!r} cannot be read as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    if not lines:
        raise DataError(f"the sheet {str(path)!r} is empty; it needs a line with column names")
    header, found = lines[0], lines[1:]
    while header and not header[-1]:  # columns that a spreadsheet added
        header.pop()
    if not header or len(set(header)) != len(header):
        raise DataError(f"the column names of the sheet {str(path)!r} must differ: {header!r}")
    for number, line in enumerate(found, start=1):
        if any(line[len(header) :]):
            raise DataError(
                f"row {number} of the sheet {str(path)!r} has {len(line)} cells, and there are "
                f"{len(header)} columns: {', '.join(header)[:200]}"
            )
    # A spreadsheet may leave out empty cells at the end of a row.
    return [dict(zip_longest(header, line[: len(header)], fillvalue="")) for line in found]


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the sheet {str(path)!r} cannot be read: {error.strerror}") from error
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # what Excel calls Unicode text
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if not wide and (encoding := likely_encoding(data)):
            return data.decode(encoding)
        raise DataError(
            f"the sheet {str(path)!r} is not UTF-8 text; save it as `CSV UTF-8` in Excel, or with "
            "the character set Unicode (UTF-8) in LibreOffice"
        ) from error


def _delimiter(text: str) -> str:
    """What follows the first cell where it is quoted, else what gives the most columns."""
    if quoted := _FIRST_CELL.match(text):
        return quoted[1] if quoted[1] in (",", ";", "\t") else ","
    first = text.partition("\n")[0]
    return max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
