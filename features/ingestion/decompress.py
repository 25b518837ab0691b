"""Bytes of a file on a disk or at a URL, as they lie there or decompressed (gzip, zstd), in blocks.

What is truncated or damaged ends in one sentence.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from contracts.base.errors import FootpathError

# Read at a time.
BLOCK = 1 << 20

# Fed to a decompressor at a time: zeros swell a thousandfold in gzip, 32,000-fold in zstd, and
# what comes out has to fit in memory whatever went in.
GZIP_STEP = 64 << 10
ZSTD_STEP = 4 << 10

GZIP = (".gz", ".tgz")
ZSTD = (".zst", ".zstd")


def open_url(url: str) -> IO[bytes]:
    """Opens a path or URL for reading, as it lies there."""
    if "://" not in url:
        return open(url, "rb")
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    return system.open(path, "rb")


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns an error of the disk or the store into a sentence that names the file."""
    try:
        yield
    except OSError as error:
        raise FootpathError(
            f"{path} cannot be read: {error.strerror or error}: check the file and its rights"
        ) from None


def blocks_of(handle: IO[bytes]) -> Iterator[bytes]:
    """Yields what is in an open file."""
    return iter(partial(handle.read, BLOCK), b"")


def decompressed(blocks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """Yields blocks decompressed by the suffix of path, or as they are if it has none.

    Several streams one after the other, as `cat a.gz b.gz` makes them, are read as one.

    Raises:
      FootpathError: the bytes are truncated, damaged, or not what the suffix says.
    """
    low = path.lower()
    if low.endswith(GZIP):
        start = partial(zlib.decompressobj, wbits=zlib.MAX_WBITS | 16)
        return _inflate(blocks, start, GZIP_STEP, "gzip", path)
    if low.endswith(ZSTD):
        import zstandard

        start = zstandard.ZstdDecompressor().decompressobj
        return _inflate(blocks, start, ZSTD_STEP, "zstd", path)
    return blocks


def _inflate(
    blocks: Iterator[bytes], start: Callable[[], Any], step: int, kind: str, path: str
) -> Iterator[bytes]:
    stream = None
    has_ended = False  # a stream; zeros after its end are padding, as gzip itself takes them
    for block in blocks:
        for place in range(0, len(block), step):
            rest = block[place : place + step]
            while rest := rest.lstrip(b"\0") if has_ended and stream is None else rest:
                stream = stream or start()
                try:
                    data = stream.decompress(rest)
                except Exception as error:  # zlib.error or zstandard.ZstdError, which has no stub
                    raise FootpathError(
                        f"{path} is not what its name says, or is damaged ({error}): "
                        f"ask for it again"
                    ) from None
                rest = b""
                if stream.eof:
                    rest, stream, has_ended = stream.unused_data, None, True
                if data:
                    yield data
    if stream is not None or not has_ended:
        raise FootpathError(
            f"{path} is a truncated {kind}: it ends in the middle of its data: ask for it again"
        )
