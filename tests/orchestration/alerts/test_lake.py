"""Missing days, stopped days and stale models are found in the lake, by deadlines of the YAML."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.versions import CONFIG, allocate, allocate_for_task
from features.stops import keep_stop
from orchestration.alerts.lake import missing_data, stale_model, stopped
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source, row

LATE = {"complete": {"at": "06:00"}, "alerts": {"missing_hours": 2}}
SHOP = dataset_like("shop", automation=LATE)  # its days end at 23:00 UTC


def publish(lake: Lake, *days: int) -> None:
    for day in days:
        path = lake.day("events", dt.date(2026, 1, day))
        publish_table(
            lake, pa.table({"broken": [["action_known"], ["action_known", "dated"]]}), path
        )


def stop(lake: Lake, table: str, day: int) -> None:
    moment = dt.date(2026, 1, day)
    reasons = [
        f"{table} {moment}: 5 of 5 rows break a rule",
        f"type is unknown: 5 rows, such as user = alice in {moment}/13",
    ]
    keep_stop(SHOP, lake, table, moment, "data", reasons)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"{text}+00:00")


def missing(dataset: Dataset, lake: Lake, moment: str) -> list[str]:
    return [alert.subject for alert in missing_data(dataset, lake, at(moment))]


@pytest.fixture
def source(tmp_path: Path, lake: Lake) -> Source:
    """A source with a file of 2026-01-04, published as all before it, and none after."""
    source = Source(tmp_path / "source")
    source.write("2026-01-04/13", row("a", "2026-01-04T12:00:00Z"))
    publish(lake, 1, 2, 3, 4)
    return source


def test_a_day_is_missing_once_its_deadline_has_passed_and_until_its_first_file_comes(
    source: Source, lake: Lake
):
    assert missing(SHOP, lake, "2026-01-06T06:59") == []
    assert missing(SHOP, lake, "2026-01-06T07:00") == ["2026-01-05"]
    assert missing(SHOP, lake, "2026-01-08T07:00") == ["2026-01-05", "2026-01-06", "2026-01-07"]
    (alert, *_) = missing_data(SHOP, lake, at("2026-01-06T07:00"))
    assert alert.text == "no landing file has arrived by 2026-01-06 08:00 (Europe/Berlin)"
    source.write("2026-01-05/13", row("b", "2026-01-05T12:00:00Z"))
    assert missing(SHOP, lake, "2026-01-07T07:00") == ["2026-01-06"]


def test_nothing_is_missing_of_sources_that_ended_never_ran_or_may_have_empty_days(
    source: Source, lake: Lake, lake_home: Path
):
    ended = {"start": dt.date(2026, 1, 1), "end": dt.date(2026, 1, 5)}
    assert missing(dataset_like("shop", partitions=ended), lake, "2026-01-20T12:00") == [
        "2026-01-05"
    ]
    assert missing(dataset_like("shop", partitions=ended), lake, "2026-09-01T12:00") == []
    lax = dataset_like("shop", quality={"allow_empty_days": True})
    assert missing(lax, lake, "2026-01-20T12:00") == []
    assert missing(dataset_like("ml-100k"), Lake.of("ml-100k"), "2026-01-20T12:00") == []
    assert missing(SHOP, Lake.of("empty"), "2026-01-20T12:00") == []


def test_a_source_that_cannot_be_listed_is_an_error_and_not_a_missing_day(
    source: Source, lake: Lake
):
    source.folder.rename(source.folder.with_name("elsewhere"))
    with pytest.raises(FootpathError, match="is not there"):
        missing(SHOP, lake, "2026-01-08T07:00")


def test_stopped_days_of_every_table_are_found_without_values_of_rows(lake: Lake):
    stop(lake, "events", 5)
    stop(lake, "sessions", 6)
    found = {alert.subject: alert.text for alert in stopped(lake)}
    assert found == {
        "events of 2026-01-05": "5 of 5 rows break a rule; type is unknown: 5 rows",
        "sessions of 2026-01-06": "5 of 5 rows break a rule; type is unknown: 5 rows",
    }


def test_a_model_is_stale_when_it_could_know_so_many_days_more(lake: Lake):
    shop = dataset_like("shop", automation={"training": {"every_days": 2}}, tasks=[])
    publish(lake, *range(1, 11))
    assert stale_model(shop, lake) == []  # never trained
    base = allocate(lake, "coles_gru", "t1", "2026-01-04")
    publish_json(lake, {}, base.folder(lake) / CONFIG)
    (alert,) = stale_model(shop, lake)
    assert "coles_gru_v1 was trained on data up to 2026-01-04, and could be on 6 days" in alert.text
    by_hand = dataset_like("shop", automation={"training": None}, tasks=[])
    assert stale_model(by_hand, lake) == []
    lax = {"training": None, "alerts": {"stale_model_days": 6}}
    assert stale_model(dataset_like("shop", automation=lax, tasks=[]), lake) == []
    # Neither one for a task nor one that is still in training counts.
    tuned = allocate_for_task(lake, base, "churn", "t2")
    publish_json(lake, {}, tuned.folder(lake) / CONFIG)
    newer = allocate(lake, "coles_gru", "t3", "2026-01-06")
    assert len(stale_model(shop, lake)) == 1
    publish_json(lake, {}, newer.folder(lake) / CONFIG)
    assert stale_model(shop, lake) == []
