"""Streams of several views are cut at the same users, and nothing of them is lost."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from features.store.aligned import aligned

KEYS = st.lists(st.text("aü7", max_size=3), unique=True, max_size=12)


def order(key: str) -> tuple[int, bytes]:
    return len(key.encode()), key.encode()


@given(st.lists(st.tuples(KEYS, st.integers(1, 5)), max_size=4))
def test_each_range_of_keys_comes_once_and_whole_in_order(views: list[tuple[list[str], int]]):
    sent = [sorted(keys, key=order) for keys, _ in views]
    streams = [
        iter(pa.table({"user_id": pa.array(keys, pa.string())}).to_batches(size) if keys else [])
        for keys, (_, size) in zip(sent, views, strict=True)
    ]
    found: list[list[str]] = [[] for _ in views]
    before = (-1, b"")
    for parts in aligned(streams):
        assert parts
        keys = {number: part["user_id"].to_pylist() for number, part in parts.items()}
        places = [order(key) for part in keys.values() for key in part]
        assert min(places) > before
        before = max(places)
        for number, part in keys.items():
            found[number] += part
    assert found == sent
