"""Feast's Redis online store, with vectorized writes of Arrow batches and ordered reads.

One hash a user, with the fields that `RedisOnlineStore.online_write_batch` would write, byte for
byte. Unlike it, `online_write_arrow` does not compare event timestamps: the caller decides what to
write, so that a correction with an equal timestamp gets through.

A batch becomes one Arrow binary column of commands in Redis' wire format (RESP), whose buffer is
sent as it lies: one HSET a user, with the fields of all views. A read asks one HMGET a user for
the fields of all views.
"""

import contextlib
import datetime as dt
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.infra.online_stores import redis
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from footpath_feast.feast_private import (
    Batches,
    Progress,
    clocks,
    redis_field,
    serialized_keys,
    versioned_name,
)
from footpath_feast.ordered_reads import OrderedReads, ViewCells
from footpath_feast.value_bytes import constant, encode_values, entity_keys, joined


class RedisOnlineStoreConfig(redis.RedisOnlineStoreConfig):
    """Options of Feast's Redis store, under the type of this one."""

    type: Literal["footpath_feast.redis.RedisOnlineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "footpath_feast.redis.RedisOnlineStore"
    )


class RedisOnlineStore(OrderedReads, redis.RedisOnlineStore):
    """Feast's Redis online store that takes Arrow batches and reads in order."""

    _absent = FieldStatus.PRESENT  # Feast's Redis store tells no missing user from a missing value

    def online_write_arrow(
        self,
        config: RepoConfig,
        batches: Batches,
        progress: Progress | None = None,
    ) -> None:
        """Sets the fields of every user of some batches; each user's are set in one step.

        Args:
          config: the feature store's.
          batches: views keyed alike, and a batch of each: its entity and timestamp columns, and
            one column a feature, named after it.
          progress: gets the number of rows once they are written.
        """
        options: Any = config.online_store
        client: Any = self._get_client(options)
        hashes = [_hashes(config, table, batch) for table, batch in batches]
        if isinstance(client, RedisCluster):
            _set_in_cluster(client, hashes, options.key_ttl_seconds)
        elif hashes:
            commands, replies = _commands(hashes, options.key_ttl_seconds)
            with _connection(client) as connection:
                connection.send_packed_command([commands])
                for _ in range(replies):
                    connection.read_response()
        if progress:
            progress(sum(batch.num_rows for _, batch in batches))

    def online_delete(
        self, config: RepoConfig, tables: Sequence[FeatureView], keys: dict[str, list[Value]]
    ) -> int:
        """Deletes the hashes of some entities, and has the server write its files without them.

        Args:
          config: the feature store's.
          tables: views; all of them lie in one hash.
          keys: the values of the join keys, a value an entity.

        Returns:
          How many entities had a row.
        """
        options: Any = config.online_store
        client: Any = self._get_client(options)
        project, deleted = config.project.encode(), 0
        for key in serialized_keys(config, keys) if tables else ():
            deleted += client.delete(key + project)
        with contextlib.suppress(ResponseError):  # it writes already, or does not let us ask
            client.bgrewriteaof()
        with contextlib.suppress(ResponseError):
            client.bgsave()
        return deleted

    def _read_cells(
        self, config: RepoConfig, views: list[tuple[FeatureView, list[str]]], keys: list[bytes]
    ) -> list[ViewCells]:
        """Reads all views of a user in one step, and all users in one round trip."""
        fields: tuple[bytes, ...] = ()
        for table, features in views:
            fields += _fields(versioned_name(config, table), tuple(features))
        project = config.project.encode()
        rows = self._hmget(config, [key + project for key in keys], fields)
        columns = iter(zip(*rows, strict=True))
        found = []
        for _, features in views:
            instants = [_instant(cell or b"") for cell in next(columns)]
            found.append(ViewCells(instants, list(itertools.islice(columns, len(features)))))
        return found

    def _hmget(
        self, config: RepoConfig, keys: list[bytes], fields: tuple[bytes, ...]
    ) -> Sequence[Sequence[Any]]:
        options: Any = config.online_store
        if options.client != redis.RedisClient.redis or options.redis_type == "redis_cluster":
            commands: list = [(key, list(fields)) for key in keys]
            return self._read_hash_fields(config, commands)
        head, tail = _around_key(fields)
        commands = [b"%s$%d\r\n%s\r\n%s" % (head, len(key), key, tail) for key in keys]
        with _connection(self._get_client(options)) as connection:
            connection.send_packed_command([b"".join(commands)])
            return [connection.read_response() for _ in keys]


