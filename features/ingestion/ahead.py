"""Small files of a store, fetched many at a time and ahead of whoever reads them.

In:  the files that are going to be read, in their order. Out: the bytes of each small one; a file
is not waited for alone, since a round trip takes longer than the reading of what it brings. Large
files and those on a disk are streamed (streams.py).
"""

from collections.abc import Iterable, Iterator
from glob import has_magic
from typing import Any

from features.ingestion.files import SourceFile

# What is fetched at a time, and the largest file that is.
BATCH_FILES = 64
BATCH_BYTES = 32 << 20
SMALL = 4 << 20


class SmallFiles:
    """Gives the bytes of small remote files.

    Args:
      files: in the order in which they will be asked for.
    """

    def __init__(self, files: Iterable[SourceFile]) -> None:
        self._batches = _batches(file for file in files if _is_small(file))
        self._found: dict[str, bytes | Exception] = {}

    def take(self, file: SourceFile) -> bytes | None:
        """Returns the bytes of a file as they lie there, once; None for one that is to be streamed.

        Raises:
          Exception: what the store's client says of this file.
        """
        if not _is_small(file):
            return None
        while file.url not in self._found:
            batch = next(self._batches, None)
            if batch is None:
                return None  # it was not announced, or is taken again
            self._found |= _fetch([each.url for each in batch])
        found = self._found.pop(file.url)
        if isinstance(found, Exception):
            raise found
        return found


def _is_small(file: SourceFile) -> bool:
    # A name that looks like a pattern would be taken for one where many are asked for.
    is_plain = "://" in file.url and not has_magic(file.url)
    # Where a server does not say how large a file is, its size is given as 0.
    return is_plain and not file.archive and 0 < file.size <= SMALL


def _batches(files: Iterable[SourceFile]) -> Iterator[list[SourceFile]]:
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_FILES or size + file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _fetch(urls: list[str]) -> dict[str, bytes | Exception]:
    """Fetches files side by side; an exception stands for what could not be."""
    import fsspec

    system, _ = fsspec.core.url_to_fs(urls[0])
    paths = {system._strip_protocol(url): url for url in urls}
    # With more requests for one object, s3fs asks for its size first.
    only: dict[str, Any] = {"max_concurrency": 1} if "s3" in _protocols(system) else {}
    found = system.cat(list(paths), on_error="return", **only)
    return {url: found[path] for path, url in paths.items()}


def _protocols(system: Any) -> tuple[str, ...]:
    named = system.protocol
    return (named,) if isinstance(named, str) else tuple(named)
