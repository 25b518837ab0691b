"""Batches by size, so that what is held in memory does not grow with what is to be done."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(
    items: Iterable[T], size_of: Callable[[T], int], limit: int, count: int | None = None
) -> Iterator[list[T]]:
    """Cuts items into consecutive lists whose sizes add up to `limit` or less.

    Args:
      items: what is cut; an item that is larger than the limit stands alone.
      size_of: the size of an item.
      limit: of the sizes of a list.
      count: at most so many items in a list, if it matters.
    """
    batch: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (total + size > limit or len(batch) == count):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
