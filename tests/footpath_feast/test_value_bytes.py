"""The vectorised encoding gives the bytes that Feast's own gives."""

import numpy as np
import pyarrow as pa
import pytest
from feast import Field, ValueType
from feast.types import Float64, Int64, String
from hypothesis import given
from hypothesis import strategies as st

from footpath_feast.value_bytes import encode_values, entity_keys

INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLE = st.floats(allow_nan=True, allow_infinity=True, width=64)
VECTOR = st.lists(st.floats(width=32, allow_nan=True), min_size=3, max_size=3)


def feast_bytes(values: pa.Array, value_type: str) -> list[bytes]:
    from feast.type_map import python_values_to_proto_values

    rows = values.to_numpy(zero_copy_only=False)
    protos = python_values_to_proto_values(rows, ValueType[value_type])
    return [proto.SerializeToString() for proto in protos]


@given(st.lists(INT64, min_size=1, max_size=30))
def test_integers_are_serialized_as_feast_does(numbers: list[int]):
    values = pa.array(numbers, pa.int64())
    ours = encode_values(values, ValueType.INT64)
    assert ours.to_pylist() == feast_bytes(values, "INT64")


@given(st.lists(st.none() | st.integers(0, 2**40), min_size=1, max_size=30))
def test_a_missing_integer_is_an_empty_value(numbers: list[int | None]):
    values = pa.array(numbers, pa.int64())
    ours = encode_values(values, ValueType.INT64)
    assert ours.to_pylist() == feast_bytes(values, "INT64")


@given(st.lists(st.text(), min_size=1, max_size=30))
def test_texts_are_serialized_as_feast_does(texts: list[str]):
    values = pa.array(texts, pa.string())
    ours = encode_values(values, ValueType.STRING)
    assert ours.to_pylist() == feast_bytes(values, "STRING")


@given(st.lists(st.none() | DOUBLE, min_size=1, max_size=30))
def test_doubles_are_serialized_as_feast_does(numbers: list[float | None]):
    values = pa.array(numbers, pa.float64())
    ours = encode_values(values, ValueType.DOUBLE)
    assert ours.to_pylist() == feast_bytes(values, "DOUBLE")


@given(st.lists(st.none() | VECTOR, min_size=1, max_size=10), st.integers(0, 3))
def test_vectors_are_serialized_as_feast_does(vectors: list, offset: int):
    values = pa.array(vectors, pa.list_(pa.float32(), 3))[min(offset, len(vectors) - 1) :]
    ours = encode_values(values, ValueType.FLOAT_LIST)
    assert ours.to_pylist() == feast_bytes(values, "FLOAT_LIST")


def test_a_long_vector_has_a_length_of_two_bytes():
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(512, dtype=np.float32)), 256)
    ours = encode_values(values, ValueType.FLOAT_LIST)
    assert ours.to_pylist() == feast_bytes(values, "FLOAT_LIST")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1, None, 3], pa.int32()), "INT32"),
        (pa.array([1, 2, 3], pa.int32()), "INT64"),
        (pa.array([0.5, None, 0.1], pa.float32()), "FLOAT"),
        (pa.array([True, None, False]), "BOOL"),
        (pa.array([b"a", None, b""]), "BYTES"),
        (pa.array([["a"], None, ["b", "c"]]), "STRING_LIST"),
    ],
)
def test_any_other_type_is_serialized_as_feast_does(values: pa.Array, kind: str):
    assert encode_values(values, ValueType[kind]).to_pylist() == feast_bytes(values, kind)


def feast_keys(batch: pa.RecordBatch) -> list[bytes]:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    fields = {"user": "string_val", "shop": "int64_val"}
    keys = [
        EntityKey(
            join_keys=list(row),
            entity_values=[Value(**{fields[name]: value}) for name, value in row.items()],
        )
        for row in batch.to_pylist()
    ]
    return [serialize_entity_key(key, 3) for key in keys]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
def test_entity_keys_are_serialized_as_feast_does(users: list[str]):
    batch = pa.record_batch({"user": users})
    assert entity_keys(batch, [Field(name="user", dtype=String)]).to_pylist() == feast_keys(batch)


@given(st.lists(st.tuples(st.text(max_size=9), INT64), min_size=1, max_size=20))
def test_keys_of_several_columns_are_serialized_as_feast_does(rows: list[tuple[str, int]]):
    users, shops = zip(*rows, strict=True)
    batch = pa.record_batch({"user": list(users), "shop": pa.array(shops, pa.int64())})
    columns = [Field(name="user", dtype=String), Field(name="shop", dtype=Int64)]
    assert entity_keys(batch, columns).to_pylist() == feast_keys(batch)


def test_an_entity_that_is_neither_text_nor_integer_is_refused():
    with pytest.raises(ValueError, match="entity column x is DOUBLE, and STRING or INT64"):
        entity_keys(pa.record_batch({"x": [1.5]}), [Field(name="x", dtype=Float64)])
