"""What each user did on each day, and each item saw: the state that windows of features slide over.

In:  the published events and sessions of a day. Out: for each table of features its state, such as
`user_daily_activity`: one object a day with one row a user, or item: counts, sums, maxima and last
instants. It is some ten times smaller than the events, so that a day's features need not read the
events of all its windows again.

It is a cache, not an asset: an object says in its footer which events and sessions it was made of
(their stamps), and is made anew where these are others now, or where it lacks a column that some
feature needs. So a late rebuild, a killed run or a changed YAML needs no rule of its own, and
removing the folder does no harm. What depends on the catalog is not in it: the catalog changes
every day, and the days before it do not.

Which columns there are, and what each is made of, its table says (`tables.py`).
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa

from contracts.base.batches import chunks
from contracts.base.clock import day_window
from contracts.config.dataset import Dataset
from contracts.lake.engine import engine_name
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, side_by_side
from contracts.lake.reading import read_metadata, stamps
from contracts.lake.schemas import EVENTS, SESSIONS, TIMESTAMP
from features.behavior.measures import (
    EXACT,
    PAUSE_COLUMNS,
    PAUSES,
    WHOLE,
    StateColumn,
)
from features.behavior.tables import FeatureTable
from features.daily import open_engine, read_days, register, row_count, stream, write_days
from features.provenance import Inputs, footer

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

# Events that one query sees: days are independent, so more of them is no more memory.
CHUNK_EVENTS = 20_000_000

EPOCH = dt.date(1970, 1, 1)


def day_number(day: dt.date) -> int:
    """A day's integer: days since 1970."""
    return (day - EPOCH).days


def with_number(rows: "ir.Table") -> "ir.Table":
    """Adds the integer `n` of each row's `day`."""
    import ibis

    return rows.mutate(n=rows.day.delta(ibis.literal(EPOCH), unit="day"))


def keyed(events: "ir.Table", table: FeatureTable) -> "ir.Table":
    """Events with the user or item that they are of as `entity_id`; without those of none."""
    return events.filter(events[table.key].notnull()).mutate(entity_id=events[table.key])


def state_schema(table: FeatureTable, dataset: Dataset, measures: Iterable[str]) -> pa.Schema:
    """The columns of the state that these measures need, in a fixed order."""
    wanted = set(measures) | {"active_days" if "events" in table.sources else "sessions"}
    if wanted & set(PAUSES):
        wanted |= set(PAUSE_COLUMNS)
    columns = table.state_columns(dataset).items()
    kept = [pa.field(name, column.kind) for name, column in columns if name in wanted]
    return pa.schema([pa.field(table.key, pa.string(), nullable=False), *kept])


def refresh_state(
    table: FeatureTable, dataset: Dataset, lake: Lake, schema: pa.Schema, days: list[dt.date]
) -> None:
    """Publishes the state of those of the days that have none, or one of other inputs.

    Days without events and sessions have none.
    """
    known = {source: stamps(lake.table(source)) for source in table.sources}
    inputs: dict[dt.date, Inputs] = {}
    for day in days:
        name = lake.day(table.state, day).name
        found = {source: known[source].get(name) for source in table.sources}
        if any(found.values()):
            inputs[day] = {s: {str(day): stamp} for s, stamp in found.items() if stamp}
    published = set(lake.days(table.state))
    due = [
        day
        for day in sorted(inputs)
        if day not in published or not _is_fresh(lake.day(table.state, day), schema, inputs[day])
    ]
    for chunk in chunks(((day, row_count(lake, "events", day)) for day in due), CHUNK_EVENTS):
        with open_engine(engine_name()) as engine, lake.staging() as folder:
            state = _state_of(engine, table, dataset, lake, schema, chunk)
            rows = stream(engine, state, ["day", table.key])
            staged = write_days(rows, schema, folder, chunk, inputs).values()
            target = lake.table(table.state)
            side_by_side(lambda path, target=target: publish_file(path, target / path.name), staged)


def _is_fresh(path: Path, schema: pa.Schema, inputs: Inputs) -> bool:
    """Whether a published day was made of these inputs, and has just these columns."""
    found = read_metadata(path)
    metadata = found.metadata or {}
    same = all(metadata.get(key) == value for key, value in footer(inputs).items())
    return same and found.schema.to_arrow_schema().names == schema.names


