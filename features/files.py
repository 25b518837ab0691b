"""Finds source files, and streams their bytes decompressed.

In:  a folder or URL and a pattern; files as they lie there, plain, gzipped or zstd.
Out: the files found, with what shows that one has changed; blocks of decompressed bytes.
Local paths go the direct way, URLs go through fsspec. What is damaged ends in one sentence.
"""

import contextlib
import hashlib
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from contracts.errors import FootpathError

# Read at a time: small enough that a block of zeros a thousandfold larger still fits in memory.
BLOCK = 1 << 20

# What is not read: without this list its bytes would be taken for text.
FOREIGN = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".lz4", ".snappy", ".br")


@dataclass(frozen=True)
class SourceFile:
    """A file of the source as it lay there when it was found."""

    path: str  # relative to the source folder, or the whole address if the pattern is absolute
    url: str
    size: int
    stamp: str  # changes when the file does: modification time, or the store's ETag


def find_files(folder: str, pattern: str) -> list[SourceFile]:
    """Finds the files below folder that match a glob pattern, in order of path.

    Args:
      folder: a local folder or an fsspec URL.
      pattern: relative to the folder; or an absolute path or URL, and then folder is not used.

    Raises:
      FootpathError: the folder is not there or cannot be listed.
    """
    if is_absolute(pattern):
        folder, pattern = "", pattern.removeprefix("file://")
    folder = folder.removeprefix("file://")
    finder = _find_remote if "://" in (folder or pattern) else _find_local
    return sorted(finder(folder, pattern), key=lambda file: file.path)


def is_absolute(pattern: str) -> bool:
    """Tells whether a pattern says itself where it starts."""
    return "://" in pattern or Path(pattern).is_absolute()


def _find_local(folder: str, pattern: str) -> Iterator[SourceFile]:
    root = Path(folder or Path(pattern).anchor)
    if not root.is_dir():
        raise FootpathError(f"the source folder {root} is not there: link the data set again")
    for path in root.glob(pattern.removeprefix(str(root)) if not folder else pattern):
        # A file may go between the listing and here: then it was not found.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                known_as = str(path.relative_to(root) if folder else path)
                yield SourceFile(known_as, str(path), status.st_size, str(status.st_mtime_ns))


def _find_remote(folder: str, pattern: str) -> Iterator[SourceFile]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(folder or pattern)
        system.invalidate_cache()  # a long-lived process would see yesterday's listing
        root = root.rstrip("/")
        found = system.glob(f"{root}/{pattern}" if folder else root, detail=True)
    except (OSError, ImportError, ValueError) as error:
        raise FootpathError(
            f"{folder or pattern} cannot be listed ({error}): "
            f"check the address and the credentials in the environment"
        ) from None
    for name, info in found.items():
        if info["type"] == "file":
            url = system.unstrip_protocol(name)
            path = name[len(root) :].lstrip("/") if folder else url
            yield SourceFile(path, url, info["size"] or 0, _stamp(info))


def _stamp(info: dict[str, Any]) -> str:
    known = ("ETag", "etag", "md5", "LastModified", "mtime", "updated", "last_modified", "created")
    return next((str(info[key]).strip('"') for key in known if info.get(key)), "")


def read_blocks(file: SourceFile, digest: "hashlib._Hash | None" = None) -> Iterator[bytes]:
    """Yields a file's decompressed bytes in blocks, by its suffix .gz, .zst or none of them.

    Args:
      file: which.
      digest: is fed the bytes as they lie in the file.

    Raises:
      FootpathError: the file cannot be read, is truncated or damaged, or is an archive.
    """
    if file.path.lower().endswith(FOREIGN):
        raise FootpathError(
            f"{file.path}: archives and this kind of compression are not read: "
            f"unpack it, or compress it with gzip or zstd"
        )
    try:
        with open_file(file) as handle:
            raw = _watched(iter(partial(handle.read, BLOCK), b""), digest)
            start = _decompressor(file.path)
            yield from _inflate(raw, start, file.path) if start else raw
    except OSError as error:
        raise FootpathError(
            f"{file.path} cannot be read: {error.strerror or error}: check the file and its rights"
        ) from None


def open_file(file: SourceFile) -> IO[bytes]:
    """Opens a file for reading, as it lies there."""
    if "://" not in file.url:
        return open(file.url, "rb")
    import fsspec

    system, path = fsspec.core.url_to_fs(file.url)
    return system.open(path, "rb")


def _watched(blocks: Iterator[bytes], digest: "hashlib._Hash | None") -> Iterator[bytes]:
    for block in blocks:
        if digest is not None:
            digest.update(block)
        yield block


def _decompressor(path: str) -> Callable[[], Any] | None:
    """Returns what starts a stream, judged by the suffix; None where the bytes are plain."""
    if path.endswith(".gz"):
        return partial(zlib.decompressobj, wbits=zlib.MAX_WBITS | 16)
    if path.endswith((".zst", ".zstd")):
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj
    return None


def _inflate(blocks: Iterator[bytes], start: Callable[[], Any], path: str) -> Iterator[bytes]:
    """Decompresses one stream, or several one after the other, as `cat a.gz b.gz` makes them."""
    stream = None
    for block in blocks:
        rest = block
        while rest:
            stream = stream or start()
            try:
                data = stream.decompress(rest)
            except Exception as error:  # zlib.error or zstandard.ZstdError, which has no stub
                raise FootpathError(
                    f"{path} is not what its name says, or is damaged ({error}): ask for it again"
                ) from None
            rest = b""
            if stream.eof:
                # Zeros after the end are padding, as gzip itself takes them.
                rest = stream.unused_data.lstrip(b"\0")
                stream = None
            if data:
                yield data
    if stream is not None:
        kind = "gzip" if path.endswith(".gz") else "zstd"
        raise FootpathError(
            f"{path} is a truncated {kind}: it ends in the middle of its data: ask for it again"
        )
