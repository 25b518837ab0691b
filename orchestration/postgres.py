"""Dagster's runs and events in PostgreSQL, with the driver that Dagster is written for.

Named in `deploy/dagster.postgres.yaml`, so that every process that opens the instance takes it.
"""

import re
from typing import Any

from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from sqlalchemy.exc import IntegrityError, InternalError

from orchestration.sqlite import store_in_batches


class PostgresEventLog(PostgresEventLogStorage):
    """Dagster's event log in PostgreSQL, in which a pool can follow a changed default limit."""

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Gives a pool the default limit, where it has none of its own.

        Dagster inserts its row, and updates it in the same transaction if it was there: PostgreSQL
        refuses whatever follows a statement that failed.
        """
        limits = {limit.name: limit for limit in self.get_pool_limits()}
        if known := limits.get(concurrency_key):
            default = self._instance.global_op_concurrency_default_limit
            if not known.from_default or known.limit == default:
                return True
            self.delete_concurrency_limit(concurrency_key)
        try:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        except (IntegrityError, InternalError):
            return True  # another process was first


class PostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage that takes `postgresql://` as psycopg2's.

    SQLAlchemy 2.1 takes psycopg 3 for that address. It binds parameters on the server, which
    PostgreSQL refuses in the NOTIFY that Dagster sends with every event.
    """

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> DagsterPostgresStorage:
        """Storage of a `dagster.yaml`; an address that names its driver stays as it is."""
        store_in_batches()
        if not (url := config_value.get("postgres_url")):
            return super().from_config_value(inst_data, config_value)
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)
        storage = super().from_config_value(inst_data, {**config_value, "postgres_url": url})
        storage._event_log_storage = PostgresEventLog(url, storage.should_autocreate_tables)
        return storage