def _state_of(
    engine: "Backend",
    table: FeatureTable,
    dataset: Dataset,
    lake: Lake,
    schema: pa.Schema,
    days: list[dt.date],
) -> "ir.Table":
    """One row a user, or item, and day with an event or a closing session."""
    import ibis

    names = set(schema.names)
    sessions = table.sessions(read_days(engine, lake, "sessions", SESSIONS, days), names)
    rows = _of_day(sessions, table.session_columns(dataset), names)
    if "events" in table.sources:
        events = keyed(with_number(read_days(engine, lake, "events", EVENTS, days)), table)
        if any(name.startswith("hour_") for name in names):
            clock = register(engine, "hours_clock", hours_clock(days, dataset.timezone))
            events = with_hour(events, clock)
        of_events = _of_day(_with_values(events), table.event_columns(dataset), names)
        rows = of_events.outer_join(rows, ["day", "entity_id"])
        rows = rows.mutate(
            day=ibis.coalesce(rows.day, rows.day_right),
            entity_id=ibis.coalesce(rows.entity_id, rows.entity_id_right),
        )
    columns = {}
    for name, column in table.state_columns(dataset).items():
        if name in names:
            value = rows[name].fill_null(0) if column.fold == "sum" else rows[name]
            columns[name] = value.cast(KINDS[column.kind])
    return rows.select("day", **{table.key: rows.entity_id}, **columns)


KINDS = {
    WHOLE: "int64",
    EXACT: "decimal(38, 6)",
    pa.float64(): "float64",
    pa.string(): "string",
    TIMESTAMP: "timestamp('UTC', 6)",
}


def _of_day(rows: "ir.Table", columns: dict[str, StateColumn], names: set[str]) -> "ir.Table":
    """Sums up each day's rows of a user, or item, to those of the columns that are named."""
    made = {name: column.of for name, column in columns.items() if name in names}
    return rows.group_by("day", "entity_id").agg(**(made or {"rows": rows.count()}))


def _with_values(events: "ir.Table") -> "ir.Table":
    value = events.value.try_cast("decimal(18, 6)")  # exact; what does not fit counts as nothing
    number = value.cast("float64")
    square = (number * number).try_cast("decimal(38, 6)")
    return events.mutate(exact=value, number=number, square=square)


def with_hour(events: "ir.Table", clock: "ir.Table") -> "ir.Table":
    """Adds the local hour of each event, by the clock of its day."""
    rows = events.join(clock, "day")
    shifted = (rows.timestamp >= rows.shift_at).fill_null(False).ifelse(rows.shift_seconds, 0)
    since = rows.timestamp.delta(rows.starts, unit="microsecond") // 1_000_000
    hour = ((since + rows.start_seconds + shifted) // 3600) % 24
    return rows.mutate(hour=hour).drop("starts", "start_seconds", "shift_at", "shift_seconds")


def hours_clock(days: list[dt.date], timezone: str) -> pa.Table:
    """What tells local hours from instants, by integers alone: one row a day.

    Columns: day; starts, the instant of its midnight; start_seconds, what a clock on the wall
    shows then (not 0 where the clocks change at midnight); shift_at and shift_seconds: when the
    clocks change within the day, if they do, and by how much.
    """
    zone, rows = ZoneInfo(timezone), []
    for day in days:
        starts, ends = day_window(day, timezone)
        wall = starts.astimezone(zone)
        shift_at, shift = None, 0
        if (before := wall.utcoffset()) != (ends - MINUTE).astimezone(zone).utcoffset():
            low, high = 0, int((ends - starts) / MINUTE) - 1
            while high - low > 1:
                middle = (low + high) // 2
                changed = (starts + middle * MINUTE).astimezone(zone).utcoffset() != before
                low, high = (low, middle) if changed else (middle, high)
            shift_at = starts + high * MINUTE
            after = shift_at.astimezone(zone).utcoffset() or dt.timedelta()
            shift = int((after - (before or dt.timedelta())).total_seconds())
        rows.append((day, starts, wall.hour * 3600 + wall.minute * 60, shift_at, shift))
    names = ("day", "starts", "start_seconds", "shift_at", "shift_seconds")
    kinds = (pa.date32(), TIMESTAMP, WHOLE, TIMESTAMP, WHOLE)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table({n: pa.array(c, k) for n, k, c in zip(names, kinds, columns, strict=True)})


MINUTE = dt.timedelta(minutes=1)
