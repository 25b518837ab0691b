"""The vectorised encoding gives the bytes that Feast's own gives."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.store.encode import encode_values, entity_keys
from features.store.view_specs import Column

INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLE = st.floats(allow_nan=True, allow_infinity=True, width=64)
VECTOR = st.lists(st.floats(width=32, allow_nan=True), min_size=3, max_size=3)


def feast_bytes(values: pa.Array, value_type: str) -> list[bytes]:
    from feast import ValueType
    from feast.type_map import python_values_to_proto_values

    rows = values.to_numpy(zero_copy_only=False)
    protos = python_values_to_proto_values(rows, ValueType[value_type])
    return [proto.SerializeToString() for proto in protos]


@given(st.lists(INT64, min_size=1, max_size=30))
@settings(deadline=None)
def test_integers_are_serialised_as_feast_does(numbers: list[int]):
    values = pa.array(numbers, pa.int64())
    ours = encode_values(values, Column("n", "n", "int64"))
    assert ours.to_pylist() == feast_bytes(values, "INT64")


@given(st.lists(st.none() | st.integers(0, 2**40), min_size=1, max_size=30))
@settings(deadline=None)
def test_a_missing_integer_is_an_empty_value(numbers: list[int | None]):
    values = pa.array(numbers, pa.int64())
    ours = encode_values(values, Column("n", "n", "int64"))
    assert ours.to_pylist() == feast_bytes(values, "INT64")


@given(st.lists(st.text(), min_size=1, max_size=30))
@settings(deadline=None)
def test_texts_are_serialised_as_feast_does(texts: list[str]):
    values = pa.array(texts, pa.string())
    ours = encode_values(values, Column("t", "t", "string"))
    assert ours.to_pylist() == feast_bytes(values, "STRING")


@given(st.lists(st.none() | DOUBLE, min_size=1, max_size=30))
@settings(deadline=None)
def test_doubles_are_serialised_as_feast_does(numbers: list[float | None]):
    values = pa.array(numbers, pa.float64())
    ours = encode_values(values, Column("x", "x", "float64"))
    assert ours.to_pylist() == feast_bytes(values, "DOUBLE")


@given(st.lists(st.none() | VECTOR, min_size=1, max_size=10), st.integers(0, 3))
@settings(deadline=None)
def test_vectors_are_serialised_as_feast_does(vectors: list, offset: int):
    values = pa.array(vectors, pa.list_(pa.float32(), 3))[min(offset, len(vectors) - 1) :]
    ours = encode_values(values, Column("v", "v", "float32[3]"))
    assert ours.to_pylist() == feast_bytes(values, "FLOAT_LIST")


def test_a_long_vector_has_a_length_of_two_bytes():
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(512, dtype=np.float32)), 256)
    ours = encode_values(values, Column("v", "v", "float32[256]"))
    assert ours.to_pylist() == feast_bytes(values, "FLOAT_LIST")


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
@settings(deadline=None)
def test_entity_keys_are_serialised_as_feast_does(users: list[str]):
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    expected = [
        serialize_entity_key(
            EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)]), 3
        )
        for user in users
    ]
    assert entity_keys(pa.array(users), "user_id").to_pylist() == expected
