"""Writes encoded feature rows to Feast's Redis online store.

One hash a user, with the fields that `RedisOnlineStore.online_write_batch` would write, byte for
byte. Unlike Feast's, this writer does not compare event timestamps: what to write was decided
before, by (event_timestamp, created), so that a correction with an equal timestamp gets through.

A batch becomes one Arrow binary column of HSET commands in Redis' wire format (RESP), whose buffer
is sent as it lies.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from features.store.encode import Encoded, constant, joined
from features.store.view_specs import View

if TYPE_CHECKING:
    from feast import FeatureStore


class RedisSink:
    """One client of the store's server, as Feast configures it."""

    def __init__(self, store: "FeatureStore") -> None:
        from feast.infra.online_stores.redis import RedisOnlineStore

        config: Any = store.config.online_store
        if config.key_ttl_seconds:
            raise FootpathError(
                "feature_store.yaml sets key_ttl_seconds, and a user who expired would never be "
                "written again, for only changes are: remove it"
            )
        self._project = store.project
        self._client: Any = RedisOnlineStore()._get_client(config)

    def token(self) -> str | None:
        """Returns the mark that `set_token` left, or None in a new store."""
        with self._explained():
            token = self._client.get(self._token_key)
        return token.decode() if token else None

    def set_token(self, token: str) -> None:
        """Marks the store, so that a flushed one is told from it."""
        with self._explained():
            self._client.set(self._token_key, token)

    def write(self, encoded: Encoded, view: View) -> None:
        """Sets the fields of every user of one batch; each user's are set in one step."""
        commands = hset_commands(encoded, view, self._project)
        with self._explained(), self._connection() as connection:
            connection.send_packed_command([commands])
            for _ in range(encoded.batch.num_rows):
                connection.read_response()

    def close(self) -> None:
        """Closes all connections."""
        self._client.close()

    @property
    def _token_key(self) -> str:
        return f"footpath:{self._project}:token"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self._client.connection_pool.get_connection()
        try:
            yield connection
        except BaseException:
            connection.disconnect()  # replies that nobody read must not meet the next command
            raise
        finally:
            self._client.connection_pool.release(connection)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns a fault of the server into one sentence."""
        from redis import RedisError

        try:
            yield
        except RedisError as error:
            settings = self._client.connection_pool.connection_kwargs
            raise FootpathError(
                f"Redis at {settings.get('host')}:{settings.get('port')} refused: "
                f"{str(error).rstrip('.')}; mend it and materialize again, nothing is lost"
            ) from error


def hset_commands(encoded: Encoded, view: View, project: str) -> pa.Buffer:
    """Returns one HSET command a user, back to back, in RESP."""
    from feast.infra.online_stores.helpers import _mmh3

    keys = joined(encoded.keys, constant(project.encode()))
    fields = [(f"_ts:{view.name}".encode(), _timestamps(encoded.batch.column("event_timestamp")))]
    fields += [(_mmh3(f"{view.name}:{c.name}"), encoded.values[c.name]) for c in view.columns]
    parts = [constant(b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * len(fields))), *_bulk(keys)]
    for name, values in fields:
        parts += [constant(b"$%d\r\n%s\r\n" % (len(name), name)), *_bulk(values)]
    commands = joined(*parts)
    return commands.buffers()[2].slice(0, pc.sum(pc.binary_length(commands)).as_py())


def _bulk(values: pa.BinaryArray) -> list[pa.Array | pa.Scalar]:
    """Returns the pieces of a bulk string: $<length>, the bytes."""
    lengths = pc.binary_length(values).cast(pa.string()).cast(pa.binary())
    return [constant(b"$"), lengths, constant(b"\r\n"), values, constant(b"\r\n")]


def _timestamps(instants: pa.TimestampArray) -> pa.BinaryArray:
    """Returns serialised protobuf timestamps, each distinct one made once: days repeat."""
    from google.protobuf.timestamp_pb2 import Timestamp

    coded = instants.dictionary_encode()
    distinct = []
    for instant in coded.dictionary.to_pylist():
        message = Timestamp()
        message.FromDatetime(instant)
        distinct.append(message.SerializeToString())
    return pa.array(distinct, pa.binary()).take(coded.indices)
