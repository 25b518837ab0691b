"""A file in an archive: where it lies, and why it cannot be read; and which paths lead into one."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

# Members of an archive: what is kept of them lies in memory.
MOST_MEMBERS = 500_000

TAR = (".tar", ".tar.gz", ".tgz", ".tar.zst")
ZIP = ".zip"

_ARCHIVE = re.compile(r"(.*?\.(?:tar|tar\.gz|tgz|tar\.zst|zip))/(.+)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    offset: int  # of a tar: where its bytes begin when all is decompressed; of a zip: its header
    size: int
    flaw: str  # why it cannot be a source file, and what to do; mostly empty


def split_pattern(pattern: str) -> tuple[str, str | None]:
    """The pattern of the archives and that of their members; None without an archive."""
    match = _ARCHIVE.fullmatch(pattern)
    return (match[1], match[2]) if match else (pattern, None)


def is_zip(path: str) -> bool:
    """Whether an archive is a zip, by its name."""
    return path.lower().endswith(ZIP)


def flaw_of_name(name: str) -> str:
    """Why a member of this name could not be told from others, or is hostile."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "has a name that leads out of the archive: pack it with a plain name"
    if "\ufffd" in name:
        return "has a name that is not UTF-8: rename it"
    return ""


def told_apart(found: Iterable[Member]) -> list[Member]:
    """Members with a flaw where several have one name."""
    found = list(found)
    times = Counter(member.name for member in found)
    twice = "is in the archive more than once: pack it once"
    return [
        replace(member, flaw=twice) if times[member.name] > 1 and not member.flaw else member
        for member in found
    ]
