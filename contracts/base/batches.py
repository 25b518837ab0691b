"""Cuts a range of days so that what one query holds in memory does not grow with the range."""

import datetime as dt
from collections.abc import Iterable, Iterator


def chunks(sized: Iterable[tuple[dt.date, int]], limit: int) -> Iterator[list[dt.date]]:
    """Cuts days, given with a size each, into consecutive lists whose sizes add up to <= limit.

    A day that is larger than the limit stands alone.
    """
    chunk: list[dt.date] = []
    total = 0
    for day, size in sized:
        if chunk and total + size > limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(day)
        total += size
    if chunk:
        yield chunk
