"""Databases of a test's own, on the server that FOOTPATH_TEST_POSTGRES names."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SERVER = os.environ.get("FOOTPATH_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432")


@contextmanager
def new_database() -> Iterator[str]:
    """Creates a database, gives its address, and drops it; skips where no server answers."""
    psycopg = pytest.importorskip("psycopg")
    name = f"footpath_test_{uuid.uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at FOOTPATH_TEST_POSTGRES ({error})")
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{SERVER}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
