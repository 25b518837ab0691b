"""Members of tar archives, read where they lie: nothing is unpacked.

In:  an archive (.tar, .tar.gz, .tgz, .tar.zst) on a disk or at a URL. Out: its members, and the
bytes of those that are wanted.

A member is a range of the archive's decompressed bytes. Where the ranges are takes one pass over
the archive, which also shows that it is whole; what was found is kept on this machine, for as long
as the archive stays as it is. Members asked for in the order in which they lie are one more pass.
"""

import contextlib
import io
import itertools
import json
import re
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import PurePosixPath

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.lake.layout import home
from features.ingestion.streams import BLOCK, blocks_of, decompressed, open_url, told

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_ARCHIVE = re.compile(r"(.*?\.(?:tar|tar\.gz|tgz|tar\.zst))/(.+)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A file in an archive: the range of decompressed bytes that it is."""

    name: str
    offset: int
    size: int
    flaw: str  # why it cannot be a source file, and what to do; mostly empty


def split_pattern(pattern: str) -> tuple[str, str | None]:
    """Returns the pattern of the archives and that of their members; None without an archive."""
    match = _ARCHIVE.fullmatch(pattern)
    return (match[1], match[2]) if match else (pattern, None)


def members(path: str, url: str, stamp: str) -> list[Member]:
    """Returns the files in an archive, in the order in which they lie.

    Args:
      path: names the archive in sentences.
      url: where it lies.
      stamp: changes when the archive does; without one nothing is kept of what was found.

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
    with told(path), open_url(url) as handle:
        stream = _Stream(decompressed(blocks_of(handle), path))
        try:
            found = [header for header in _headers(stream) if not header.isdir()]
        except (tarfile.TarError, ValueError, OverflowError) as error:
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
    names = [header.name.removeprefix("./") for header in found]
    times = Counter(names)
    pairs = zip(names, found, strict=True)
    return [_member(name, header, times[name] > 1) for name, header in pairs]


def _headers(stream: "_Stream") -> Iterator[tarfile.TarInfo]:
    """Yields an archive's headers up to its end mark.

    TarFile's own iteration takes a broken header, or the end of a truncated file, for the end.
    """
    # Opened on an end mark, so that nothing of ours is read yet.
    reader = tarfile.TarFile(fileobj=io.BytesIO(bytes(tarfile.RECORDSIZE)), errors="replace")
    reader.fileobj = stream  # pyright: ignore[reportAttributeAccessIssue]
    reader.offset = 0
    while True:
        stream.skip_to(reader.offset)
        try:
            yield tarfile.TarInfo.fromtarfile(reader)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            return


def _member(name: str, header: tarfile.TarInfo, is_twice: bool) -> Member:
    """Returns what a header tells, and why the member could not be told from others or read."""
    flaw = ""
    if not header.isreg() or header.issparse():
        flaw = "is a link, a device or a sparse file: pack plain files (tar -h --hard-dereference)"
    elif name.startswith("/") or ".." in PurePosixPath(name).parts:
        flaw = "has a name that leads out of the archive: pack it with a plain name"
    elif "\ufffd" in name:
        flaw = "has a name that is not UTF-8: rename it"
    elif is_twice:
        flaw = "is in the archive more than once: pack it once"
    return Member(name, header.offset_data, header.size, flaw)


class Archives:
    """Reads ranges of archives. One archive is open at a time, and goes on where it was left."""

    def __init__(self) -> None:
        self._url = ""
        self._stream: _Stream | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Archives":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the archive that is open."""
        self._open.close()
        self._url, self._stream = "", None

    def read(self, path: str, url: str, offset: int, size: int) -> Iterator[bytes]:
        """Yields a range of an archive's decompressed bytes.

        Raises:
          FootpathError: the archive cannot be read, or ends before.
        """
        with told(path):
            try:
                stream = self._at(path, url, offset)
                while size and (block := stream.read(min(size, BLOCK))):
                    size -= len(block)
                    yield block
            except BaseException:
                self.close()
                raise
            if size:
                self.close()
                raise FootpathError(f"{path} has changed while it was read: run it again")

    def _at(self, path: str, url: str, offset: int) -> "_Stream":
        """Returns the archive's stream, wound on to a place."""
        if self._stream is None or self._url != url or self._stream.tell() > offset:
            self.close()
            handle = self._open.enter_context(open_url(url))
            self._url, self._stream = url, _Stream(decompressed(blocks_of(handle), path))
        self._stream.skip_to(offset)
        return self._stream


class _Stream:
    """Blocks of bytes, read as a file that only goes forward."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._ahead = memoryview(b"")
        self._place = 0

    def tell(self) -> int:
        """Returns how many bytes were read."""
        return self._place

    def read(self, size: int) -> bytes:
        """Returns the next bytes; fewer only at the end."""
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip_to(self, place: int) -> None:
        """Goes on to a place, or to the end if that comes first."""
        while self._place < place and self._some(place - self._place):
            pass

    def seek(self, place: int) -> None:
        """As skip_to, by the name that tarfile knows."""
        self.skip_to(place)

    def rest(self) -> Iterator[bytes]:
        """Yields everything that is left."""
        yield from itertools.chain([bytes(self._ahead)], self._blocks)

    def _some(self, size: int) -> memoryview:
        if not self._ahead:
            self._ahead = memoryview(next(self._blocks, b""))
        part, self._ahead = self._ahead[:size], self._ahead[size:]
        self._place += len(part)
        return part
