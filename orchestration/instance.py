"""The Dagster instance of a home folder: the UI and the command line share it."""

import os
import shutil
import sys
from pathlib import Path

import dagster as dg

from contracts.lake.layout import home
from orchestration.dead_runs import end_dead_runs

REPOSITORY = Path(__file__).parent.parent


def prepare_instance() -> Path:
    """Makes DAGSTER_HOME ready, by default below the home folder, and returns it.

    A `dagster.yaml` that lies there already is the user's own and stays as it is. A new one is for
    PostgreSQL where DAGSTER_POSTGRES_URL is set, and otherwise for SQLite.
    """
    folder = Path(os.environ.setdefault("DAGSTER_HOME", str(home() / "dagster")))
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    # Processes that Dagster starts elsewhere must find the same home.
    os.environ["FOOTPATH_HOME"] = str(home())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        name = "dagster.postgres.yaml" if os.environ.get("DAGSTER_POSTGRES_URL") else "dagster.yaml"
        shutil.copy(REPOSITORY / "deploy" / name, folder / "dagster.yaml")
    return folder


def open_instance() -> dg.DagsterInstance:
    """Opens the instance of the home folder, and ends the dead runs that it finds there."""
    prepare_instance()
    instance = dg.DagsterInstance.get()
    for ended in end_dead_runs(instance):
        sys.stderr.write(f"{ended}\n")
    return instance
