"""What is published is whole, in one step; what is staged is never seen."""

import datetime as dt
import itertools
import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.clock import as_of_instant, day_window, days_between
from contracts.base.errors import FootpathError
from contracts.lake import layout
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_folder, publish_json, publish_table
from contracts.lake.reading import read_json

DAY = dt.date(2026, 3, 1)


def test_a_published_table_replaces_the_day_and_leaves_no_staging(lake_home):
    lake = Lake.of("shop")
    for value in (1, 2):
        publish_table(lake, pa.table({"a": [value]}), lake.day("events", DAY))
    assert pq.read_table(lake.day("events", DAY))["a"].to_pylist() == [2]
    assert lake.days("events") == [DAY]
    assert list((lake.root / "_staging").iterdir()) == []


def test_a_failure_while_staging_leaves_the_published_day(lake_home):
    lake = Lake.of("shop")
    publish_table(lake, pa.table({"a": [1]}), lake.day("events", DAY))

    def fail_halfway():
        with lake.staging() as folder:
            (folder / "half.parquet").write_bytes(b"PAR1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert pq.read_table(lake.day("events", DAY))["a"].to_pylist() == [1]
    assert list(lake.root.glob("**/half.parquet")) == []


def test_what_a_killed_run_left_is_swept_after_a_day_and_not_before(lake_home):
    staging = Lake.of("shop").root / "_staging"
    for name, hours in [("killed", 25), ("running", 1)]:
        (staging / name).mkdir(parents=True)
        moment = time.time() - hours * 3600
        os.utime(staging / name, (moment, moment))
    with Lake.of("shop").staging():
        pass
    assert [path.name for path in staging.iterdir()] == ["running"]


def test_a_published_folder_is_never_overwritten(lake_home):
    lake = Lake.of("shop")
    target = lake.root / "sequences" / "2026-03-01-abc"
    for text in ("first", "second"):
        with lake.staging() as folder:
            (folder / "a").write_text(text)
            publish_folder(folder, target)
    assert (target / "a").read_text() == "first"


def test_json_that_is_missing_or_broken_gives_a_sentence(lake_home):
    lake = Lake.of("shop")
    path = lake.root / "x.json"
    with pytest.raises(FootpathError, match="is not there"):
        read_json(path)
    publish_json(lake, {"day": DAY}, path)
    assert json.loads(path.read_text()) == {"day": "2026-03-01"}
    path.write_text("{")
    with pytest.raises(FootpathError, match="not valid JSON"):
        read_json(path)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)]
)
def test_a_local_day_is_as_long_as_its_clocks_say(day, hours):
    start, end = day_window(dt.date.fromisoformat(day), "Europe/Berlin")
    assert end - start == dt.timedelta(hours=hours)


def test_days_meet_without_gap_or_overlap():
    days = days_between(dt.date(2026, 3, 25), dt.date(2026, 4, 2))
    for day, following in itertools.pairwise(days):
        assert as_of_instant(day, "Europe/Berlin") == day_window(following, "Europe/Berlin")[0]


def test_a_lake_of_another_format_is_refused_with_what_to_do(lake_home):
    lake = Lake.of("formats")
    assert not lake.root.exists()  # looking at a lake writes nothing
    publish_table(lake, pa.table({"a": [1]}), lake.day("events", DAY))
    stamp = lake.root / "format.json"
    assert json.loads(stamp.read_text()) == {"format": 1}
    stamp.write_text(json.dumps({"format": 7}))
    layout._STAMPED.clear()  # as another process sees it
    with pytest.raises(FootpathError, match=r"is a lake of format 7, .*build it again"):
        Lake.of("formats")
