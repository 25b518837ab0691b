"""Sorted streams of several views, cut into batches of the same users, or items.

So that what is new of a user in all views is written in one step, and no read meets a part of it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import pyarrow as pa


def aligned(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[dict[int, pa.RecordBatch]]:
    """Cuts streams at the same keys.

    Args:
      streams: of each view: batches, sorted by length in bytes and bytes of their first column,
        which is text and in which nothing comes twice.

    Yields:
      Number of a stream -> its rows of one range of keys, where it has any. Ranges follow each
      other. At most one batch of each stream is held.
    """
    heads: dict[int, pa.RecordBatch] = {}
    while True:
        for number, stream in enumerate(streams):
            if number not in heads and (head := next((b for b in stream if b.num_rows), None)):
                heads[number] = head
        if not heads:
            return
        end = min(_place(head, head.num_rows - 1) for head in heads.values())
        parts = {}
        for number, head in list(heads.items()):
            rows = bisect_right(range(head.num_rows), end, key=lambda row, b=head: _place(b, row))
            if rows:
                parts[number] = head.slice(0, rows)
                heads[number] = head.slice(rows)
            if rows == head.num_rows:
                del heads[number]
        yield parts


def _place(batch: pa.RecordBatch, row: int) -> tuple[int, bytes]:
    key = batch.column(0)[row].as_py().encode()
    return len(key), key
