"""Text files in any encoding, packed or not: streamed, and rewritten so that unchanged text keeps
its bytes."""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from llm_relabel.data.compressed import (
    content_sha256,
    copy_content,
    format_of,
    new_content,
    open_content,
    suffix_of,
)
from llm_relabel.data.saving import changed_since_read
from llm_relabel.errors import DataError, nearest
from llm_relabel.files.encodings import likely_encoding

# UTF-32's mark begins with UTF-16's, so it is tried first. The codecs are the ones that
# neither write nor swallow a mark: it is kept apart.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PLAIN = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_GUESSED_FROM, _SAMPLE = 1000, 80  # lines around the first bad byte; characters
_COMMON = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1", "shift_jis", "gb18030")


class TextFile:
    """A text file with its encoding and byte order mark. Raises DataError if it is no text.

    `suffix` is its whole ending (`.csv.gz`), `format` that of the text inside, in small letters.
    """

    def __init__(self, path: Path, wanted: str | None) -> None:
        self.path = path
        self.suffix, self.format = suffix_of(path), format_of(path)
        try:
            with open_content(path) as file:
                head = file.read(4096)
        except OSError as error:
            raise DataError(f"the dataset {path.name!r} cannot be read: {error}") from error
        mark, marked = next(((m, c) for m, c in _MARKS if head.startswith(m)), (b"", ""))
        self._marked = marked
        if wanted is None:
            self.codec, self.mark = marked or "utf-8", mark
        else:
            asked = _codec(wanted)
            plain = _PLAIN.get(asked, asked)
            # "utf-16" alone leaves the byte order to the mark; any other is taken at its word.
            same = marked == plain or (asked in _PLAIN and marked.startswith(asked))
            self.codec, self.mark = (marked, mark) if same else (plain, b"")
        if self.codec == "utf-8" and head.count(0) * 5 > len(head):
            raise DataError(
                f"the dataset {path.name!r} is not text in utf-8: it is full of zero bytes; if it "
                "is UTF-16 without a byte order mark, set `data.encoding: utf-16-le`"
            )

    @contextmanager
    def open(self, newline: str) -> Iterator[io.TextIOWrapper]:
        """The text after the mark. `newline` as for `io.TextIOWrapper`; nothing is translated.

        A byte that is not in the encoding is a DataError that says where it is.
        """
        try:
            with open_content(self.path) as file:
                file.read(len(self.mark))
                with io.TextIOWrapper(file, encoding=self.codec, newline=newline) as text:
                    yield text
        except UnicodeDecodeError as error:
            raise self._undecodable() from error

    def read(self) -> str:
        """The whole text, line ends as they are."""
        with self.open(newline="") as text:
            return text.read()

    def sha256(self) -> str:
        """The SHA-256 of the file's bytes, unpacked, as hex."""
        return content_sha256(self.path)

    def copy(self, target: Path, sha256: str) -> None:
        """Copy the file as it is; DataError if its hash is no longer `sha256`."""
        copy_content(self.path, target, sha256)

    def rewrite(self, target: Path, pieces: Iterable[tuple[str, str]], sha256: str) -> None:
        """Write `target`, packed as its name says, from (old text, new text) pieces that together
        are the whole file.

        The old text, encoded again, must have the hash `sha256`: that proves both that the
        file is still the one that was read and that the encoding gives every byte back.
        """
        digest = hashlib.sha256(self.mark)
        with new_content(target) as file:
            file.write(self.mark)
            for old, new in pieces:
                raw = old.encode(self.codec)
                digest.update(raw)
                file.write(raw if new is old else new.encode(self.codec))
            if digest.hexdigest() != sha256:
                if self.sha256() != sha256:
                    raise changed_since_read(self.path)
                raise DataError(
                    f"the dataset {self.path.name!r} cannot be written back byte for byte in "
                    f"{self.codec}; convert it to UTF-8 first"
                )

    def encodes(self, text: str) -> bool:
        """Whether the encoding has all the characters of `text`."""
        try:
            text.encode(self.codec)
        except UnicodeEncodeError:
            return False
        return True

    def _guess(self, line: int) -> tuple[str, str] | None:
        """A likely encoding, and how line number `line` reads in it; None where there is none."""
        with open_content(self.path) as file:
            before = min(line - 1, _GUESSED_FROM)
            lines = list(islice(file, line - 1 - before, line + _GUESSED_FROM))
        encoding = likely_encoding(b"".join(lines))
        if encoding is None or len(lines) <= before:
            return None
        return encoding, lines[before].decode(encoding).strip("\r\n")[:_SAMPLE]

    def _undecodable(self) -> DataError:
        # The stream's own error counts from some buffer; count from the start of the file.
        decoder = codecs.getincrementaldecoder(self.codec)()
        before, line = len(self.mark), 1
        with open_content(self.path) as file:
            file.read(before)
            while chunk := file.read(1 << 16):
                pending = len(decoder.getstate()[0])
                try:
                    line += decoder.decode(chunk).count("\n")
                except UnicodeDecodeError as error:
                    good = error.object[: error.start].decode(self.codec, "replace")
                    offset, line = before - pending + error.start, line + good.count("\n")
                    where = f"byte 0x{error.object[error.start]:02x} at offset {offset:,}, "
                    where += f"line {line:,}"
                    break
                before += len(chunk)
            else:
                where = "the file ends in the middle of a character"
        advice = "cp1252" if self.codec == "utf-8" else "utf-8"
        if self._marked not in ("", self.codec):
            advice = self._marked
        elif self.codec in ("utf-8", "ascii") and (guess := self._guess(line)):
            encoding, sample = guess
            return DataError(
                f"the dataset {self.path.name!r} is not readable as {self.codec} ({where}); read "
                f"as {encoding}, that line is {sample!r}; if this is right, set `data.encoding: "
                f"{encoding}`"
            )
        return DataError(
            f"the dataset {self.path.name!r} is not readable as {self.codec} ({where}); if it is "
            f"in another encoding, name it, for example `data.encoding: {advice}`"
        )


def _codec(wanted: str) -> str:
    try:
        codec = codecs.lookup(wanted).name
        "".encode(codec)
    except LookupError:
        raise DataError(
            f"data.encoding {wanted!r} is not a text encoding{nearest(wanted, _COMMON)}; "
            f"common ones are {', '.join(_COMMON)}"
        ) from None
    return codec
