"""Feature rows -> the bytes that Feast would write for them, column by column.

In comes an Arrow batch of one view; out come serialised entity keys and `feast.types.Value`
messages as Arrow binary arrays. Feast makes a Python object of every cell, which is what bounds its
writers (3-10 thousand rows a second); here a column costs a few Arrow operations. The bytes are
equal to Feast's, which tests/features/store/test_store_encode.py holds against Feast itself.

Layout: `ValueProto` is a protobuf oneof, so a value is a tag byte and its payload: a varint for
int64_val, eight little-endian bytes for double_val, a nested packed `FloatList` for
float_list_val. No value (null, or NaN, which Feast takes for null) is an empty message.
"""

import struct
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.store.view_specs import Column, View


@dataclass(frozen=True)
class Encoded:
    """One batch, ready to write: arrays of equal length, one entry a user."""

    batch: pa.RecordBatch
    keys: pa.BinaryArray
    values: dict[str, pa.BinaryArray]  # feature -> serialised ValueProto


def encode(batch: pa.RecordBatch, view: View, join_key: str) -> Encoded:
    """Serialises the features of a batch whose columns are named after them."""
    return Encoded(
        batch=batch,
        keys=entity_keys(batch.column(join_key), join_key),
        values={c.name: encode_values(batch.column(c.name), c) for c in view.columns},
    )


def entity_keys(users: pa.StringArray, join_key: str) -> pa.BinaryArray:
    """Returns Feast's entity keys, serialisation version 3, for one string join key."""
    from feast.protos.feast.types.Value_pb2 import ValueType

    name = join_key.encode()
    head = struct.pack("<III", 1, ValueType.STRING, len(name)) + name
    head += struct.pack("<I", ValueType.STRING)
    text = users.cast(pa.binary())
    lengths = pc.binary_length(text).cast(pa.uint32())
    return joined(constant(head), _fixed(_bytes_of(lengths.to_numpy())), text)


def encode_values(values: pa.Array, column: Column) -> pa.BinaryArray:
    """Returns the serialised ValueProto of every value."""
    if column.kind in ("int64", "string"):
        return _encode_distinct(values, f"{column.kind}_val")
    missing = values.is_null(nan_is_null=True)
    if column.kind == "float64":
        encoded = _encode_doubles(values.fill_null(0.0))
    else:
        encoded = _encode_vectors(values)
    return pc.if_else(missing, constant(b""), encoded)


def constant(value: bytes) -> pa.BinaryScalar:
    """Returns a value that stands in every row. Not made at import: that would load pandas."""
    return pa.scalar(value, pa.binary())


def joined(*parts: pa.Array | pa.Scalar) -> pa.BinaryArray:
    """Returns the concatenation of the parts, row by row."""
    return pc.binary_join_element_wise(*parts, constant(b""))


def _encode_distinct(values: pa.Array, field: str) -> pa.BinaryArray:
    """Serialises each distinct integer or text once: counts and names repeat."""
    from feast.protos.feast.types.Value_pb2 import Value

    coded = values.dictionary_encode()
    distinct = [Value(**{field: n}).SerializeToString() for n in coded.dictionary.to_pylist()]
    return pa.array(distinct, pa.binary()).take(coded.indices).fill_null(constant(b""))


def _encode_doubles(values: pa.DoubleArray) -> pa.BinaryArray:
    from feast.protos.feast.types.Value_pb2 import Value

    tag = np.frombuffer(Value(double_val=1.0).SerializeToString()[:1], np.uint8)
    payload = _bytes_of(values.to_numpy(zero_copy_only=False))
    return _fixed(np.hstack([np.broadcast_to(tag, (len(values), 1)), payload]))


def _encode_vectors(values: pa.FixedSizeListArray) -> pa.BinaryArray:
    from feast.protos.feast.types.Value_pb2 import FloatList, Value

    dim = values.type.list_size
    zeros = Value(float_list_val=FloatList(val=[0.0] * dim)).SerializeToString()
    head = np.frombuffer(zeros[: len(zeros) - 4 * dim], np.uint8)
    flat = values.fill_null([0.0] * dim) if values.null_count else values
    payload = _bytes_of(flat.flatten().to_numpy()).reshape(len(values), 4 * dim)
    return _fixed(np.hstack([np.broadcast_to(head, (len(values), len(head))), payload]))


def _bytes_of(numbers: np.ndarray) -> np.ndarray:
    """Returns uint8[n, itemsize], little-endian."""
    little = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(little), little.itemsize)


def _fixed(rows: np.ndarray) -> pa.BinaryArray:
    """Returns the rows of uint8[n, width] as binary values, without a copy per row."""
    width = rows.shape[1]
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, buffer]).cast(pa.binary())
