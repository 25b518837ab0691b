"""Feast's Redis online store, with a vectorised write of Arrow batches.

One hash a user, with the fields that `RedisOnlineStore.online_write_batch` would write, byte for
byte. Unlike it, `online_write_arrow` does not compare event timestamps: the caller decides what to
write, so that a correction with an equal timestamp gets through.

A batch becomes one Arrow binary column of commands in Redis' wire format (RESP), whose buffer is
sent as it lies.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.infra.online_stores import redis
from google.protobuf.timestamp_pb2 import Timestamp
from redis.cluster import RedisCluster

from footpath_feast.feast_private import Progress, clocks, redis_field, versioned_name
from footpath_feast.value_bytes import constant, encode_values, entity_keys, joined


class RedisOnlineStoreConfig(redis.RedisOnlineStoreConfig):
    """Options of Feast's Redis store, under the type of this one."""

    type: Literal["footpath_feast.redis.RedisOnlineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "footpath_feast.redis.RedisOnlineStore"
    )


class RedisOnlineStore(redis.RedisOnlineStore):
    """Feast's Redis online store that also takes Arrow batches."""

    def online_write_arrow(
        self,
        config: RepoConfig,
        table: FeatureView,
        batch: pa.RecordBatch,
        progress: Progress | None = None,
    ) -> None:
        """Sets the fields of every user of one batch; each user's are set in one step.

        Args:
          config: the feature store's.
          table: whose rows they are.
          batch: its entity and timestamp columns, and one column a feature, named after it.
          progress: gets the number of rows once they are written.
        """
        options: Any = config.online_store
        client: Any = self._get_client(options)
        keys, fields = _hashes(config, table, batch)
        if isinstance(client, RedisCluster):
            _set_in_cluster(client, keys, fields, options.key_ttl_seconds)
        else:
            commands = _commands(keys, fields, options.key_ttl_seconds)
            with _connection(client) as connection:
                connection.send_packed_command([commands])
                for _ in range(batch.num_rows * (2 if options.key_ttl_seconds else 1)):
                    connection.read_response()
        if progress:
            progress(batch.num_rows)


Fields = dict[bytes, pa.BinaryArray]


def _hashes(
    config: RepoConfig, table: FeatureView, batch: pa.RecordBatch
) -> tuple[pa.BinaryArray, Fields]:
    """The key of every user's hash, and field -> its value for every user."""
    view = versioned_name(config, table)
    keys = joined(entity_keys(batch, table.entity_columns), constant(config.project.encode()))
    fields = {f"_ts:{view}".encode(): _timestamps(clocks(table, batch)[0])}
    for feature in table.features:
        values = encode_values(batch.column(feature.name), feature.dtype.to_value_type())
        fields[redis_field(view, feature.name)] = values
    return keys, fields


def _commands(keys: pa.BinaryArray, fields: Fields, ttl: int | None) -> pa.Buffer:
    """One HSET command a user, and EXPIRE where keys do, back to back, in RESP."""
    parts: list = [constant(b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * len(fields))), *_bulk(keys)]
    for name, values in fields.items():
        parts += [constant(b"$%d\r\n%s\r\n" % (len(name), name)), *_bulk(values)]
    if ttl:
        seconds = b"%d" % ttl
        parts += [constant(b"*3\r\n$6\r\nEXPIRE\r\n"), *_bulk(keys)]
        parts += [constant(b"$%d\r\n%s\r\n" % (len(seconds), seconds))]
    commands = joined(*parts)
    return commands.buffers()[2].slice(0, pc.sum(pc.binary_length(commands)).as_py())


def _bulk(values: pa.BinaryArray) -> list[pa.Array | pa.Scalar]:
    """The pieces of a bulk string: $<length>, the bytes."""
    lengths = pc.binary_length(values).cast(pa.string()).cast(pa.binary())
    return [constant(b"$"), lengths, constant(b"\r\n"), values, constant(b"\r\n")]


def _timestamps(instants: pa.TimestampArray) -> pa.BinaryArray:
    """Serialized protobuf timestamps, each distinct one made once: days repeat."""
    coded = instants.dictionary_encode()
    distinct = []
    for instant in coded.dictionary.to_pylist():
        message = Timestamp()
        message.FromDatetime(instant)
        distinct.append(message.SerializeToString())
    return pa.array(distinct, pa.binary()).take(coded.indices)


def _set_in_cluster(client: Any, keys: pa.BinaryArray, fields: Fields, ttl: int | None) -> None:
    """Sends each user's hash to the node that holds it, which only the client knows."""
    columns = [values.to_pylist() for values in fields.values()]
    with client.pipeline() as pipe:
        for key, *cells in zip(keys.to_pylist(), *columns, strict=True):
            pipe.hset(key, mapping=dict(zip(fields, cells, strict=True)))
            if ttl:
                pipe.expire(key, ttl)
        pipe.execute()


@contextlib.contextmanager
def _connection(client: Any) -> Iterator[Any]:
    connection = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()  # replies that nobody read must not meet the next command
        raise
    finally:
        client.connection_pool.release(connection)
