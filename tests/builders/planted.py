"""A small home that went from landing files to the feature store, with a user planted in it."""

import contextlib
import datetime as dt
import json
import os
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa

from contracts.base.clock import now
from contracts.base.sql import parquet
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from features.ingestion.editable import read_editable, write_editable
from features.ingestion.landing import land
from features.ingestion.lookup_tables import build_items, build_users
from features.ingestion.replay import repair
from features.learning.labels import build_labels
from features.learning.sequences import build_sequences
from features.stops import keep_stop
from features.store import apply_registry, materialize, promote
from tests.builders.daily import STAGES, build
from tests.builders.datasets import four_days
from tests.builders.landing import Source, row
from tests.builders.retention import put
from tests.builders.store import publish_embeddings, publish_model
from validation.row_quarantine import read_quarantine

PLANTED = "visitor-7f3a@example.org"
OTHERS = ["u1", "u2", "u3"]
VERSION = "ptum_bert4rec_v1"
SHOP = four_days(
    features={"windows": [1]}, tasks=[{"name": "gender", "column": "gender", "metric": "auc"}]
)
DAYS = [dt.date(2026, 1, n) for n in (4, 5, 6, 7)]


def plant(home: Path, source: Path, instance: dg.DagsterInstance | None = None) -> Lake:
    """Makes the home, whose landing files lie in `source`; FOOTPATH_HOME names it already.

    Args:
      home: the home.
      source: an empty folder.
      instance: of Dagster, where it is not one of files in the home.
    """
    files = Source(source)
    write_files(files)
    lake = Lake.of("shop")
    land(SHOP, lake, None)
    _repair(lake, home)
    build_items(SHOP, lake)
    build_users(SHOP, lake)
    build(SHOP, lake, DAYS, tuple(STAGES))
    build_labels(SHOP, lake, DAYS[-2])
    build_sequences(SHOP, lake, DAYS[-2])
    _serve(lake)
    _leave_behind(lake, home)
    with contextlib.nullcontext(instance) if instance else open_instance(home) as used:
        logged.execute_in_process(instance=used, tags={"asked_for": PLANTED})
    return lake


def write_files(files: Source) -> None:
    """Landing files of four days: good rows, refused ones, duplicates, and broken ones."""
    (files.folder / "items.csv").write_text("item,title,category,brand,price\ni1,One,books,b,2\n")
    people = "".join(f"{u},{20 + n},{'fm'[n % 2]}\n" for n, u in enumerate([*OTHERS, PLANTED]))
    (files.folder / "users.csv").write_text(f"user,age,gender\n{people}")
    for day in DAYS:
        at = f"{day}T09:00:00Z"
        lines = [row(f"{day}-{user}-{n}", at, user, price=n) for user in OTHERS for n in (1, 2)]
        mine = [row(f"{day}-p-{n}", at, PLANTED) for n in (1, 2)]
        files.write(f"{day}/09", *lines, *mine, mine[0])
        files.write(f"{day}/10", row(f"{day}-alone", at, PLANTED))
    files.write(
        f"{DAYS[1]}/11",
        row("undated", "yesterday", PLANTED),
        row("other", "yesterday", "u2"),
        f'{{"user": "{PLANTED}", not json',
        row("flies", f"{DAYS[1]}T12:00:00Z", PLANTED, type="fly"),
        row("swims", f"{DAYS[1]}T12:00:00Z", "u1", type="swim"),
        row("mended", "tomorrow", PLANTED),
    )


def _repair(lake: Lake, folder: Path) -> None:
    path = folder / "mend.jsonl"
    write_editable(SHOP, read_quarantine(lake), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (line,) = [line for line in lines if line["row"] and "mended" in str(line["row"])]
    line["row"]["ts"] = f"{DAYS[1]}T13:00:00Z"
    path.write_text(json.dumps(line))
    assert repair(SHOP, lake, read_editable(path)).replaced == 1
    path.unlink()


def _serve(lake: Lake) -> None:
    publish_model(lake, VERSION)
    users = sorted([*OTHERS, PLANTED])
    for day in DAYS[2:]:
        publish_embeddings(lake, SHOP, VERSION, day, users, np.eye(4, 4, dtype=np.float32))
    promote(SHOP, lake, VERSION)
    apply_registry(SHOP, lake)
    materialize(SHOP, lake)
    rows = pa.table({"user_id": users, "views": [1.0, 2.0, 3.0, 4.0]})
    publish_table(lake, rows, lake.day("head_features", DAYS[-2]))


def _leave_behind(lake: Lake, home: Path) -> None:
    put(lake, "_staging/left/half.txt", PLANTED)
    put(lake, "running/measure-left/users.txt", PLANTED)
    put(lake, "data_docs/events.html", f"<p>user_id = {PLANTED} in events/x line 3</p>")
    why = f"the action is one of the known: 1 rows, such as user_id = {PLANTED} in x"
    keep_stop(SHOP, lake, "events", dt.date(2026, 1, 8), "0", [why])
    log = home / "production" / "log" / "code.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"user '{PLANTED}' has no embedding\nand 12 others\n")


@dg.op(out=dg.Out(dg.Nothing))
def says(context: dg.OpExecutionContext) -> None:
    """Logs a sentence about a user."""
    context.log.info(f'the row {{"user_id": "{PLANTED}"}} is wrong, and 12 others')


@dg.job(name="shop_logged")
def logged() -> None:
    """A job of the shop."""
    says()


def open_instance(home: Path) -> dg.DagsterInstance:
    """The Dagster instance of a home."""
    (home / "dagster").mkdir(exist_ok=True)
    return dg.DagsterInstance.local_temp(str(home / "dagster"))


def other_rows(lake: Lake) -> dict[str, list[tuple]]:
    """The rows of all tables but for the planted user's, in their order, by object."""
    found = {}
    for path in sorted(lake.root.rglob("*.parquet")):
        name = path.relative_to(lake.root).as_posix()
        if "similar" not in name and not name.startswith(("sequences", "_staging")):
            with connect() as connection:
                rows = connection.execute(f"SELECT * FROM {parquet('?')}", [str(path)]).fetchall()
            found[name] = [each for each in rows if PLANTED not in repr(each)]
    return found


def touch(folder: Path) -> None:
    """Makes all files below a folder look new."""
    later = now().timestamp() + 5
    for path in folder.rglob("*"):
        os.utime(path, (later, later))
