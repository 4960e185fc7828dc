"""spaCy's DocBin files: a document a row, its tokens as words and its entities as tags.

Of a corrected file only the entity attributes of tokens whose tag changed are other ones. A token
of which the file does not say whether it is an entity is read as none, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import check_unchanged, copy_unchanged, hash_file, new_file
from llm_relabel.data.source import BATCH_ROWS, Batch, Edits
from llm_relabel.errors import DataError

WORDS, TAGS, TEXT = "tokens", "ner_tags", "text"
# spaCy's codes of ENT_IOB; 0 says nothing of a token.
_INSIDE, _OUTSIDE, _BEGINS = 1, 2, 3


class DocBinFile:
    """The documents of one DocBin. Raises DataError where spaCy is missing or cannot read it."""

    suffix = ".spacy"
    unit = "row"

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        try:
            import spacy  # noqa: F401
        except ImportError as error:
            raise DataError(
                f"the dataset {path.name!r} is a spaCy DocBin, and spaCy reads it: "
                "`pip install 'llm_relabel[spacy]'`"
            ) from error

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        from spacy.vocab import Vocab

        vocab = Vocab()
        bin_ = self._open()
        try:
            self._places(bin_)
        except DataError as error:
            problems.whole(str(error))
            return
        places, rows = list[int](), list[dict[str, Any]]()
        for place, doc in enumerate(bin_.get_docs(vocab), start=1):
            tags = None
            if any(token.ent_iob for token in doc):
                tags = [_tag(token) for token in doc]
            places.append(place)
            rows.append({WORDS: [token.text for token in doc], TAGS: tags, TEXT: doc.text})
            if len(rows) >= BATCH_ROWS:
                yield Batch(places, {name: [row.get(name) for row in rows] for name in wanted})
                places, rows = [], []
        if rows:
            yield Batch(places, {name: [row.get(name) for row in rows] for name in wanted})

    def columns(self) -> Sequence[str]:
        return WORDS, TAGS, TEXT

    def class_names(self, column: str) -> tuple[str, ...] | None:  # noqa: ARG002 - tags are text
        return None

    def sha256(self) -> str:
        return hash_file(self._path)

    def save(self, target: Path, cells: Edits, sha256: str) -> None:
        if not cells:
            copy_unchanged(self._path, target, sha256)
            return
        from spacy.strings import StringStore

        check_unchanged(self._path, sha256)
        bin_, names = self._open(), StringStore()
        at = self._places(bin_)
        for row, edited in cells.items():
            if (tags := edited[TAGS]) is None:
                tags = ["O"] * len(bin_.tokens[row])
            tokens = bin_.tokens[row].copy()
            for token, tag in zip(tokens, tags, strict=True):
                mark, _, kind = tag.partition("-")
                iob = {"B": _BEGINS, "I": _INSIDE}.get(mark, _OUTSIDE)
                code = names.add(kind) if kind else 0
                old = int(token[at["ENT_IOB"]]) or _OUTSIDE
                if (old, int(token[at["ENT_TYPE"]])) != (iob, code):
                    token[[place for name, place in at.items() if name != "ENT_IOB"]] = 0
                    token[at["ENT_IOB"]], token[at["ENT_TYPE"]] = iob, code
                    bin_.strings.add(kind)
            bin_.tokens[row] = tokens
        with new_file(target) as file:
            file.write(bin_.to_bytes())

    def _open(self) -> Any:
        from spacy.tokens import DocBin

        try:
            found = DocBin().from_bytes(self._path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"the dataset {self.name!r} is no DocBin of spaCy: {error}") from error
        # Otherwise what its documents carry of a user's own would be lost in writing.
        found.store_user_data = any(each is not None for each in found.user_data)
        return found

    def _places(self, bin_: Any) -> dict[str, int]:
        """Where in a token's attributes those of entities stand."""
        from spacy.attrs import IDS

        names = ("ENT_IOB", "ENT_TYPE", "ENT_KB_ID", "ENT_ID")
        found = {name: bin_.attrs.index(IDS[name]) for name in names if IDS[name] in bin_.attrs}
        if not {"ENT_IOB", "ENT_TYPE"} <= found.keys():
            raise DataError(
                f"the dataset {self.name!r} keeps no entities: write it with "
                "DocBin(attrs=[..., 'ENT_IOB', 'ENT_TYPE'])"
            )
        return found


def _tag(token: Any) -> str:
    if token.ent_iob_ == "B":
        return f"B-{token.ent_type_}"
    return f"I-{token.ent_type_}" if token.ent_iob_ == "I" else "O"
