"""Batches: of things by their sizes, and of ordered rows by their keys.

In:  days, files or rows of any number. Out: batches of bounded size, so that what is held in memory
does not grow with the input; and runs of rows that share a key, such as their day.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")


def chunks(
    sized: Iterable[tuple[T, int]], limit: int, most: int | None = None
) -> Iterator[list[T]]:
    """Cuts things, given with a size each, into consecutive lists whose sizes add up to <= limit.

    What is larger than the limit stands alone; `most` bounds the length of a list.
    """
    chunk: list[T] = []
    total = 0
    for thing, size in sized:
        if chunk and (total + size > limit or len(chunk) == most):
            yield chunk
            chunk, total = [], 0
        chunk.append(thing)
        total += size
    if chunk:
        yield chunk


def runs(
    rows: Iterable[pa.RecordBatch], keys: Sequence[str] = ("day",)
) -> Iterator[tuple[tuple, pa.Table]]:
    """Cuts each batch of rows where one of its key columns (integers or days) changes.

    Yields:
      (keys of the run, its rows). A run that goes on in the next batch comes in several parts.
    """
    for batch in rows:
        if not len(batch):
            continue
        columns = [batch.column(key) for key in keys]
        codes = [column.cast(pa.int32()).to_numpy(zero_copy_only=False) for column in columns]
        changes = np.flatnonzero(np.any([np.diff(code) != 0 for code in codes], axis=0)) + 1
        for start, end in itertools.pairwise([0, *changes.tolist(), len(batch)]):
            key = tuple(column[start].as_py() for column in columns)
            yield key, pa.Table.from_batches([batch.slice(start, end - start)])


def shaped(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the columns of a schema, in its order and its types.

    As `rows.select(schema.names).cast(schema)`, which takes longer than writing a small day: most
    columns have their type already.

    Raises:
      ValueError: a column that may not be null is.
    """
    columns = []
    for field in schema:
        column = rows[field.name]
        if not field.nullable and column.null_count:
            raise ValueError(f"column {field.name} is null in {column.null_count} rows")
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
