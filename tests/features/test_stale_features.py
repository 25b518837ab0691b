"""A changed list of features makes published days stale; what is only gone makes none."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_table
from features.behavior.build import stage_features
from features.behavior.columns import TABLE
from features.ingestion.landing import land
from features.staleness import find_stale
from tests.builders.daily import build as build_audited
from tests.builders.daily import build_unaudited
from tests.builders.datasets import FIRST, LAX, tiny
from tests.builders.landing import Deliveries, at

DAYS = [FIRST + dt.timedelta(days=n) for n in range(4)]
SUMS = {"kind": "value", "stats": ["sum"], "windows": [1]}
TREND = {"kind": "trend", "short": 1, "long": 3}
DAYS_SINCE = {"kind": "recency", "of": ["event"]}


def declaring(*declared: dict, windows: tuple[int, ...] = (1, 3)) -> Dataset:
    section = {"windows": windows, "standard": False, "declared": declared}
    return tiny(features=section, quality=LAX)


BEFORE = declaring(SUMS, DAYS_SINCE)


def build(dataset: Dataset, days: list[dt.date]) -> None:
    lake = Lake.of(dataset.name)
    with lake.staging() as folder:
        for day, path in stage_features(dataset, lake, days, folder).items():
            publish_file(path, lake.day(TABLE, day))


def stale(dataset: Dataset) -> dict[str, list[int]]:
    """Reasons -> the days of the month that are stale for them; of features alone."""
    found = find_stale(dataset, Lake.of("tiny")).reasons
    assert not found["events"]
    assert not found["sessions"]
    reasons = {}
    for day, reason in found[TABLE].items():
        reasons.setdefault(reason, []).append(day.day)
    return reasons


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory):
    """Four days with events and sessions, of which three have features."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(folder / "home"))
        source = Deliveries(folder / "source")
        source.write(DAYS[3], "all", [(str(n), "u1", at(day, 8)) for n, day in enumerate(DAYS)])
        lake = Lake.of("tiny")
        land(BEFORE, lake, None)
        build_unaudited(BEFORE, DAYS, ("events", "sessions"))
        build(BEFORE, DAYS[:3])
        yield lake


@pytest.mark.parametrize(
    ("now", "reasons"),
    [
        ([SUMS, DAYS_SINCE], {}),
        ([DAYS_SINCE, SUMS], {}),
        ([SUMS], {}),
        ([SUMS, DAYS_SINCE, TREND], {"features new: events_trend_1d_3d": [1, 2, 3]}),
        (
            [SUMS, DAYS_SINCE | {"cap_days": 2}],
            {"features changed: days_since_last_event": [1, 2, 3]},
        ),
        ([DAYS_SINCE, TREND], {"features new: events_trend_1d_3d": [1, 2, 3]}),
        (
            [SUMS | {"stats": ["sum", "mean", "max", "std"]}, TREND],
            {
                "features new: events_trend_1d_3d, value_max_1d, value_mean_1d and 1 more": [
                    *(1, 2, 3)
                ]
            },
        ),
    ],
    ids=["same", "order", "removed", "new", "meaning", "new and removed", "many"],
)
def test_a_list_that_changes_makes_every_published_day_stale_with_a_reason(lake, now, reasons):
    assert stale(declaring(*now)) == reasons


def test_days_that_only_a_removed_feature_read_make_nothing_stale(lake):
    assert stale(declaring(SUMS, windows=(1,))) == {}
    longer = stale(declaring(SUMS, DAYS_SINCE, windows=(1, 3, 9)))
    assert longer == {"features changed: days_since_last_event": [1, 2, 3]}


def test_a_day_that_was_rebuilt_under_the_new_list_is_not_stale_any_more(lake, tmp_path: Path):
    now = declaring(SUMS, TREND)
    kept = lake.day(TABLE, DAYS[1]).read_bytes()
    build_audited(now, lake, DAYS[1:2], (TABLE,))  # rows of both lists pass the gate
    assert stale(now) == {"features new: events_trend_1d_3d": [1, 3]}
    assert [day.day for day in find_stale(now, lake).days] == [1, 3]
    # The feature that the rebuild left out is new to that day alone when it comes back.
    assert stale(BEFORE) == {"features new: days_since_last_event": [2]}
    lake.day(TABLE, DAYS[1]).write_bytes(kept)
    assert stale(BEFORE) == {}


def test_a_feature_of_another_type_is_refused_before_anything_is_asked_for(lake):
    kept = lake.day(TABLE, DAYS[2]).read_bytes()
    rows = pq.read_table(lake.day(TABLE, DAYS[2]))
    place = rows.schema.get_field_index("value_sum_1d")
    texts = rows.set_column(place, "value_sum_1d", rows["value_sum_1d"].cast(pa.string()))
    publish_table(lake, texts, lake.day(TABLE, DAYS[2]))
    with pytest.raises(FootpathError, match=r"'value_sum_1d' would be double, and .* as string"):
        find_stale(BEFORE, lake)
    lake.day(TABLE, DAYS[2]).write_bytes(kept)
