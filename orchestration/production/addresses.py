"""Addresses of the servers that a production stack runs, for every other process of its home.

In:  the home folder. Out: `production/environment` in it, one KEY=value a line, which only its
owner can read: it holds the passwords that were made for PostgreSQL, Redis and S3.
"""

import os
from pathlib import Path

from contracts.lake.layout import home

# What finds each server; one that is set is taken, and no server of ours is started for it.
DAGSTER_URL = "DAGSTER_POSTGRES_URL"
REGISTRY = "FOOTPATH_REGISTRY"
ONLINE, ONLINE_PASSWORD = "FOOTPATH_ONLINE_STORE", "FOOTPATH_REDIS_PASSWORD"
S3_ENDPOINT, LAKE = "AWS_ENDPOINT_URL", "FOOTPATH_LAKE"
# Of the stack's own processes, as deploy/workspace.yaml and the health check read them.
CODE_HOST, CODE_PORT = "FOOTPATH_CODE_HOST", "FOOTPATH_CODE_PORT"
WEBSERVER = "FOOTPATH_WEBSERVER"
SERVICE = "FOOTPATH_SERVICE"
WEBSERVER_MODULE = "orchestration.production.webserver"
# Further names that the webserver is reached by.
UI_HOSTS = "FOOTPATH_UI_HOSTS"


def folder() -> Path:
    """Where the stack of this home keeps its configuration, logs and data."""
    return home() / "production"


def read_addresses() -> dict[str, str]:
    """Variables that the stack of this home has written; none if it never ran."""
    path = folder() / "environment"
    if not path.exists():
        return {}
    lines = [line.partition("=") for line in path.read_text().splitlines() if line]
    return {name: value for name, _, value in lines}


def use_addresses() -> None:
    """Sets the variables of this home's stack, but those that are set already."""
    for name, value in read_addresses().items():
        os.environ.setdefault(name, value)


def write_private(path: Path, text: str) -> None:
    """Replaces a file that only its owner can read."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)
