"""Index of a zip archive and the bytes of its members, read where they lie.

In:  an archive (.zip) on a disk or at a URL. Out: its members, and blocks of one of them.

A zip has its index at its end, and a member is read without the others. Every size in it may be a
lie: what is read at a time is bounded, whatever it says.
"""

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from contracts.base.errors import FootpathError
from features.ingestion.archives.member import MOST_MEMBERS, Member, flaw_of_name, told_apart
from features.ingestion.decompress import BLOCK, open_url, readable

# Bytes of the index: it is read into memory.
MOST_INDEX = 32 << 20

_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class ZipReader:
    """An open zip archive.

    Args:
      handle: its bytes; can seek.
      path: names it in sentences.

    Raises:
      FootpathError: it is no zip, or is damaged.
    """

    def __init__(self, handle: IO[bytes], path: str) -> None:
        self._path = path
        with self._damage():
            self._zip = zipfile.ZipFile(_Bounded(handle))  # pyright: ignore[reportArgumentType]
            if len(self._zip.filelist) > MOST_MEMBERS:
                raise ValueError(f"more than {MOST_MEMBERS:,} members: pack fewer into one archive")
        self._at = {info.header_offset: info for info in self._zip.filelist}

    def members(self) -> list[Member]:
        """The files in it, in the order in which they lie."""
        files = (info for _, info in sorted(self._at.items()) if not info.is_dir())
        return told_apart(map(_member, files))

    def tell(self) -> int:
        """The place before which nothing can be read again: none."""
        return 0

    def read_at(self, offset: int, size: int) -> Iterator[bytes]:  # noqa: ARG002
        """Yields the bytes of the member whose header lies at a place.

        Raises:
          FootpathError: it is damaged, or not there any more.
        """
        if offset not in self._at:
            raise FootpathError(f"{self._path} has changed while it was read: run it again")
        with self._damage(), self._zip.open(self._at[offset]) as member:
            while block := member.read(BLOCK):
                yield block

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """Turns what zipfile raises on damaged bytes into a sentence."""
        try:
            yield
        except _ERRORS as error:
            raise FootpathError(
                f"{self._path} is not a zip archive, or is truncated or damaged ({error}): "
                f"ask for it again"
            ) from None


class _Bounded:
    """The file of a zip, of which no size that it states makes a large read."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.seek, self.tell, self.seekable = handle.seek, handle.tell, handle.seekable

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
          BadZipFile: there would be too many.
        """
        # Without a size, it is asked for the end of the file: some bytes.
        if size > MOST_INDEX:
            raise zipfile.BadZipFile(f"an index of more than {MOST_INDEX >> 20} MB")
        return self._handle.read(MOST_INDEX if size < 0 else size)


def members_of(path: str, url: str) -> list[Member]:
    """The files in an archive, in the order in which they lie.

    Raises:
      FootpathError: it is truncated, damaged, or no archive.
    """
    with readable(path), open_url(url) as handle:
        return ZipReader(handle, path).members()


def _member(info: zipfile.ZipInfo) -> Member:
    flaw = flaw_of_name(info.filename)
    if info.flag_bits & 1:
        flaw = "is encrypted: pack it without a password"
    elif info.compress_type not in _KNOWN:
        flaw = "is compressed in a way that is not read: pack it with deflate, as zip does"
    elif stat.S_ISLNK(info.external_attr >> 16):
        flaw = "is a link: pack plain files"
    return Member(info.filename.removeprefix("./"), info.header_offset, info.file_size, flaw)
