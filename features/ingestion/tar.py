"""Index of a tar archive: its members, where they lie, and why one cannot be read.

In:  an archive (.tar, .tar.gz, .tgz, .tar.zst) on a disk or at a URL. Out: its members, each a
range of the archive's decompressed bytes (streams.py reads it; nothing is unpacked).

Finding the ranges takes one pass over the archive, which also shows that it is whole; the index is
kept on this machine, for as long as the archive stays as it is.
"""

import contextlib
import io
import json
import re
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import PurePosixPath

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.lake.layout import home
from features.ingestion.streams import ForwardStream, open_url, readable

# Members of an archive, and bytes of the headers of one: what is kept of them lies in memory.
MOST_MEMBERS = 500_000
MOST_HEADER = 1 << 20

_ARCHIVE = re.compile(r"(.*?\.(?:tar|tar\.gz|tgz|tar\.zst))/(.+)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A file in an archive: the range of decompressed bytes that it is."""

    name: str
    offset: int
    size: int
    flaw: str  # why it cannot be a source file, and what to do; mostly empty


def split_pattern(pattern: str) -> tuple[str, str | None]:
    """The pattern of the archives and that of their members; None without an archive."""
    match = _ARCHIVE.fullmatch(pattern)
    return (match[1], match[2]) if match else (pattern, None)


def members(path: str, url: str, stamp: str) -> list[Member]:
    """The files in an archive, in the order in which they lie.

    Args:
      path: names the archive in sentences.
      url: where it lies.
      stamp: changes when the archive does; without one the index is not kept.

    Raises:
      FootpathError: it is truncated, damaged, or no archive.
    """
    kept = home() / "archives" / f"{hash_json(url)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(kept.read_text())
        if stamp and known["stamp"] == stamp:
            return [Member(*member) for member in known["members"]]
    found = _scan(path, url)
    if stamp:
        kept.parent.mkdir(parents=True, exist_ok=True)
        staged = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}")
        staged.write_text(json.dumps({"stamp": stamp, "members": list(map(astuple, found))}))
        staged.replace(kept)
    return found


def _scan(path: str, url: str) -> list[Member]:
    """Reads an archive to its end."""
    with readable(path), open_url(url) as handle:
        stream = ForwardStream.of(handle, path)
        try:
            found = [_member(header) for header in _headers(stream) if not header.isdir()]
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise FootpathError(
                f"{path} is not a tar archive, or is truncated or damaged ({error}): "
                f"ask for it again"
            ) from None
        # The rest is read too: a checksum stands at the end.
        if any(block.strip(b"\0") for block in stream.rest()):
            raise FootpathError(
                f"{path} goes on behind its end mark, as archives joined by cat do: "
                f"pack its files into one archive"
            )
    times = Counter(member.name for member in found)
    twice = "is in the archive more than once: pack it once"
    return [
        replace(member, flaw=twice) if times[member.name] > 1 and not member.flaw else member
        for member in found
    ]


class _HeaderStream:
    """The part of a stream that is a member's headers: so long, and no longer.

    A header holds its own length, and one that is not ours may hold any: it is read into memory.
    """

    def __init__(self, stream: ForwardStream) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell
        self.left = MOST_HEADER

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
          HeaderError: there were too many.
        """
        self.left -= size
        if self.left < 0:
            raise tarfile.HeaderError(f"a header of more than {MOST_HEADER >> 20} MB")
        return self._stream.read(size)


def _headers(stream: ForwardStream) -> Iterator[tarfile.TarInfo]:
    """Yields an archive's headers up to its end mark.

    TarFile's own iteration takes a broken header, or the end of a truncated file, for the end.
    """
    # Opened on an end mark, so that nothing of ours is read yet.
    reader = tarfile.TarFile(fileobj=io.BytesIO(bytes(tarfile.RECORDSIZE)), errors="replace")
    reader.fileobj = headers = _HeaderStream(stream)  # pyright: ignore[reportAttributeAccessIssue]
    reader.offset = 0
    for _ in range(MOST_MEMBERS):
        stream.seek(reader.offset)
        headers.left = MOST_HEADER
        try:
            yield tarfile.TarInfo.fromtarfile(reader)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            return
    raise ValueError(f"more than {MOST_MEMBERS:,} members: pack fewer into one archive")


def _member(header: tarfile.TarInfo) -> Member:
    """What a header holds, and why the member could not be told from others or read."""
    flaw, name = "", header.name.removeprefix("./")
    if not header.isreg() or header.issparse():
        flaw = "is a link, a device or a sparse file: pack plain files (tar -h --hard-dereference)"
    elif name.startswith("/") or ".." in PurePosixPath(name).parts:
        flaw = "has a name that leads out of the archive: pack it with a plain name"
    elif "\ufffd" in name:
        flaw = "has a name that is not UTF-8: rename it"
    return Member(name, header.offset_data, header.size, flaw)
