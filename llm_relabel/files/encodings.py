"""Which encoding text that is not UTF-8 is likely in."""

from __future__ import annotations

# Of encodings that are equally likely, the ones that people's programs write.
_USUAL = ("cp1252", "shift_jis", "gb18030", "big5", "euc_kr", "cp1251", "koi8_r", "mac_roman")
# A share of bytes: of the West's languages, few letters are none of ASCII's.
_FEW = 0.2


def likely_encoding(data: bytes) -> str | None:
    """A likely encoding of `data`, which it can be decoded in; None where there is none."""
    from charset_normalizer import from_bytes

    found = from_bytes(data)
    best = found.best()
    likely = list(best.could_be_from_charset) if best is not None else []
    encodings = [name for name in _USUAL if name in likely] or likely[:1]
    # A few accents among plain letters are of the West, unless nothing but others fits.
    telling = b"".join(line for line in data.splitlines() if not line.isascii())
    if sum(byte > 0x7F for byte in telling) < _FEW * len(telling) and (
        best is None or "cp1252" in (match.encoding for match in found)
    ):
        encodings.insert(0, "cp1252")
    encodings[:0] = [name for name in ("shift_jis", "euc_jp") if _has_kana(telling, name)]
    for encoding in encodings:
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return None


def _has_kana(text: bytes, encoding: str) -> bool:
    """Whether the text, in a Japanese encoding, has the syllables that no other language has."""
    try:
        letters = [each for each in text.decode(encoding) if not each.isascii()]
    except UnicodeDecodeError:
        return False
    return sum("\u3040" <= each <= "\u30ff" for each in letters) > len(letters) / 10