Hashes = tuple[pa.BinaryArray, dict[bytes, pa.BinaryArray]]


def _hashes(config: RepoConfig, table: FeatureView, batch: pa.RecordBatch) -> Hashes:
    """The key of every user's hash, and field -> its value for every user."""
    names = tuple(feature.name for feature in table.features)
    clock, *features = _fields(versioned_name(config, table), names)
    keys = joined(entity_keys(batch, table.entity_columns), constant(config.project.encode()))
    fields = {clock: _timestamps(clocks(table, batch)[0])}
    for field, feature in zip(features, table.features, strict=True):
        fields[field] = encode_values(batch.column(feature.name), feature.dtype.to_value_type())
    return keys, fields


def _commands(hashes: list[Hashes], ttl: int | None) -> tuple[pa.Buffer, int]:
    """One HSET command a user, and EXPIRE where keys do, back to back, in RESP; and the replies.

    A user whom only some of the views have a row of gets the fields of those.
    """
    keys = pc.unique(pa.concat_arrays([of for of, _ in hashes]))
    words, pieces = np.full(len(keys), 2), []
    for of, fields in hashes:
        named = [(constant(b"$%d\r\n%s\r\n" % (len(n), n)), *_bulk(v)) for n, v in fields.items()]
        rows = pc.index_in(keys, of)
        words += np.where(rows.is_valid().to_numpy(zero_copy_only=False), 2 * len(fields), 0)
        pieces.append(joined(*itertools.chain(*named)).take(rows).fill_null(constant(b"")))
    counts = pa.array(words).cast(pa.string()).cast(pa.binary())
    parts: list = [constant(b"*"), counts, constant(b"\r\n$4\r\nHSET\r\n"), *_bulk(keys), *pieces]
    if ttl:
        seconds = b"%d" % ttl
        parts += [constant(b"*3\r\n$6\r\nEXPIRE\r\n"), *_bulk(keys)]
        parts += [constant(b"$%d\r\n%s\r\n" % (len(seconds), seconds))]
    commands = joined(*parts)
    length = pc.sum(pc.binary_length(commands)).as_py() or 0
    return commands.buffers()[2].slice(0, length), len(keys) * (2 if ttl else 1)


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


@functools.lru_cache(1024)
def _fields(view: str, features: tuple[str, ...]) -> tuple[bytes, ...]:
    """Fields of a user's hash that hold a view's timestamp and features."""
    return f"_ts:{view}".encode(), *(redis_field(view, feature) for feature in features)


@functools.lru_cache(1024)
def _around_key(fields: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """What stands before and after the key in an HMGET of these fields, in RESP."""
    tail = b"".join(b"$%d\r\n%s\r\n" % (len(field), field) for field in fields)
    return b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields)), tail


@functools.lru_cache(1024)
def _instant(stored: bytes) -> dt.datetime:
    """What Feast takes a stored timestamp for; the epoch where none is stored."""
    message = Timestamp.FromString(stored)
    return dt.datetime.fromtimestamp(message.seconds + message.nanos / 1_000_000_000, dt.UTC)


def _set_in_cluster(client: Any, hashes: list[Hashes], ttl: int | None) -> None:
    """Sends each user's hash to the node that holds it, which only the client knows."""
    users: dict[bytes, dict[bytes, bytes]] = {}
    for keys, fields in hashes:
        columns = [values.to_pylist() for values in fields.values()]
        for key, *cells in zip(keys.to_pylist(), *columns, strict=True):
            users.setdefault(key, {}).update(zip(fields, cells, strict=True))
    with client.pipeline() as pipe:
        for key, cells in users.items():
            pipe.hset(key, mapping=cells)
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
