"""Late and repeated events of real sources: Globo's long sessions, Online Retail's twins."""

import datetime as dt
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion.dedup import stage_events
from features.ingestion.landing import land
from features.ingestion.manifest import all_manifests
from features.reconciliation import reconcile
from features.staleness import find_stale
from tests.builders.daily import build_unaudited
from tests.builders.datasets import dataset_like
from tests.conftest import REAL_DATA

pytestmark = pytest.mark.long


def archive(name: str, pattern: str) -> Path:
    """Returns the archive of a real data set."""
    found = sorted((REAL_DATA / name).glob(pattern))
    if not found:
        pytest.skip(f"{REAL_DATA / name / pattern} is not there: put the files of {name} in it")
    return found[0]


def unpack(path: Path, folder: Path) -> Path:
    """Unpacks an archive, so that its files can be delivered one by one."""
    folder.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", path, "-C", folder], check=True)
    return folder


def test_none_of_the_identical_rows_of_online_retail_vanish(lake_home, tmp_path):
    path = archive("online-retail", "*.tar.zst")
    source = unpack(path, tmp_path / "source")
    plain = {"url": "by-day/{year}-{month}-{day}*.csv", "arrival_timezone": "Europe/London"}
    like = dataset_like("online-retail").landing
    shop = dataset_like("online-retail", landing=like.model_dump() | plain)
    link_source("online-retail", str(source))
    lake = Lake.of("online-retail")
    land(shop, lake, None)
    days = days_between(shop.partitions.start, shop.partitions.end or shop.partitions.start)
    ids = Ids(shop, lake, days)
    assert (ids.delivered, ids.duplicates, len(ids.kept)) == (541_909, 0, 541_909)

    # Rows that say the same in every column, of which all but one could be taken for repeats.
    rows = f"read_csv('{source}/by-day/*.csv', all_varchar = true)"
    query = f"SELECT sum(n - 1) FROM (SELECT *, count(*) AS n FROM {rows} GROUP BY ALL)"
    assert duckdb.execute(query).fetchall() == [(5_268,)]

    # The same day delivered again, with half of its rows once more in another file: nothing new.
    day = source / "by-day" / "2011-11-14.csv"
    lines = day.read_text().splitlines(keepends=True)
    shutil.copy(day, day.with_name("2011-11-14-again.csv"))
    half = lines[:1] + lines[1::2]
    day.with_name("2011-11-14-half.csv").write_text("".join(half))
    land(shop, lake, None)
    again = Ids(shop, lake, days)
    assert again.duplicates == len(lines) + len(half) - 2
    assert again.kept == ids.kept


class Ids:
    """The ids of all staged events, and what was delivered."""

    def __init__(self, dataset: Dataset, lake: Lake, days: list[dt.date]) -> None:
        with lake.staging() as folder:
            staged = stage_events(dataset, lake, days, folder)
            self.delivered = sum(part.fragment_rows for part in staged.values())
            self.duplicates = sum(part.duplicates for part in staged.values())
            files = f"read_parquet('{folder}/*.parquet')"
            found = duckdb.execute(f"SELECT event_id FROM {files}").to_arrow_table()
        self.kept = set(found["event_id"].to_pylist())


def test_an_hour_of_globo_that_comes_late_makes_its_whole_tail_due(lake_home, tmp_path):
    path = archive("globo-clicks", "*.tar.zst")
    source = unpack(path, tmp_path / "source")
    folder = next(source.rglob("clicks_hour_000.csv")).parent
    held = tmp_path / "held.csv"
    for other in folder.iterdir():
        if not 100 <= int(other.stem[-3:]) <= 130:
            other.unlink()
    # Some sessions of this hour, a Thursday noon, went on for two weeks.
    (folder / "clicks_hour_116.csv").rename(held)
    like = dataset_like("globo-clicks")
    where = str(folder.relative_to(source) / "clicks_hour_{hours}.csv")
    globo = dataset_like("globo-clicks", landing=like.landing.model_dump() | {"url": where})
    link_source("globo-clicks", str(source))
    lake = Lake.of("globo-clicks")
    report = land(globo, lake, None)
    days = days_between(report.days[0], dt.date(2017, 10, 25))
    build_unaudited(globo, days, ("events", "sessions"))
    assert not find_stale(globo, lake).days

    held.rename(folder / "clicks_hour_116.csv")
    land(globo, lake, None)
    (late,) = [m for m in all_manifests(lake).values() if m and "hour_116" in m.path]
    closure = find_stale(globo, lake)
    touched = sorted(map(dt.date.fromisoformat, late.days))
    assert list(closure.reasons["events"]) == touched
    follows = {day + dt.timedelta(days=n) for day in touched for n in range(3)} & set(days)
    assert set(closure.reasons["sessions"]) == follows
    print(
        f"\nhour 116 late: {late.rows:,} rows on {len(touched)} days {touched[0]}..{touched[-1]}, "
        f"sessions due {len(follows)} days"
    )
    for table in ("events", "sessions"):
        due = list(find_stale(globo, lake).reasons[table])
        build_unaudited(globo, due, (table,))
    assert not find_stale(globo, lake).days
    found = reconcile(globo, lake, recount=True)
    assert found.faults == []
    assert found.published + found.duplicates + found.quarantined == found.rows
    print(found.figures())
