"""Events and sessions -> behaviour features per user and day, in the three clocks of a feature row.

A row of day D says what was known of a user at the midnight that ends D: `event_timestamp` is
that midnight, and a window of w days is the local days D-w+1 .. D. A user has a row every day on
which the longest window is not empty, and one row of zeros after, so that the online store does
not keep a ghost. `created` is when the row would have been known; a rebuild that finds other
values adds rows and keeps the old ones (`revisions.py`).

A range of days is one pass over the events: they are summed by user and day once, and windows
slide over those sums (`behavior_windows.py`).
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.clock import days_between, now
from contracts.dataset import Dataset
from contracts.errors import FootpathError
from contracts.lake import Lake, ibis_path
from contracts.tables import EVENTS, SESSIONS
from features.behavior_fields import (
    FeatureField,
    feature_fields,
    feature_schema,
    has_categories,
    told_actions,
    window_days,
)
from features.behavior_windows import activity_of, day_number, variety_of, windows_of, with_number
from features.daily import calendar, keep, open_engine, read_days, register, stream, write_days
from features.provenance import published_inputs
from features.revisions import check_published, merge_revisions

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

__all__ = ["FeatureField", "feature_fields", "feature_schema", "stage_features"]

TABLE = "user_behavior_features"

# The category of an event whose item is not in the catalogue, or that has none.
NO_CATEGORY = "(none)"

# Rows that one query makes: a longer range is cut into runs of days, so that memory is flat.
CHUNK_ROWS = 1_000_000


def stage_features(
    dataset: Dataset, lake: Lake, days: list[dt.date], folder: Path
) -> dict[dt.date, Path]:
    """Builds the behaviour features of each of the days, with the revisions published before.

    Args:
      dataset: gives the windows, actions, delay and time zone.
      lake: holds `events` and `sessions`, where days that are not published count as empty, and
        `items` and the features' own published days.
      days: local days, in any order.
      folder: gets one Parquet file a day, sorted by (user_id, created).

    Returns:
      The staged file of every day.

    Raises:
      FootpathError: the catalogue is needed and missing, or a published day has other fields.
    """
    days, fields = sorted(set(days)), feature_fields(dataset)
    check_published(lake, TABLE, days, feature_schema(fields))
    written, staged = now(), {}
    for run in _runs(days):
        inputs = published_inputs(lake, {day: feature_needs(dataset, day) for day in run})
        with open_engine() as engine:
            users = _summarize(engine, dataset, lake, run)
            size = max(1, CHUNK_ROWS // max(1, users))
            for start in range(0, len(run), size):
                chunk = run[start : start + size]
                fresh = _features(engine, dataset, fields, chunk, written)
                rows = _with_published(engine, lake, fresh, chunk, written)
                rows = rows.order_by("day", "user_id", "created")
                schema = feature_schema(fields)
                staged |= write_days(stream(engine, rows), schema, folder, chunk, inputs)
    return staged


def feature_needs(dataset: Dataset, day: dt.date) -> dict[str, list[dt.date]]:
    """Returns the days of each table that a day of features is computed from."""
    longest = window_days(dataset)[-1]
    needed = days_between(day - dt.timedelta(days=longest), day)
    return {"events": needed, "sessions": needed}


def _runs(days: list[dt.date]) -> list[list[dt.date]]:
    """Cuts sorted days into runs of consecutive ones."""
    runs: list[list[dt.date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == dt.timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def _summarize(engine: "Backend", dataset: Dataset, lake: Lake, run: list[dt.date]) -> int:
    """Keeps `activity` and `variety` of all that the run's windows see; returns how many users."""
    windows = window_days(dataset)
    needed = days_between(run[0] - dt.timedelta(days=windows[-1]), run[-1])
    events = with_number(read_days(engine, lake, "events", EVENTS, needed))
    sessions = with_number(read_days(engine, lake, "sessions", SESSIONS, needed))
    if has_categories(dataset):
        events = _with_category(engine, lake, events)
    categories = dataset.features.categories if has_categories(dataset) else []
    keep(engine, "activity", activity_of(events, sessions, told_actions(dataset), categories))
    first, last = day_number(run[0]), day_number(run[-1])
    keep(engine, "variety", variety_of(events, windows, first, last, has_categories(dataset)))
    return engine.con.sql("SELECT count(DISTINCT user_id) FROM activity").fetchall()[0][0]


def _with_category(engine: "Backend", lake: Lake, events: "ir.Table") -> "ir.Table":
    """Adds the category of each event's item.

    Raises:
      FootpathError: the catalogue is not published.
    """
    path = lake.single("items")
    if not path.exists():
        raise FootpathError(
            f"{path} is not there, and the behaviour features take categories from it: "
            "materialize items first"
        )
    items = engine.read_parquet(ibis_path(path)).select("item_id", "category")
    events = events.left_join(items, "item_id").drop("item_id_right")
    return events.mutate(category=events.category.fill_null(NO_CATEGORY))


def _features(
    engine: "Backend",
    dataset: Dataset,
    fields: list[FeatureField],
    days: list[dt.date],
    written: dt.datetime,
) -> "ir.Table":
    """Slides the windows over some days of the run; gives rows as if each was built in time."""
    import ibis

    first, last = day_number(days[0]), day_number(days[-1])
    activity, variety = engine.table("activity"), engine.table("variety")
    rows = windows_of(activity, variety, window_days(dataset), first, last)
    clock = with_number(register(engine, "clock", calendar(days, dataset.timezone)))
    rows = rows.join(clock, "n")
    return rows.select(
        "day",
        "user_id",
        event_timestamp=rows.ends,
        created=rows.ends + ibis.interval(minutes=dataset.features.delay_minutes),
        written_at=ibis.literal(written, "timestamp('UTC', 6)"),
        **{field.name: field.formula(rows).cast(field.kind) for field in fields},
    )


def _with_published(
    engine: "Backend", lake: Lake, fresh: "ir.Table", days: list[dt.date], written: dt.datetime
) -> "ir.Table":
    """Returns the rows that the days' objects shall hold: with what they hold already."""
    known = [day for day in days if lake.existing(TABLE, [day])]
    if not known:
        return fresh
    published = read_days(engine, lake, TABLE, feature_schema([]), known)
    return merge_revisions(keep(engine, "fresh", fresh), published, known, written)
