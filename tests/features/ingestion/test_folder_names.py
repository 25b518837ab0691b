"""A folder named key=value means nothing: a Parquet file is read as what it holds."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.drafts.source.sampling import find_file, take_sample
from features.ingestion.landing import land
from features.ingestion.lookup_tables import build_items, build_users
from features.learning.labels import load_catalog, load_days
from features.store import apply_registry
from tests.builders.daily import build
from tests.builders.datasets import dataset_like, shop
from tests.builders.landing import landed

DAYS = [dt.date(2026, 1, 5), dt.date(2026, 1, 6)]


def parquet_shop(**landing: object) -> Dataset:
    """Returns the shop with Parquet files whose column `date` is the time."""
    columns = {"id": "VARCHAR", "user": "VARCHAR", "date": "TIMESTAMP", "type": "VARCHAR"}
    return dataset_like(
        "shop",
        timezone="UTC",
        partitions={"start": DAYS[0], "end": DAYS[1]},
        landing={"format": "parquet", "columns": columns} | landing,
        events={
            "event_id": "id",
            "user_id": "user",
            "timestamp": "date AT TIME ZONE 'UTC'",
            "action": "type",
        },
        items={
            "url": "category=*/items.parquet",
            "format": "parquet",
            "columns": {"item_id": "VARCHAR", "category": "VARCHAR"},
            "item_id": "item_id",
            "category": "category",
        },
        users={
            "url": "user_id=*/users.parquet",
            "format": "parquet",
            "columns": {"user_id": "VARCHAR", "land": "VARCHAR"},
            "user_id": "user_id",
            "attributes": {"land": "land"},
        },
        features={"windows": [7], "categories": ["hat"]},
        tasks=[],
    )


def write(path: Path, **columns: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def write_events(path: Path, day: dt.date = DAYS[0]) -> None:
    """Writes 10 events of 5 users, from 08:00 on."""
    start = dt.datetime.combine(day, dt.time(8))
    write(
        path,
        id=[f"{day.day}-{n}" for n in range(10)],
        user=[f"u{n % 5}" for n in range(10)],
        date=[start + dt.timedelta(minutes=n) for n in range(10)],
        type=["view"] * 10,
    )


def values(folder: Path, column: str) -> list:
    """Returns the different values of a column in all objects below a folder."""
    files = sorted(folder.rglob("*.parquet"))
    found = {value for path in files for value in pq.ParquetFile(path).read()[column].to_pylist()}
    return sorted(found)


@pytest.mark.parametrize("folder", ["date={year}-{month}-{day}", "DATE={year}-{month}-{day}"])
def test_landing_files_keep_their_own_columns(folder, tmp_path, lake_home):
    write_events(tmp_path / "user=x" / folder.format(year=2026, month="01", day="05") / "a.parquet")
    link_source("shop", str(tmp_path / "user=x"))
    lake = Lake.of("shop")
    land(parquet_shop(url=f"{folder}/*.parquet"), lake, None)
    fragments = lake.table("landing") / "fragments"
    assert landed(lake) == {"2026-01-05": sorted(f"5-{n}" for n in range(10))}
    assert values(fragments, "user_id") == [f"u{n}" for n in range(5)]
    times = [time.strftime("%H:%M") for time in values(fragments, "timestamp")]
    assert times == [f"08:{n:02}" for n in range(10)]


def test_a_column_that_only_a_folder_has_is_missing(tmp_path, lake_home):
    path = tmp_path / "dt=2026-01-05" / "a.parquet"
    write_events(path)
    link_source("shop", str(tmp_path))
    columns = {"id": "VARCHAR", "user": "VARCHAR", "date": "TIMESTAMP", "type": "VARCHAR"}
    dataset = parquet_shop(url="dt=*/*.parquet", columns=columns | {"dt": "VARCHAR"})
    with pytest.raises(FootpathError, match=r"dt=2026-01-05/a.parquet has no column 'dt'"):
        land(dataset, Lake.of("shop"), None)
    with connect() as connection:
        assert take_sample(connection, find_file(str(path))).columns == list(columns)


def test_items_and_users_keep_their_own_columns(tmp_path, lake_home):
    write(tmp_path / "category=shoes/items.parquet", item_id=["i0", "i1"], category=["hat"] * 2)
    write(tmp_path / "user_id=7/users.parquet", user_id=["u0", "u1"], land=["DE"] * 2)
    link_source("shop", str(tmp_path))
    dataset, lake = parquet_shop(url="*.parquet"), Lake.of("shop")
    assert (build_items(dataset, lake), build_users(dataset, lake)) == (2, 2)
    assert pq.ParquetFile(lake.single("items")).read()["category"].to_pylist() == ["hat", "hat"]
    assert pq.ParquetFile(lake.single("users")).read()["user_id"].to_pylist() == ["u0", "u1"]


@pytest.mark.parametrize("above", ["user_id=zz/day=3/category=hat", "a[b]*c", "a\\b{c}'d $e %20"])
def test_a_home_may_lie_below_any_folder(tmp_path, monkeypatch, above):
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / above / "home"))
    for day in DAYS:
        write_events(tmp_path / f"source/{day}.parquet", day)
    write(tmp_path / "source/category=x/items.parquet", item_id=["i0"], category=["shoe"])
    link_source("shop", str(tmp_path / "source"))
    dataset, lake = parquet_shop(url="{year}-{month}-{day}.parquet"), Lake.of("shop")
    build_items(dataset, lake)
    land(dataset, lake, None)
    build(dataset, lake, DAYS)
    users = [f"u{n}" for n in range(5)]
    for table in ("events", "sessions", "user_behavior_features"):
        assert values(lake.table(table), "user_id") == users
    with connect() as connection:
        load_catalog(connection, lake)
        load_days(connection, lake, "known", DAYS)
        assert connection.execute("FROM catalog").fetchall() == [("i0", "shoe")]
        found = connection.execute("SELECT DISTINCT user_id FROM known ORDER BY ALL").fetchall()
        assert found == [(user,) for user in users]


@pytest.mark.parametrize("parent", ["user_id=zz", "Created=2026-01-01"])
def test_feast_is_not_given_what_it_would_read_wrong(parent, tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / parent))
    with pytest.raises(FootpathError, match=f"the folder '{parent}' above .* is named like a col"):
        apply_registry(shop(), Lake.of("shop"))
