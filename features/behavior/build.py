"""Events and sessions -> features per user, or item, and day, in the three clocks of a feature row.

A row of day D says what was known of a user, or item, at the midnight that ends D:
`event_timestamp` is that midnight, and a window of w days is the local days D-w+1 .. D. They have a
row every day on which the longest window is not empty, and one row after, so that the online store
does not keep a ghost. Counts and sums of nothing are 0 in it, and all other features of nothing are
null. `created` is when the row would have been known; a rebuild that finds other values adds rows
and keeps the old ones (`features/revisions.py`), whatever the list of features was then
(`columns.py`).

Which tables of features there are is in `tables.py`. What happened per day is a small state that is
published beside the features and kept up to date with events and sessions (`daily_state.py`); of
the events themselves only users and items are read again (`pairs.py`). A range of days is one pass,
over ranges of users or items in turn, so that memory does not grow with the log: windows slide over
the state (`windows.py`). All of it is Ibis expressions, which FOOTPATH_ENGINE=spark runs on Spark,
for all at once. In these, `entity_id` is the user or item of a row.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.base.clock import days_between, now
from contracts.config.dataset import Dataset
from contracts.lake.engine import engine_name
from contracts.lake.layout import Lake
from contracts.lake.schemas import FEATURES
from features.behavior.columns import day_schema
from features.behavior.daily_state import (
    day_number,
    refresh_state,
    state_schema,
    with_number,
)
from features.behavior.feature_fields import feature_fields, feature_schema, window_days
from features.behavior.intervals import changes_of, pauses_of_day
from features.behavior.meanings import feature_meanings
from features.behavior.measures import (
    Measure,
    Span,
    asks_for_pairs,
    needs_categories,
)
from features.behavior.pairs import (
    check_catalog,
    distinct_of_day,
    events_of,
    pairs_of,
    with_categories,
    with_category,
)
from features.behavior.ranges import DayFiles, Ids, id_ranges, in_range
from features.behavior.tables import BEHAVIOR, FeatureTable
from features.behavior.terms import FeatureField
from features.behavior.windows import windows_of_day, windows_of_range
from features.daily import (
    calendar,
    keep,
    open_engine,
    read_by_name,
    read_days,
    register,
    stream,
    with_columns,
)
from features.provenance import published_inputs
from features.revisions import add_revisions, rows_of_nothing

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

__all__ = ["FeatureField", "feature_fields", "feature_needs", "feature_schema", "stage_features"]

# Days of one pass: each has its file open until the last user is written.
MOST_DAYS = 180


def stage_features(
    dataset: Dataset,
    lake: Lake,
    days: list[dt.date],
    folder: Path,
    table: FeatureTable = BEHAVIOR,
) -> dict[dt.date, Path]:
    """Builds the features of each of the days, with the revisions published before.

    Args:
      dataset: gives the windows, features, delay and time zone.
      lake: holds `events` and `sessions`, where days that are not published count as empty, and
        `items` and the features' own published days. Its daily state is brought up to date.
      days: local days, in any order.
      folder: gets one Parquet file a day, sorted by user or item, then `created`.
      table: whose features.

    Returns:
      The staged file of every day.

    Raises:
      FootpathError: the catalog is needed and missing, or a feature is published with another type.
    """
    days, fields = sorted(set(days)), table.fields(dataset)
    needs, meanings = _needs(fields), feature_meanings(dataset, table)
    schema = day_schema(lake, feature_schema(fields, table.key), days, table.name)
    check_catalog(lake, needs)
    staged, written = {}, now()
    for run in _runs(days):
        inputs = published_inputs(lake, {day: feature_needs(dataset, day, table) for day in run})
        inputs = {day: {FEATURES: meanings} | of_day for day, of_day in inputs.items()}
        needed = _needed(dataset, run)
        state = state_schema(table, dataset, {name for name, _ in needs})
        refresh_state(table, dataset, lake, state, needed)
        with DayFiles(folder, run, schema, inputs) as files:
            for ids in id_ranges(table, lake, needed, len(run)):
                with open_engine(engine_name()) as engine:
                    windows = _windows(engine, table, dataset, lake, needs, run, ids)
                    fresh = _features(table, dataset, fields, windows, written)
                    fresh = _with_published(
                        engine, table, lake, fields, schema, fresh, run, written, ids
                    )
                    files.write(stream(engine, fresh, ["day", table.key, "created"]))
        staged |= files.paths
    return staged


def feature_needs(
    dataset: Dataset, day: dt.date, table: FeatureTable = BEHAVIOR
) -> dict[str, list[dt.date]]:
    """The days of each table that a day of features is computed from."""
    return dict.fromkeys(table.sources, _needed(dataset, [day]))


def _needed(dataset: Dataset, days: list[dt.date]) -> list[dt.date]:
    """The days that the windows see which end with each of consecutive days, and one before."""
    return days_between(days[0] - dt.timedelta(days=window_days(dataset)[-1]), days[-1])


def _runs(days: list[dt.date]) -> list[list[dt.date]]:
    """Cuts sorted days into runs of consecutive ones."""
    runs: list[list[dt.date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == dt.timedelta(days=1) and len(runs[-1]) < MOST_DAYS:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def _needs(fields: list[FeatureField]) -> frozenset[Measure]:
    return frozenset[Measure]().union(*(field.term.needs for field in fields))


def _windows(
    engine: "Backend",
    table: FeatureTable,
    dataset: Dataset,
    lake: Lake,
    needs: frozenset[Measure],
    days: list[dt.date],
    ids: Ids,
) -> "ir.Table":
    """Makes the windows of some users, or items, that end with each of the days."""
    span = Span(day_number(days[0]), day_number(days[-1]), window_days(dataset)[-1])
    state = state_schema(table, dataset, {name for name, _ in needs})
    folds = {name: column.fold for name, column in table.state_columns(dataset).items()}
    activity = read_days(engine, lake, table.state, state, _needed(dataset, days))
    activity = with_number(activity).drop("day").rename(entity_id=table.key)
    activity = in_range(activity, ids)
    categorize = partial(with_category, engine, dataset, lake)
    events = events_of(engine, lake, table, span, ids) if asks_for_pairs(needs) else None
    if span.is_day:
        others = None
        if events is not None:
            others = distinct_of_day(events, needs, span.last, categorize)
        pauses = pauses_of_day(activity, needs, span.last)
        found = [part for part in (others, pauses) if part is not None]
        rows = windows_of_day(activity, found, needs, folds, span)
    else:
        pairs = pairs_of(events, needs) if events is not None else None
        if pairs is not None and needs_categories(needs):
            pairs = keep(engine, "pairs", categorize(pairs))
            activity = with_categories(activity, pairs, needs)
        activity = keep(engine, "activity", activity)
        changes = changes_of(activity, pairs, needs, span)
        changes = keep(engine, "changes", changes) if changes is not None else None
        rows = windows_of_range(activity, changes, needs, folds, span)
    clock = with_number(register(engine, "clock", calendar(days, dataset.timezone)))
    # Kept, so that the formulas of features are over plain columns: engines plan them in no time.
    return keep(engine, "windows", rows.join(clock, "n"))


def _features(
    table: FeatureTable,
    dataset: Dataset,
    fields: list[FeatureField],
    rows: "ir.Table",
    written: dt.datetime,
) -> "ir.Table":
    """Turns windows into features and clocks, as if each row was built in time."""
    import ibis

    return rows.select(
        "day",
        **{table.key: rows.entity_id},
        event_timestamp=rows.ends,
        created=rows.ends + ibis.interval(minutes=dataset.features.delay_minutes),
        written_at=ibis.literal(written, "timestamp('UTC', 6)"),
        **{field.name: field.term.formula(rows).cast(field.kind) for field in fields},
    )


def _with_published(
    engine: "Backend",
    table: FeatureTable,
    lake: Lake,
    fields: list[FeatureField],
    schema: pa.Schema,
    fresh: "ir.Table",
    days: list[dt.date],
    written: dt.datetime,
    ids: Ids,
) -> "ir.Table":
    """The rows that the days' objects shall hold: with what they hold already."""
    import ibis

    known = [day for day in days if lake.existing(table.name, [day])]
    if not known:
        return with_columns(fresh, ibis.Schema.from_pyarrow(schema))
    published = read_by_name(engine, lake.existing(table.name, known), schema)
    published = in_range(published, ids, table.key)
    nothing = {field.name: field.of_nothing for field in fields}
    fresh = keep(engine, "fresh", fresh)
    added = add_revisions(fresh, published, known, written, key=table.key)
    return added.union(rows_of_nothing(fresh, published, nothing, written, table.key))
