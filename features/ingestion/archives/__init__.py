"""Members of archives (tar, zip), each read as a file of its own; nothing is unpacked to disk.

The index of an archive is kept on this machine, for as long as the archive stays as it is.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import astuple

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.lake.layout import home
from features.ingestion.archives import tar, zip
from features.ingestion.archives.member import Member, is_zip
from features.ingestion.decompress import open_url, readable


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
    found = (zip if is_zip(path) else tar).members_of(path, url)
    if stamp:
        kept.parent.mkdir(parents=True, exist_ok=True)
        staged = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}")
        staged.write_text(json.dumps({"stamp": stamp, "members": list(map(astuple, found))}))
        staged.replace(kept)
    return found


class Archives:
    """Reads members of archives. One archive is open at a time; a tar goes on where it was left."""

    def __init__(self) -> None:
        self._url = ""
        self._reader: tar.ForwardStream | zip.ZipReader | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Archives":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the archive that is open."""
        self._open.close()
        self._url, self._reader = "", None

    def read(self, path: str, url: str, offset: int, size: int) -> Iterator[bytes]:
        """Yields the bytes of a member.

        Args:
          path: names the archive in sentences.
          url: where it lies.
          offset: as of the Member.
          size: as of the Member.

        Raises:
          FootpathError: the archive cannot be read, or ends before.
        """
        with readable(path):
            try:
                reader = self._at(path, url, offset)
                for block in reader.read_at(offset, size):
                    size -= len(block)
                    yield block
            except BaseException:
                self.close()
                raise
            if size:
                self.close()
                raise FootpathError(f"{path} has changed while it was read: run it again")

    def _at(self, path: str, url: str, offset: int) -> "tar.ForwardStream | zip.ZipReader":
        """The archive's reader, at or before a place."""
        if self._reader is None or self._url != url or self._reader.tell() > offset:
            self.close()
            handle = self._open.enter_context(open_url(url))
            of = zip.ZipReader if is_zip(path) else tar.ForwardStream.of
            self._url, self._reader = url, of(handle, path)
        return self._reader
