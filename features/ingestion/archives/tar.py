"""Index of a tar archive: its members, where they lie, and why one cannot be read.

In:  an archive (.tar, .tar.gz, .tgz, .tar.zst) on a disk or at a URL. Out: its members, each a
range of the archive's decompressed bytes (nothing is unpacked).

Finding the ranges takes one pass over the archive, which also shows that it is whole.
"""

import io
import itertools
import tarfile
from collections.abc import Iterator
from typing import IO

from contracts.base.errors import FootpathError
from features.ingestion.archives.member import MOST_MEMBERS, Member, flaw_of_name, told_apart
from features.ingestion.decompress import BLOCK, blocks_of, decompressed, open_url, readable

# Bytes of the headers of a member: they are read into memory.
MOST_HEADER = 1 << 20


class ForwardStream:
    """Blocks of bytes, read as a file that only goes forward."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")
        self._place = 0

    @classmethod
    def of(cls, handle: IO[bytes], path: str) -> "ForwardStream":
        """Streams what is in an open file, decompressed by the suffix of path."""
        return cls(decompressed(blocks_of(handle), path))

    def tell(self) -> int:
        """How many bytes were read."""
        return self._place

    def read(self, size: int) -> bytes:
        """The next bytes; fewer only at the end."""
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def seek(self, place: int) -> None:
        """Goes on to a place, or to the end if that comes first."""
        while self._place < place and self._some(place - self._place):
            pass

    def read_at(self, place: int, size: int) -> Iterator[bytes]:
        """Goes on to a place, and yields what follows; less than `size` only at the end."""
        self.seek(place)
        while size and (block := self.read(min(size, BLOCK))):
            size -= len(block)
            yield block

    def rest(self) -> Iterator[bytes]:
        """Yields everything that is left."""
        yield from itertools.chain([bytes(self._rest)], self._blocks)

    def _some(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        part, self._rest = self._rest[:size], self._rest[size:]
        self._place += len(part)
        return part


def members_of(path: str, url: str) -> list[Member]:
    """The files in an archive, in the order in which they lie.

    Raises:
      FootpathError: it is truncated, damaged, or no archive.
    """
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
    return told_apart(found)


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
    name = header.name.removeprefix("./")
    flaw = flaw_of_name(name)
    if not header.isreg() or header.issparse():
        flaw = "is a link, a device or a sparse file: pack plain files (tar -h --hard-dereference)"
    return Member(name, header.offset_data, header.size, flaw)
