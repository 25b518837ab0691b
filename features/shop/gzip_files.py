"""Landing files: gzip, written on threads while the next hour is being drawn.

In: the buffers of a file's lines. Out: the file. zlib works outside Python's lock and is the
slowest part of the shop, so a second core nearly halves the time.
"""

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pyarrow as pa

from contracts.base.disks import writing

MOST_WORKERS = 4


class HourFiles:
    """Compresses and writes files, a few of them under way at a time."""

    def __init__(self) -> None:
        self._workers = min(MOST_WORKERS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._workers)
        self._under_way: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Waits for what is under way, or after an error drops what has not begun."""
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            for future in self._under_way:
                future.result()

    def write(self, path: Path, chunks: list[pa.Buffer]) -> None:
        """Has a file written; waits while too many are under way, so that memory stays bounded."""
        while len(self._under_way) > self._workers:
            self._under_way.popleft().result()
        self._under_way.append(self._pool.submit(write_gzip, path, chunks))


def write_gzip(path: Path, chunks: list[pa.Buffer]) -> None:
    """Writes chunks as one gzip file of level 1, without a time: same content, same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with writing(path), path.open("wb") as file:
        for chunk in chunks:
            file.write(compressor.compress(chunk))
        file.write(compressor.flush())
