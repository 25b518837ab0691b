"""Arrow columns <-> the bytes that Feast writes for them, column by column.

In comes an Arrow batch of one feature view; out come serialized entity keys and `feast.types.Value`
messages as Arrow binary arrays. Feast makes a Python object of every cell, which is what bounds its
writers (3-10 thousand rows a second); here a column costs a few Arrow operations. The bytes are
equal to Feast's, which tests/footpath_feast/test_value_bytes.py holds against Feast itself.

Layout: `ValueProto` is a protobuf oneof, so a value is a tag byte and its payload: a varint for
int64_val, eight little-endian bytes for double_val, a nested packed `FloatList` for
float_list_val. No value (null, or NaN, which Feast takes for null) is an empty message.
"""

import functools
import itertools
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import Field, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values


def entity_keys(batch: pa.RecordBatch, columns: list[Field]) -> pa.BinaryArray:
    """Serializes the entity key of every row, in serialization version 3.

    Raises:
      ValueError: an entity column is neither text nor a 64-bit integer.
    """
    columns = sorted(columns, key=lambda column: column.name)
    parts: list = [constant(serialize_entity_key_prefix([c.name for c in columns], 3))]
    for column in columns:
        kind, values = column.dtype.to_value_type(), batch.column(column.name)
        if kind == ValueType.STRING:
            payload = values.cast(pa.binary())
        elif kind == ValueType.INT64:
            payload = _fixed(_bytes_of(values.to_numpy()))
        else:
            raise ValueError(
                f"entity column {column.name} is {kind.name}, and STRING or INT64 was expected"
            )
        lengths = pc.binary_length(payload).cast(pa.uint32()).to_numpy()
        parts += [constant(struct.pack("<I", kind.value)), _fixed(_bytes_of(lengths)), payload]
    return joined(*parts)


def encode_values(values: pa.Array, kind: ValueType) -> pa.BinaryArray:
    """Serializes every value of a feature; a type without a fast path goes through Feast's own."""
    if (kind, values.type) in ((ValueType.INT64, pa.int64()), (ValueType.STRING, pa.string())):
        return _encode_distinct(values, f"{kind.name.lower()}_val")
    if (kind, values.type) == (ValueType.DOUBLE, pa.float64()):
        encoded = _encode_doubles(values.fill_null(0.0))
    elif kind == ValueType.FLOAT_LIST and pa.types.is_fixed_size_list(values.type):
        encoded = _encode_vectors(values.cast(pa.list_(pa.float32(), values.type.list_size)))
    else:
        rows = python_values_to_proto_values(values.to_numpy(zero_copy_only=False), kind)
        return pa.array([row.SerializeToString() for row in rows], pa.binary())
    return pc.if_else(values.is_null(nan_is_null=True), constant(b""), encoded)


def decode_columns(columns: list[Sequence[bytes | None]], kinds: list[ValueType]) -> list[list]:
    """Python values of columns of one length, as Feast gives them; None for what is not there.

    All columns of one kind of scalar are decoded at once, for there are many, and often few users.
    """
    rows = len(columns[0]) if columns else 0
    groups: dict[ValueType | int, list[int]] = {}
    for number, kind in enumerate(kinds):
        groups.setdefault(number if kind.name.endswith("_LIST") else kind, []).append(number)
    decoded: list[list] = [[]] * len(columns)
    for numbers in groups.values():
        cells = list(itertools.chain.from_iterable(columns[number] for number in numbers))
        values = _decode_values(cells, kinds[numbers[0]])
        for place, number in enumerate(numbers):
            decoded[number] = values[place * rows : (place + 1) * rows]
    return decoded


def _decode_values(cells: list[bytes | None], kind: ValueType) -> list:
    if kind == ValueType.INT64:
        return [_integer(cell) if cell else None for cell in cells]
    present = [cell for cell in cells if cell]
    values = _decode_fixed(present, kind)
    if values is None:  # texts and rare types: each distinct value once
        decoded = {
            c: feast_value_type_to_python_type(Value.FromString(c), kind) for c in {*present}
        }
        return [decoded[cell] if cell else None for cell in cells]
    if len(present) == len(cells):
        return values
    following = iter(values)
    return [next(following) if cell else None for cell in cells]


@functools.lru_cache(1 << 16)
def _integer(cell: bytes) -> Any:
    return feast_value_type_to_python_type(Value.FromString(cell), ValueType.INT64)


def _decode_fixed(cells: list[bytes], kind: ValueType) -> list | None:
    """Numbers or vectors that lie at one place in cells of one length, else None."""
    if kind not in (ValueType.DOUBLE, ValueType.FLOAT_LIST) or not cells:
        return None
    message, width = Value.FromString(cells[0]), len(cells[0])
    if {*map(len, cells)} != {width}:
        return None
    rows = np.frombuffer(b"".join(cells), np.uint8).reshape(len(cells), width)
    payload = width - (8 if kind == ValueType.DOUBLE else 4 * len(message.float_list_val.val))
    head = np.frombuffer(cells[0][:payload], np.uint8)
    if payload == width or (rows[:, :payload] != head).any():
        return None
    numbers = np.ascontiguousarray(rows[:, payload:])
    return numbers.view("<f8").ravel().tolist() if payload == 1 else numbers.view("<f4").tolist()


def constant(value: bytes) -> pa.BinaryScalar:
    """A value that stands in every row."""
    return pa.scalar(value, pa.binary())


def joined(*parts: pa.Array | pa.Scalar) -> pa.BinaryArray:
    """Concatenates the parts, row by row."""
    return pc.binary_join_element_wise(*parts, constant(b""))


def _encode_distinct(values: pa.Array, field: str) -> pa.BinaryArray:
    """Serializes each distinct integer or text once: counts and names repeat."""
    coded = values.dictionary_encode()
    distinct = [Value(**{field: n}).SerializeToString() for n in coded.dictionary.to_pylist()]
    return pa.array(distinct, pa.binary()).take(coded.indices).fill_null(constant(b""))


def _encode_doubles(values: pa.DoubleArray) -> pa.BinaryArray:
    tag = np.frombuffer(Value(double_val=1.0).SerializeToString()[:1], np.uint8)
    payload = _bytes_of(values.to_numpy(zero_copy_only=False))
    return _fixed(np.hstack([np.broadcast_to(tag, (len(values), 1)), payload]))


def _encode_vectors(values: pa.FixedSizeListArray) -> pa.BinaryArray:
    dim = values.type.list_size
    zeros = Value(float_list_val=FloatList(val=[0.0] * dim)).SerializeToString()
    head = np.frombuffer(zeros[: len(zeros) - 4 * dim], np.uint8)
    flat = values.fill_null([0.0] * dim) if values.null_count else values
    payload = _bytes_of(flat.flatten().to_numpy()).reshape(len(values), 4 * dim)
    return _fixed(np.hstack([np.broadcast_to(head, (len(values), len(head))), payload]))


def _bytes_of(numbers: np.ndarray) -> np.ndarray:
    """The numbers as uint8[n, itemsize], little-endian."""
    little = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(little), little.itemsize)


def _fixed(rows: np.ndarray) -> pa.BinaryArray:
    """The rows of uint8[n, width] as binary values, without a copy per row."""
    width = rows.shape[1]
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, buffer]).cast(pa.binary())
