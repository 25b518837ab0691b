"""In which encoding the beginning of a text file is, told from its bytes.

UTF-8 stays UTF-8 where a few lines are broken: those lines are refused, the others read. A file of
Western Europe is cp1252, which is Latin-1 with letters and quotes where Latin-1 has control
characters. One in which most letters are several bytes, or letters that are not plain come in runs,
is of another part of the world: read as Latin-1 it would give wrong names without a word.
"""

import codecs
import re
from dataclasses import dataclass

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Encodings of East Asia, in which most letters are two bytes.
_WIDE = ("euc_jp", "euc_kr", "gb18030", "big5")
_HIGH = re.compile(rb"[\x80-\xff]+")
# Broken lines up to this many, and share of all lines, are damage and no encoding.
FEW_LINES, FEW_SHARE = 2, 0.05


@dataclass(frozen=True)
class Encoding:
    """Encoding as `csv.encoding` has it, and what a person has to look at."""

    name: str
    doubt: str = ""


def encoding_of(data: bytes) -> Encoding:
    """Tells the encoding of the first lines of a file."""
    if data.startswith(UTF16_MARKS):
        return Encoding("utf-16")
    # Plain letters are a zero and a byte there.
    for name, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if zeros and zeros.count(0) > len(zeros) // 2:
            return Encoding(name)
    # The sample may end inside a letter.
    data = data[: data.rfind(b"\n") + 1] or data
    return Encoding("utf-8") if _decodes(data) else _other(data)


def _other(data: bytes) -> Encoding:
    """Encoding of text that is not UTF-8 throughout."""
    lines = data.split(b"\n")
    broken = [number for number, line in enumerate(lines, start=1) if not _decodes(line)]
    foreign = sum(not line.isascii() for line in lines)
    is_damage = len(broken) <= FEW_LINES and len(broken) <= FEW_SHARE * len(lines)
    if len(broken) * 2 <= foreign or is_damage:
        return Encoding(
            "utf-8",
            f"{len(broken):,} of {len(lines):,} lines are not UTF-8 (the first is line "
            f"{broken[0]:,}) and are refused: if all is cp1252, say csv: {{encoding: cp1252}}",
        )
    name = _not_western(data, b"".join(_HIGH.findall(data))) or "cp1252"
    # Bytes that cp1252 leaves open are control characters in Latin-1, which has all.
    name = name if _decodes(data, name) else "latin-1"
    return Encoding(name, f"the file is not UTF-8 and is read as {name}: are names right?")


def _decodes(data: bytes, name: str = "utf-8") -> bool:
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _not_western(data: bytes, high: bytes) -> str:
    """Name of an encoding of another part of the world, if the bytes are more like it."""
    # Its first bytes of two are control characters elsewhere.
    if sum(byte < 0xA0 for byte in high) * 4 > len(high) and _decodes(data, "cp932"):
        return "cp932"
    # In Western text a letter with an accent stands between plain ones.
    together = sum(len(run) for run in _HIGH.findall(data) if len(run) > 1)
    if together * 3 < len(high) * 2:
        return ""
    return next((name for name in _WIDE if _decodes(data, name)), "cp1251")
