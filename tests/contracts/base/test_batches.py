"""Batches are bounded and lose nothing, whatever the sizes; runs share their keys."""

import datetime as dt
import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.base.batches import chunks, runs, shaped

SIZED = st.lists(st.tuples(st.text(max_size=2), st.integers(0, 9)), max_size=20)
KEYS = st.lists(st.tuples(st.integers(0, 2), st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 2))))


@given(sized=SIZED, limit=st.integers(1, 12), most=st.none() | st.integers(1, 4))
def test_chunks_keep_the_order_and_are_as_large_as_they_may_be(sized, limit, most):
    found = list(chunks([(pair, pair[1]) for pair in sized], limit, most))
    assert list(itertools.chain(*found)) == sized
    for chunk in found:
        assert len(chunk) == 1 or sum(size for _, size in chunk) <= limit
        assert most is None or len(chunk) <= most
    for chunk, after in itertools.pairwise(found):
        is_full = most is not None and len(chunk) == most
        assert is_full or sum(size for _, size in [*chunk, after[0]]) > limit


@given(keys=KEYS, cut=st.integers(1, 5))
def test_runs_share_their_keys_and_lose_no_row(keys, cut):
    files, days = [key[0] for key in keys], [key[1] for key in keys]
    table = pa.table({"file": pa.array(files, pa.int32()), "day": pa.array(days, pa.date32())})
    found = list(runs(table.to_batches(cut), ("file", "day")))
    rows = [(key, row) for key, part in found for row in part.to_pylist()]
    assert [key for key, _ in rows] == keys
    assert [(row["file"], row["day"]) for _, row in rows] == keys
    assert all(len(part) for _, part in found)


def test_shaped_rows_are_those_of_a_cast_and_nulls_are_refused_where_there_may_be_none():
    schema = pa.schema([pa.field("n", pa.int64()), pa.field("key", pa.string(), nullable=False)])
    rows = pa.table({"more": [1, 2], "key": ["a", "b"], "n": pa.array([1, None], pa.int32())})
    found = shaped(rows, schema)
    assert found.schema == schema
    assert found.equals(rows.select(["n", "key"]).cast(schema))
    with pytest.raises(ValueError, match="column key is null in 1 rows"):
        shaped(pa.table({"n": [1], "key": pa.array([None], pa.string())}), schema)
