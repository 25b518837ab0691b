"""Dagster's runs and events in PostgreSQL, with the driver that Dagster is written for.

Named in `deploy/dagster.postgres.yaml`, so that every process that opens the instance takes it.
"""

import re
from typing import Any

from dagster_postgres import DagsterPostgresStorage

from orchestration.sqlite import store_in_batches


class PostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage that takes `postgresql://` as psycopg2's.

    SQLAlchemy 2.1 takes psycopg 3 for that address. It binds parameters on the server, which
    PostgreSQL refuses in the NOTIFY that Dagster sends with every event.
    """

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> DagsterPostgresStorage:
        """Storage of a `dagster.yaml`; an address that names its driver stays as it is."""
        store_in_batches()
        if url := config_value.get("postgres_url"):
            url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)
            config_value = {**config_value, "postgres_url": url}
        return super().from_config_value(inst_data, config_value)
