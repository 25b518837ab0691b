"""Snapshots: labels and features of earlier days, held against plain counting over a small log."""

import datetime as dt
import statistics
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from contracts.base.clock import as_of_instant
from contracts.base.errors import FootpathError
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from features.learning.head_features import write_head_features
from features.learning.label_rows import Split
from features.learning.labels import build_labels
from tests.builders.datasets import dataset_like
from tests.builders.events import AS_OF, BERLIN, Event, publish_events
from tests.builders.snapshots import DAYS, HORIZON, ONE, SQL, ZONE, build_features, dataset_of, log


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return log()


@pytest.fixture
def lake(lake_home, events) -> Lake:
    lake = Lake.of("shop")
    publish_events(lake, events, BERLIN)
    return lake


def expected(events: list[Event], name: str, day: dt.date) -> dict[str, object]:
    """What a task answers of each user as of a day, by hand; without what is no label."""
    cut, end = as_of_instant(day, ZONE), as_of_instant(day + HORIZON * ONE, ZONE)
    past: dict[str, list[Event]] = {}
    future: dict[str, list[Event]] = {}
    for event in sorted(events):
        if event.timestamp < cut:
            past.setdefault(event.user_id, []).append(event)
        elif event.timestamp < end:
            future.setdefault(event.user_id, []).append(event)
    found = {}
    for user, before in past.items():
        own = future.get(user, [])
        known = {event.item_id for event in before}
        purchases = [event for event in own if event.action == "purchase"]
        found[user] = {
            "buys": bool(purchases),
            "spends": sum(event.value for event in own) if own else None,
            "spent": sum(event.value for event in own),
            "first_item": own[0].item_id if own else None,
            "new": any(event.item_id not in known for event in purchases),
        }[name]
    return {user: label for user, label in found.items() if label is not None}


def named(name: str, label: object, at_as_of: dict[str, object], trained: set[str]) -> object:
    """The label as it is written: by the median and the commonest classes of the as-of day."""
    known = [at_as_of[user] for user in sorted(trained)]
    if name == "spends":
        return "yes" if label > statistics.median(known) else "no"
    if name == "first_item":
        order = sorted(Counter(known).items(), key=lambda pair: (-pair[1], pair[0]))
        return label if label in {item for item, _ in order[:2]} else "other"
    return label if name == "spent" else "yes" if label else "no"


@pytest.mark.parametrize("split", [Split(), Split(3), Split(1, 5)])
@pytest.mark.parametrize("name", SQL)
def test_labels_of_every_day_are_those_of_plain_counting(lake, events, name, split, tmp_path):
    path = tmp_path / "labels.parquet"
    report = build_labels(dataset_of(3, name), lake, AS_OF, split, path)
    assert (report.snapshots, report.warnings) == ({name: 3}, [])
    rows = pq.read_table(path).to_pylist()
    at_as_of = expected(events, name, AS_OF)
    own = [row for row in rows if row["as_of"] == as_of_instant(AS_OF, ZONE)]
    assert {row["user_id"] for row in own} == at_as_of.keys()
    assert report.tasks == {name: len(own)}
    trained = {row["user_id"] for row in own if row["split"] == "train"}
    assert 150 < len(trained) < len(own) - 20 or name in ("spends", "first_item")
    values = {row["label"]: row["value"] for row in own}
    for day in (AS_OF, *DAYS):
        found = [row for row in rows if row["as_of"] == as_of_instant(day, ZONE)]
        wanted = {
            user: named(name, label, at_as_of, trained)
            for user, label in expected(events, name, day).items()
            if day == AS_OF or user in trained
        }
        said = {r["user_id"]: r["value"] if name == "spent" else r["label"] for r in found}
        assert len(said) == len(found) > 30
        assert said == (pytest.approx(wanted) if name == "spent" else wanted)
        assert {row["label_end"] for row in found} == {as_of_instant(day + HORIZON * ONE, ZONE)}
        assert name == "spent" or all(row["value"] == values[row["label"]] for row in found)
    assert len({row["as_of"] for row in rows}) == 4
    assert [(row["user_id"], row["as_of"]) for row in rows] == sorted(
        (row["user_id"], row["as_of"]) for row in rows
    )


def test_no_label_of_an_earlier_day_looks_past_the_as_of_and_all_are_of_training_users(lake):
    build_labels(dataset_of(3), lake, AS_OF)
    rows = pq.read_table(lake.day("labels", AS_OF))
    cut = as_of_instant(AS_OF, ZONE)
    earlier = rows.filter(pc.less(rows["as_of"], cut))
    assert pc.max(earlier["label_end"]).as_py() == cut
    assert pc.unique(earlier["split"]).to_pylist() == ["train"]


