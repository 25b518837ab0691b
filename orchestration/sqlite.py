"""Dagster's runs and events in SQLite, the events of many partitions in one transaction.

Named in `deploy/dagster.yaml`, so that every process that opens the instance takes it.

A run over a range plans, materializes and checks each of its days, an event each. Dagster's own
storage opens two databases for every event, prepares its statements anew and waits for the disk:
half of the time of a year of small days. Dagster hands over what it plans and materializes as
batches; what it does not, checks above all, whoever records it holds together (`stored_together`).
"""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import dagster as dg
import sqlalchemy as sql
from sqlalchemy.pool import NullPool

from orchestration.dagster_private import (
    BUSY_TIMEOUT_SECONDS,
    INDEX_SHARD,
    EventLogSqlite,
    StorageSqlite,
    event_logs_directory,
)

BATCHED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
BATCH_EVENTS = 1000

# Databases that stay prepared: the index, and those of the runs that were written or read last.
MOST_ENGINES = 8


def store_in_batches() -> None:
    """Makes Dagster hand over events of many partitions together; it asks the environment."""
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_EVENTS))


@contextmanager
def stored_together(instance: dg.DagsterInstance) -> Iterator[None]:
    """Stores what a step records within in few transactions, where the storage is `SqliteEventLog`.

    All of it is stored when the block ends, be it by an error; who is killed has recorded nothing
    of the last transaction.
    """
    log = instance.event_log_storage
    with log.holding() if isinstance(log, SqliteEventLog) else nullcontext():
        yield


class SqliteEventLog(EventLogSqlite):
    """Dagster's event log in SQLite, with its databases kept prepared and batches stored whole."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._lock = threading.RLock()
        self._engines: OrderedDict[str, sql.Engine] = OrderedDict()
        self._open: dict[str, sql.Connection] = {}
        self._held: list[dg.EventLogEntry] | None = None
        super().__init__(base_dir, inst_data)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Holds back events that partitions are recorded by, and stores them together."""
        self._held = []
        try:
            yield
        finally:
            self._store_held()
            self._held = None

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Stores an event, or holds it back; what was held is stored before any other."""
        with self._lock:
            if self._held is None or not _is_batched(event):
                self._store_held()
                super().store_event(event)
                return
            self._held.append(event)
            if len(self._held) == BATCH_EVENTS:
                self._store_held()

    def _store_held(self) -> None:
        with self._lock:
            if self._held:
                held, self._held = self._held, []
                self.store_event_batch(held)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Stores events, those of a run that plan or record partitions in one transaction."""
        self._store_held()
        alike = itertools.groupby(events, key=lambda event: (event.run_id, _is_batched(event)))
        for (_, is_batched), found in alike:
            part = list(found)
            if is_batched:
                self._store_batch(part)
            else:
                for event in part:
                    self.store_event(event)

    def _store_batch(self, events: list[dg.EventLogEntry]) -> None:
        inserts = [self.prepare_insert_event(event) for event in events]
        with self.run_connection(events[0].run_id) as connection:
            for insert in inserts:
                connection.execute(insert)
        with self.index_transaction() as connection:
            ids = [_number(connection.execute(insert)) for insert in inserts]
            numbered = list(zip(events, ids, strict=True))
            for event, number in numbered:
                if _is_check(event):
                    self.store_asset_check_event(event, number)
            of_assets = [each for each in numbered if not _is_check(each[0])]
            if of_assets:
                self._store_asset_event_tags(connection, *zip(*of_assets, strict=True))
            # An asset knows its last event alone.
            last = {event.get_dagster_event().asset_key: (event, n) for event, n in of_assets}
            for event, number in last.values():
                self._store_asset_event(connection, event, number)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sql.Connection]:
        with self._lock:
            if shard in self._open:  # a part of the transaction that is under way
                yield self._open[shard]
                return
            with self._engine(shard).connect() as connection, connection.begin():
                self._open[shard] = connection
                try:
                    yield connection
                finally:
                    del self._open[shard]

    def _engine(self, shard: str) -> sql.Engine:
        """Engine of a run's database or of the index, with the statements it has prepared."""
        if shard in self._initialized_dbs and shard in self._engines:
            self._engines.move_to_end(shard)
            return self._engines[shard]
        if known := self._engines.pop(shard, None):
            known.dispose()
        # A run's database is closed each time: that writes it out, and whoever watches it is told.
        pool = {} if shard == INDEX_SHARD else {"poolclass": NullPool}
        wait = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        engine = sql.create_engine(self.conn_string_for_shard(shard), connect_args=wait, **pool)
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        self._engines[shard] = engine
        while len(self._engines) > MOST_ENGINES:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def dispose(self) -> None:
        """Closes what is open."""
        super().dispose()
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


class SqliteStorage(StorageSqlite):
    """Dagster's storage in SQLite, with `SqliteEventLog`."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = SqliteEventLog(event_logs_directory(base_dir))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        """Storage of a `dagster.yaml`."""
        store_in_batches()
        return cls.from_local(inst_data=inst_data, **config_value)


def _is_batched(event: dg.EventLogEntry) -> bool:
    return event.dagster_event_type in BATCHED


def _is_check(event: dg.EventLogEntry) -> bool:
    return event.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION


def _number(inserted: sql.CursorResult) -> int:
    assert inserted.inserted_primary_key, "SQLite numbers every row"
    return inserted.inserted_primary_key[0]
