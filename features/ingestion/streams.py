"""Bytes of source files, decompressed, wherever they lie: on a disk, at a URL, in an archive.

In:  source files (listing.py), plain, gzipped or zstd. Out: blocks of decompressed bytes. Local
paths go the direct way, URLs go through fsspec; small files of a store are prefetched, many at a
time; an archive is not unpacked, and one pass over a tar gives all members that are asked for in
the order in which they lie. What is damaged ends in one sentence.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePath
from typing import Any

from contracts.base.batches import chunks
from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher
from features.ingestion.archives import Archives
from features.ingestion.archives.member import TAR, ZIP
from features.ingestion.decompress import GZIP, ZSTD, blocks_of, decompressed, open_url, readable

# What is not read: without this list its bytes would be taken for text.
FOREIGN = (".bz2", ".xz", ".tbz2", ".txz", ".7z", ".lz4", ".snappy", ".br")

# What is prefetched at a time, and the largest file that is.
PREFETCH_FILES = 64
PREFETCH_BYTES = 32 << 20
SMALL = 4 << 20


@dataclass(frozen=True)
class SourceFile:
    """A file of the source as it lay there when it was listed."""

    path: str  # relative to the source folder, or the whole address if the pattern is absolute
    url: str
    size: int
    stamp: str  # changes when the file does: modification time, or the store's ETag
    archive: str = ""  # the path of the archive that it lies in, and then the url is the archive's
    offset: int = 0  # where it begins there: archives.Member.offset
    fault: str = ""  # a sentence: why it cannot be read, found while it was listed

    @property
    def place(self) -> tuple[str, int]:
        """Orders files as they lie, so that an archive is read from its start to its end."""
        return self.url, self.offset


def read_blocks(
    file: SourceFile,
    digest: Hasher | None = None,
    archives: Archives | None = None,
    prefetch: "Prefetch | None" = None,
    most: int | None = None,
) -> Iterator[bytes]:
    """Yields a file's decompressed bytes in blocks, by its suffix .gz, .zst or none of them.

    Args:
      file: which.
      digest: is fed the bytes as they lie in the file.
      archives: an archive that it has open goes on where it was left.
      prefetch: gives a small file of a store at once.
      most: how many bytes it may have; None for any number.

    Raises:
      FootpathError: the file cannot be read, is truncated or damaged, or is an archive.
    """
    if file.fault:
        raise FootpathError(file.fault)
    if file.path.lower().endswith((*TAR, ZIP)):
        raise FootpathError(
            f"{file.path} is an archive: say which of its members to read, "
            f"such as {PurePath(file.path).name}/*.csv"
        )
    if file.path.lower().endswith(FOREIGN):
        raise FootpathError(
            f"{file.path}: this kind of compression is not read: "
            f"unpack it, or compress it with gzip or zstd"
        )
    with contextlib.ExitStack() as opened:
        if file.archive:
            archives = archives or opened.enter_context(Archives())
            blocks = archives.read(file.archive, file.url, file.offset, file.size)
        else:
            opened.enter_context(readable(file.path))
            whole = prefetch.take(file) if prefetch else None
            if whole is not None:
                blocks = iter([whole])
            else:
                blocks = blocks_of(opened.enter_context(open_url(file.url)))
        size = 0
        for block in decompressed(_fed_to(digest, blocks), file.path):
            size += len(block)
            if most is not None and size > most:
                raise too_large(file.path, most)
            yield block


def too_large(path: str, most: int) -> FootpathError:
    """The fault of a file with more bytes than `max_bytes` of the YAML allows."""
    return FootpathError(
        f"{path} has more than {most:,} bytes when it is unpacked: "
        f"split it, or raise max_bytes beside its url in the YAML"
    )


def path_on_disk(
    file: SourceFile,
    folder: Path,
    digest: Hasher | None = None,
    archives: Archives | None = None,
    prefetch: "Prefetch | None" = None,
    most: int | None = None,
) -> str:
    """Path on this machine of a file for a reader of its own: itself, or a copy in a folder."""
    if file.fault:
        raise FootpathError(file.fault)
    is_plain = not file.path.lower().endswith((*GZIP, *ZSTD))
    if "://" not in file.url and not file.archive and is_plain:
        if digest is not None:
            for _ in read_blocks(file, digest):
                pass
        return file.url
    path = folder / "copy"
    with open(path, "wb") as copy:
        copy.writelines(read_blocks(file, digest, archives, prefetch, most))
    return str(path)


def _fed_to(digest: Hasher | None, blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        if digest is not None:
            digest.update(block)
        yield block


class Prefetch:
    """Small files of a store, fetched many at a time and ahead of their reader.

    A round trip takes longer than reading what it brings. Large files and those on a disk are
    streamed.

    Args:
      files: in the order in which they will be asked for.
    """

    def __init__(self, files: Iterable[SourceFile]) -> None:
        sized = ((file.url, file.size) for file in files if _is_small(file))
        self._batches = chunks(sized, PREFETCH_BYTES, PREFETCH_FILES)
        self._fetched: dict[str, bytes | Exception] = {}

    def take(self, file: SourceFile) -> bytes | None:
        """The bytes of a file as they lie there, once; None for one that is to be streamed.

        Raises:
          Exception: what the store's client raised for this file.
        """
        if not _is_small(file):
            return None
        while file.url not in self._fetched:
            batch = next(self._batches, None)
            if batch is None:
                return None  # it was not announced, or is taken again
            self._fetched |= _fetch(batch)
        found = self._fetched.pop(file.url)
        if isinstance(found, Exception):
            raise found
        return found


def _is_small(file: SourceFile) -> bool:
    # A name that looks like a pattern would be taken for one where many are asked for.
    is_plain = "://" in file.url and not has_magic(file.url)
    # Where a server does not say how large a file is, its size is given as 0.
    return is_plain and not file.archive and 0 < file.size <= SMALL


def _fetch(urls: list[str]) -> dict[str, bytes | Exception]:
    """Fetches files side by side; an exception stands for what could not be."""
    import fsspec

    system, _ = fsspec.core.url_to_fs(urls[0])
    paths = {system._strip_protocol(url): url for url in urls}
    protocols = [system.protocol] if isinstance(system.protocol, str) else system.protocol
    # With more requests for one object, s3fs asks for its size first.
    only: dict[str, Any] = {"max_concurrency": 1} if "s3" in protocols else {}
    found = system.cat(list(paths), on_error="return", **only)
    return {url: found[path] for path, url in paths.items()}
