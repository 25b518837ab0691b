"""The Dagster instance of a home folder: the UI and the command line share it."""

import os
import shutil
import sys
from pathlib import Path

import dagster as dg

from contracts.lake.layout import home
from orchestration.runs.dead_runs import end_dead_runs

REPOSITORY = Path(__file__).parent.parent


def prepare_instance() -> Path:
    """Makes DAGSTER_HOME ready, by default below the home folder, and returns it.

    A new `dagster.yaml` is for PostgreSQL where DAGSTER_POSTGRES_URL is set, and otherwise for
    SQLite. One that lies there stays as it is, unless it is ours for SQLite and the variable is
    set.
    """
    folder = Path(os.environ.setdefault("DAGSTER_HOME", str(home() / "dagster")))
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    # Processes that Dagster starts elsewhere must find the same home.
    os.environ["FOOTPATH_HOME"] = str(home())
    folder.mkdir(parents=True, exist_ok=True)
    path, deploy = folder / "dagster.yaml", REPOSITORY / "deploy"
    if os.environ.get("DAGSTER_POSTGRES_URL"):
        if not path.exists():
            shutil.copy(deploy / "dagster.postgres.yaml", path)
        elif path.read_bytes() == (deploy / "dagster.yaml").read_bytes():
            shutil.copy(deploy / "dagster.postgres.yaml", path)
            sys.stderr.write(
                f"{folder}: runs of before stay in its SQLite files, unseen from now\n"
            )
    elif not path.exists():
        shutil.copy(deploy / "dagster.yaml", path)
    return folder


def open_instance() -> dg.DagsterInstance:
    """Opens the instance of the home folder, and ends the dead runs that it finds there."""
    prepare_instance()
    instance = dg.DagsterInstance.get()
    for ended in end_dead_runs(instance):
        sys.stderr.write(f"{ended}\n")
    return instance