def test_rows_of_the_as_of_day_are_the_same_with_and_without_snapshots(lake):
    found = []
    for snapshots in (0, 3):
        build_labels(dataset_of(snapshots), lake, AS_OF)
        rows = pq.read_table(lake.day("labels", AS_OF))
        found.append(rows.filter(pc.equal(rows["as_of"], as_of_instant(AS_OF, ZONE))))
    assert found[0].combine_chunks().equals(found[1].combine_chunks())
    assert found[0].num_rows > 1000


def test_a_day_before_the_first_published_one_is_left_out_and_told(lake):
    report = build_labels(dataset_of(8, "buys", "spent"), lake, AS_OF)
    assert report.snapshots == {"buys": 5, "spent": 5}  # 4, 6, 8, 10 and 12 days before
    assert report.warnings == [
        f"task {name} asks for 8 snapshots, and 5 are used in 2026-03-10: none is before the "
        "first published day"
        for name in ("buys", "spent")
    ]


def test_a_class_that_nobody_has_as_of_the_day_is_no_label_before(lake, events):
    until = as_of_instant(AS_OF, ZONE)
    kept = [e for e in events if e.timestamp < until or e.item_id in ("i0", "i1", "i2")]
    publish_events(lake, kept, BERLIN)
    task = {"name": "item", "sql": SQL["first_item"]["sql"], "horizon_days": HORIZON}
    for classes, names in ((None, {"i0", "i1", "i2"}), (2, {"i0", "i1", "other"})):
        given = task | {"metric": "accuracy", "snapshots": 3, "classes": classes}
        build_labels(dataset_like("shop", tasks=[given]), lake, AS_OF)
        rows = pq.read_table(lake.day("labels", AS_OF)).to_pylist()
        assert len({(row["label"], row["value"]) for row in rows}) == 3
        assert {row["label"] for row in rows} == names


@pytest.mark.parametrize(
    "fields",
    [
        {"column": "gender"},
        {"kind": "ranking", "holdout": 1, "metric": "recall@10"},
        {"sql": "count(*) > 0", "session": {}},
        {"kind": "ranking", "candidates": {"where": "true", "relevant": "true"}},
    ],
)
def test_snapshots_are_of_future_windows_alone(fields):
    with pytest.raises(ValidationError, match="snapshots goes with sql over a future window"):
        Task.model_validate({"name": "t", "metric": "auc", "snapshots": 1} | fields)
    assert Task.model_validate({"name": "t", "metric": "auc"} | fields).snapshots == 0


def test_the_step_of_snapshots_follows_from_the_horizon():
    def days(horizon: int, snapshots: int) -> list[int]:
        task = Task(name="t", sql="true", horizon_days=horizon, metric="auc", snapshots=snapshots)
        return [(AS_OF - day).days for day in task.snapshot_days(AS_OF)]

    assert days(60, 3) == [60, 90, 120]
    assert days(1, 3) == [1, 2, 3]
    assert days(7, 0) == []


@pytest.fixture
def dataset(lake):
    """With labels of three earlier days, and behavior features of every day."""
    dataset = dataset_of(3, "buys")
    build_features(dataset, lake)
    build_labels(dataset, lake, AS_OF)
    return dataset


def test_features_of_every_day_are_those_of_plain_counting(lake, events, dataset):
    report = write_head_features(dataset, lake, AS_OF)
    rows = pq.read_table(report.path).to_pylist()
    users = {event.user_id for event in events if event.timestamp < as_of_instant(AS_OF, ZONE)}
    assert report.users == report.known == len(users)
    assert len(rows) == 4 * len(users)
    for day in (AS_OF, *DAYS):
        end, week = as_of_instant(day, ZONE), as_of_instant(day - 7 * ONE, ZONE)
        counts = Counter(e.user_id for e in events if week <= e.timestamp < end)
        known = {e.user_id for e in events if e.timestamp < end}
        found = {r["user_id"]: r["events_7d"] for r in rows if r["as_of"] == end}
        assert found == {user: counts[user] if user in known else None for user in users}

    build_labels(dataset_of(0, "buys"), lake, AS_OF)
    alone = pq.read_table(write_head_features(dataset_of(0, "buys"), lake, AS_OF).path)
    assert "as_of" not in alone.column_names
    same = pa.Table.from_pylist([r for r in rows if r["as_of"] == as_of_instant(AS_OF, ZONE)])
    assert same.drop_columns("as_of").to_pylist() == alone.to_pylist()


def test_features_of_a_day_that_is_not_there_are_asked_for(lake, dataset):
    lake.day("user_behavior_features", DAYS[1]).unlink()
    with pytest.raises(FootpathError, match=f"features for {DAYS[1]} first, or lower snapshots"):
        write_head_features(dataset, lake, AS_OF)
